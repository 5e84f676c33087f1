/** Bounds on what strangers do: how many there are at once of each, and how much each does in a while. */

/** At most so many at once of each key. */
export class Tally {
  readonly max: number;
  private readonly counts = new Map<string, number>();

  constructor(max: number) {
    this.max = max;
  }

  /** Gives what undoes it, to be called once; or undefined where there are too many already. */
  take(key: string): (() => void) | undefined {
    const count = this.counts.get(key) ?? 0;
    if (count >= this.max) return undefined;
    this.counts.set(key, count + 1);
    return () => this.release(key);
  }

  private release(key: string): void {
    const left = this.counts.get(key)! - 1;
    if (left === 0) this.counts.delete(key);
    else this.counts.set(key, left);
  }
}

/** At most `perSecond` in the long run, and `burst` at once. https://en.wikipedia.org/wiki/Token_bucket */
export class Rate {
  private readonly perSecond: number;
  private readonly burst: number;
  private left: number;
  private at: number | undefined;

  constructor(perSecond: number, burst: number) {
    this.perSecond = perSecond;
    this.burst = this.left = burst;
  }

  take(nowMs: number, cost = 1): boolean {
    const passedMs = nowMs - (this.at ?? nowMs);
    this.at = nowMs;
    this.left = Math.min(this.burst, this.left + (passedMs * this.perSecond) / 1000);
    if (this.left < cost) return false;
    this.left -= cost;
    return true;
  }
}
