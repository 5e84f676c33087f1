/** A shape that the host keeps, as a page sees it. */
import { errorFromJson, type ShapeRequest, type WalcastError } from "../../engine/protocol.ts";
import type { ShapeDescription } from "../description.ts";
import { Listeners } from "../listeners.ts";
import type { Shape, ShapeEvents, ShapeOptions, ShapeProgress, ShapeStatus } from "../shape.ts";
import type { Handle } from "./link.ts";
import type { ShapeEvent } from "./messages.ts";
import { Readiness } from "./readiness.ts";

export interface GuestShapeHooks {
  leave(): Promise<void>;
  describe(): Promise<ShapeDescription>;
}

export class GuestShape implements Shape, Handle<ShapeEvent> {
  readonly request: ShapeRequest;
  status: ShapeStatus = "loading";
  progress: ShapeProgress = { rows: 0, bytes: 0, estimatedRows: 0 };
  error: WalcastError | undefined;
  private readonly isReady = new Readiness<void>();
  private readonly statusListeners = new Listeners<[ShapeStatus]>();
  private readonly progressListeners = new Listeners<[ShapeProgress]>();
  private readonly hooks: GuestShapeHooks;
  private hasBeenReady = false;

  constructor({ indexes: _indexes, ttl: _ttl, ...request }: ShapeOptions, hooks: GuestShapeHooks) {
    this.request = request;
    this.hooks = hooks;
  }

  get ready(): Promise<void> {
    return this.isReady.promise;
  }

  on<Event extends keyof ShapeEvents>(event: Event, listener: ShapeEvents[Event]): () => void {
    return event === "status"
      ? this.statusListeners.add(listener as ShapeEvents["status"])
      : this.progressListeners.add(listener as ShapeEvents["progress"]);
  }

  async describe(): Promise<ShapeDescription> {
    await this.ready;
    return this.hooks.describe();
  }

  unsubscribe(): Promise<void> {
    return this.hooks.leave();
  }

  /** It will never be ready. */
  abandon(error: WalcastError): void {
    this.isReady.reject(error);
    this.statusListeners.clear();
    this.progressListeners.clear();
  }

  apply({ status, progress, error }: ShapeEvent): () => void {
    const before = { status: this.status, progress: this.progress };
    this.status = this.nextStatus(status);
    if (!isSame(progress, before.progress)) this.progress = progress;
    this.error = error && errorFromJson(error);
    if (this.status === "ready") {
      this.hasBeenReady = true;
      this.isReady.resolve();
    }
    if (this.error) this.isReady.reject(this.error);
    return () => {
      if (this.progress !== before.progress) this.progressListeners.emit(this.progress);
      if (this.status !== before.status) this.statusListeners.emit(this.status);
    };
  }

  failed(error: WalcastError): () => void {
    return this.apply({ status: "error", progress: this.progress, error: error.toJSON() });
  }

  again(): undefined {
    this.isReady.begin();
  }

  /** What is loading for the next host was there for the last one. */
  private nextStatus(status: ShapeStatus): ShapeStatus {
    return status === "loading" && this.hasBeenReady ? "resyncing" : status;
  }
}

function isSame(a: ShapeProgress, b: ShapeProgress): boolean {
  return a.rows === b.rows && a.bytes === b.bytes && a.estimatedRows === b.estimatedRows;
}
