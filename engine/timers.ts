/** What is done again and again. A run that takes longer than its interval is not joined by a second one, and one that fails is tried again. */
import type { Logger } from "pino";

export class Timers {
  private readonly log: Logger;
  private readonly timers: NodeJS.Timeout[] = [];
  private stopped = false;

  constructor(log: Logger) {
    this.log = log;
  }

  every(ms: number, run: () => void | Promise<void>): void {
    let running = false;
    const tick = async (): Promise<void> => {
      if (running) return;
      running = true;
      try {
        await run();
      } catch (error) {
        if (!this.stopped) this.log.warn({ err: error }, "a periodic task failed; it is tried again");
      } finally {
        running = false;
      }
    };
    this.timers.push(setInterval(() => void tick(), ms));
  }

  /** Runs under way end by themselves. */
  stop(): void {
    this.stopped = true;
    for (const timer of this.timers) clearInterval(timer);
  }
}
