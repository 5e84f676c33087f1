/**
 * What has to happen within a time that is the same for all. There is one timer, for whoever has waited longest: with one each, making and
 * clearing them is a good part of what it takes to let somebody in.
 */
export class Deadlines {
  private readonly ms: number;
  /** When each ends, in milliseconds as `performance` counts them: the first to end comes first. */
  private readonly endings = new Map<() => void, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(ms: number) {
    this.ms = ms;
  }

  /** `late` is called unless it is cleared in time. */
  set(late: () => void): void {
    this.endings.delete(late);
    this.endings.set(late, performance.now() + this.ms);
    this.timer ??= this.wait(this.ms);
  }

  /** The timer stays: whoever comes and goes, it is made once in that time. */
  clear(late: () => void): void {
    this.endings.delete(late);
  }

  private wait(ms: number): NodeJS.Timeout {
    // It keeps no process alive.
    return setTimeout(() => this.end(), Math.ceil(ms)).unref();
  }

  private end(): void {
    this.timer = undefined;
    const now = performance.now();
    for (const [late, at] of this.endings) {
      if (at > now) return void (this.timer ??= this.wait(at - now));
      this.endings.delete(late);
      late();
    }
  }
}
