/**
 * When what has changed is stored: after a moment of quiet, or after a while where there is none; one time after the
 * other, and never for more than a part of the time. What fails is tried again, less and less often.
 */

export interface FlusherHooks {
  /** Everything until now. */
  store(): Promise<void>;
  stored(): void;
  failed(error: unknown): void;
}

const QUIET_MS = 50;
const CHANGED_MS_MAX = 1000;
// The thread that stores is the one that applies and answers.
const REST_FACTOR = 4;
const RETRY_MS = 1000;
const RETRY_MS_MAX = 30_000;

export class Flusher {
  private readonly hooks: FlusherHooks;
  /** Since when something has changed that was not yet being stored. */
  private changedMs: number | undefined;
  private notBeforeMs = 0;
  private failures = 0;
  private underWay: Promise<void> | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private isClosed = false;

  constructor(hooks: FlusherHooks) {
    this.hooks = hooks;
  }

  changed(): void {
    this.changedMs ??= performance.now();
    this.schedule();
  }

  /** Resolves when everything until now is stored; rejects where it cannot be. */
  async flush(): Promise<void> {
    await this.underWay?.catch(() => {});
    if (this.changedMs !== undefined) await this.run();
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.timer);
  }

  private schedule(): void {
    clearTimeout(this.timer);
    if (this.underWay || this.changedMs === undefined || this.isClosed) return;
    const now = performance.now();
    const dueMs = Math.min(now + QUIET_MS, this.changedMs + CHANGED_MS_MAX);
    this.timer = setTimeout(() => void this.run().catch(() => {}), Math.max(dueMs, this.notBeforeMs) - now);
  }

  /** Two that wait for the same one to end share the next. */
  private run(): Promise<void> {
    this.underWay ??= this.store().finally(() => {
      this.underWay = undefined;
      this.schedule();
    });
    return this.underWay;
  }

  private async store(): Promise<void> {
    clearTimeout(this.timer);
    const start = performance.now();
    const changedMs = this.changedMs;
    this.changedMs = undefined;
    try {
      await this.hooks.store();
      this.failures = 0;
      this.notBeforeMs = performance.now() + REST_FACTOR * (performance.now() - start);
      this.hooks.stored();
    } catch (error) {
      this.changedMs ??= changedMs ?? start;
      this.notBeforeMs = performance.now() + Math.min(RETRY_MS * 2 ** this.failures++, RETRY_MS_MAX);
      this.hooks.failed(error);
      throw error;
    }
  }
}
