/**
 * Iterating over something that changes: what it is now, and then again whenever it has become another. Whoever is slow to
 * ask is given the newest, and nothing waits for it.
 */
import { setTimeout as delay } from "node:timers/promises";

/** Gives the state there is at the moment, or undefined where it is still what it was. */
export type Take<T> = () => T | undefined | Promise<T | undefined>;

/** Calls `changed` whenever there is something to take. Ends at the signal, or throws. */
export type Follow<T> = (changed: (take: Take<T>) => void, signal: AbortSignal) => Promise<void>;

export interface StatesOptions {
  /** Ends the iteration, as `break` does. */
  readonly signal?: AbortSignal | undefined;
  /** States are at least this far apart; what lies between two is skipped, and the last always comes. Default 0. */
  readonly coalesceMs?: number | undefined;
}

/** Nothing is followed before somebody iterates, and each who does follows by itself. */
export function states<T>(follow: Follow<T>, options: StatesOptions): AsyncIterable<T> {
  return { [Symbol.asyncIterator]: () => new Iteration(follow, options) };
}

class Iteration<T> implements AsyncIterator<T, undefined> {
  private readonly follow: Follow<T>;
  private readonly coalesceMs: number;
  private readonly leaving = new AbortController();
  private readonly given: AbortSignal | undefined;
  private running: Promise<void> | undefined;
  private take: Take<T> | undefined;
  private failure: { readonly error: unknown } | undefined;
  private wake: () => void = () => {};
  /** One after another, whoever asks before the last one is answered. */
  private last: Promise<unknown> = Promise.resolve();
  private tookAt = -Infinity;

  constructor(follow: Follow<T>, { signal, coalesceMs = 0 }: StatesOptions) {
    this.follow = follow;
    this.coalesceMs = coalesceMs;
    this.given = signal;
    if (signal?.aborted) this.leaving.abort();
    else signal?.addEventListener("abort", this.leave, { once: true });
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const next = this.last.then(() => this.advance());
    this.last = next.catch(() => {});
    return next;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.leave();
    return Promise.resolve(over);
  }

  private readonly leave = (): void => {
    this.given?.removeEventListener("abort", this.leave);
    this.leaving.abort();
    this.wake();
  };

  private get isOver(): boolean {
    return this.leaving.signal.aborted;
  }

  private async advance(): Promise<IteratorResult<T, undefined>> {
    if (!this.isOver) this.running ??= this.run();
    while (!this.isOver) {
      await (this.take ? this.pause() : this.woken());
      const value = this.isOver || !this.isDue ? undefined : await this.taken();
      if (value !== undefined && !this.isOver) return { done: false, value };
    }
    return this.end();
  }

  private async taken(): Promise<T | undefined> {
    const { take } = this;
    this.take = undefined;
    try {
      const value = await take?.();
      if (value !== undefined) this.tookAt = performance.now();
      return value;
    } catch (error) {
      this.fail(error);
      return undefined;
    }
  }

  private woken(): Promise<void> {
    return new Promise((resolve) => (this.wake = resolve));
  }

  private get isDue(): boolean {
    return this.take !== undefined && performance.now() >= this.tookAt + this.coalesceMs;
  }

  private async pause(): Promise<void> {
    const ms = this.tookAt + this.coalesceMs - performance.now();
    if (ms > 0) await delay(Math.ceil(ms), undefined, { signal: this.leaving.signal }).catch(() => {});
  }

  private end(): IteratorResult<T, undefined> {
    const { failure } = this;
    this.failure = undefined;
    if (failure) throw failure.error;
    return over;
  }

  private async run(): Promise<void> {
    try {
      await this.follow((take) => {
        this.take = take;
        this.wake();
      }, this.leaving.signal);
    } catch (error) {
      this.fail(error);
    }
    this.leave();
  }

  private fail(error: unknown): void {
    if (!this.isOver) this.failure = { error };
    this.leave();
  }
}

const over: IteratorResult<never, undefined> = { done: true, value: undefined };
