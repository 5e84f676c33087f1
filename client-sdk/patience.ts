/** Trying again what failed: after the waits of a connection, at once when there is a reason, and not after the end. */
import { type Backoff, delayMs } from "./backoff.ts";

export class Patience {
  private readonly backoff: Backoff;
  private attempt = 0;
  private go: (() => void) | undefined;
  private isClosed = false;
  private readonly ended = Promise.withResolvers<never>();

  constructor(backoff: Backoff) {
    this.backoff = backoff;
    this.ended.promise.catch(() => {});
  }

  get isWaiting(): boolean {
    return this.go !== undefined;
  }

  /** Rejects when it takes too long, and at the end. */
  async within<T>(ms: number, work: Promise<T> | undefined): Promise<T | undefined> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error(`no answer within ${ms} ms`)), ms);
    try {
      return await Promise.race([work, late.promise, this.ended.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async wait(): Promise<void> {
    if (this.isClosed) return;
    const delay = delayMs({ attempt: this.attempt++, slow: false }, this.backoff, Math.random());
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.go = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.go = undefined;
  }

  wake(): void {
    this.go?.();
  }

  close(): void {
    this.isClosed = true;
    this.ended.reject(new Error("it is over"));
    this.wake();
  }
}
