/**
 * Numbers that look random and are the same on every machine for the same seed: what makes the seeded shop reproducible.
 * The generator is mulberry32, 32 bits of state, which is plenty for sample data and nothing else.
 */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** From 0, below 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `low` to `high`, both possible. */
  whole(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  /** True `share` of the time. */
  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.whole(0, choices.length - 1)]!;
  }

  /** Low positions of a list more often than high ones: a few bestsellers, a long tail. */
  skewed(length: number): number {
    return Math.floor(this.next() ** 2 * length);
  }

  /** How long until something that happens every `mean` on average. */
  wait(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }
}
