/** Chance that can be had again: the same seed gives the same choices. What is printed when a test fails is the seed. */
export class Random {
  readonly seed: number;
  private state: number;

  /** WALCAST_SEED runs one seed again. */
  static fromEnvironment(): Random {
    return new Random(Number(process.env.WALCAST_SEED ?? Math.floor(Math.random() * 2 ** 31)));
  }

  constructor(seed: number) {
    this.seed = seed;
    this.state = seed;
  }

  /** From 0 up to, not including, 1. This is mulberry32. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Chance of its own, so that what one part does with it leaves the others' alone. */
  fork(): Random {
    return new Random(this.integer(0, 2 ** 31));
  }

  /** Both ends included. */
  integer(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  shuffled<T>(items: readonly T[]): T[] {
    const places = items.map((item) => ({ item, place: this.next() }));
    return places.toSorted((a, b) => a.place - b.place).map(({ item }) => item);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)]!;
  }
}
