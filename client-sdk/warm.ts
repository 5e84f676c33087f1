/**
 * Shapes that were unsubscribed and have a `ttl`: they stay as they are for that long. Who asks for the same meanwhile takes
 * them over, complete and current; afterwards they leave like any other.
 */
import { WalcastError } from "../engine/protocol.ts";
import { Deferred } from "./listeners.ts";
import type { ShapeDescription } from "./description.ts";
import type { Shape, ShapeEvents, ShapeHandle, ShapeProgress, ShapeStatus } from "./shape.ts";

// The longest that a timer waits; more would be no wait at all. https://developer.mozilla.org/docs/Web/API/Window/setTimeout
const TIMER_MS_MAX = 2 ** 31 - 1;

export class WarmShapes {
  private readonly leave: (shape: ShapeHandle) => Promise<void>;
  private readonly kept = new Map<string, { readonly shape: ShapeHandle; readonly timer: NodeJS.Timeout | number }>();

  constructor(leave: (shape: ShapeHandle) => Promise<void>) {
    this.leave = leave;
  }

  /** One is enough: a second one that asks for the same leaves at once, and so does one that has failed. */
  async keep(shape: ShapeHandle, ttlMs: number): Promise<void> {
    const { keptAs } = shape;
    if (ttlMs === 0 || shape.status === "error" || this.kept.has(keptAs)) return this.leave(shape);
    const timer = setTimeout(() => this.expire(keptAs), Math.min(ttlMs, TIMER_MS_MAX));
    this.kept.set(keptAs, { shape, timer });
  }

  take(keptAs: string): ShapeHandle | undefined {
    const { shape } = this.remove(keptAs) ?? {};
    if (shape?.status !== "error") return shape;
    this.leaveQuietly(shape);
    return undefined;
  }

  close(): void {
    for (const keptAs of [...this.kept.keys()]) this.remove(keptAs);
  }

  private expire(keptAs: string): void {
    const { shape } = this.remove(keptAs)!;
    this.leaveQuietly(shape);
  }

  /** Nobody waits for it: where its rows could not go, the replica itself has failed, and others say so. */
  private leaveQuietly(shape: ShapeHandle): void {
    this.leave(shape).catch(() => {});
  }

  private remove(keptAs: string): { readonly shape: ShapeHandle } | undefined {
    const found = this.kept.get(keptAs);
    clearTimeout(found?.timer);
    this.kept.delete(keptAs);
    return found;
  }
}

/** What one `sync` of a shape that may outlast it gets: unsubscribed, it tells nothing more, whoever takes the shape over. */
export class ShapeLease implements Shape {
  private readonly shape: ShapeHandle;
  private readonly release: () => Promise<void>;
  private readonly isReady = new Deferred<void>();
  private readonly stops = new Set<() => void>();
  private released: Promise<void> | undefined;

  constructor(shape: ShapeHandle, release: () => Promise<void>) {
    this.shape = shape;
    this.release = release;
    shape.ready.then(this.isReady.resolve, this.isReady.reject);
  }

  get request(): Shape["request"] {
    return this.shape.request;
  }

  get status(): ShapeStatus {
    return this.shape.status;
  }

  get progress(): ShapeProgress {
    return this.shape.progress;
  }

  get error(): WalcastError | undefined {
    return this.shape.error;
  }

  get ready(): Promise<void> {
    return this.isReady.promise;
  }

  on<Event extends keyof ShapeEvents>(event: Event, listener: ShapeEvents[Event]): () => void {
    const remove = this.shape.on(event, listener);
    const stop = (): void => {
      remove();
      this.stops.delete(stop);
    };
    this.stops.add(stop);
    return stop;
  }

  describe(): Promise<ShapeDescription> {
    return this.shape.describe();
  }

  unsubscribe(): Promise<void> {
    this.released ??= this.end();
    return this.released;
  }

  private end(): Promise<void> {
    for (const stop of [...this.stops]) stop();
    this.isReady.reject(new WalcastError("closed", "wait for a shape: it was unsubscribed"));
    return this.release();
  }
}
