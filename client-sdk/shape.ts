/**
 * The handle of a shape: what an application sees of a part of a table that is kept on the replica. The lanes tell it
 * what happens; it tells whoever listens.
 */
import { type Lsn, type ShapeRequest, type TableDescription, WalcastError } from "../engine/protocol.ts";
import type { ShapeDescription } from "./description.ts";
import type { Subscriber } from "./subscriber.ts";
import { Deferred, Listeners } from "./listeners.ts";
import type { Member } from "./local-tables.ts";
import { parseTableName, qualified, requestKey } from "./table-name.ts";

/** What to keep on the replica. `table` and `where` as in SQL, `$1`… in `where` are `params`. */
export interface ShapeOptions extends ShapeRequest {
  /** Indexes to make on the replica, each as between the parentheses of CREATE INDEX: `["status, created_at DESC"]`. */
  readonly indexes?: readonly string[];
  /**
   * Milliseconds for which the shape stays warm after `unsubscribe`: it is kept current, and who asks for the same again has it
   * at once. Then its rows leave. Default 0.
   */
  readonly ttl?: number;
}

/**
 * - `loading`: its first rows are on their way; the local table is there as soon as it is described, and empty.
 * - `ready`: complete, and at `client.position` with all other ready shapes; stays so while the client is offline.
 * - `resyncing`: readable, but as of an earlier position; fresh rows are on their way and will replace them at once. Empty
 *   where what this client may read has changed.
 * - `error`: the server or the replica refused it; see `error`. Nothing more will come.
 */
export type ShapeStatus = "loading" | "ready" | "resyncing" | "error";

export interface ShapeProgress {
  /** Rows and bytes of the first load that have arrived. */
  readonly rows: number;
  readonly bytes: number;
  /** From the server's statistics: good enough for a progress bar, and 0 when it knows nothing. */
  readonly estimatedRows: number;
}

export interface ShapeEvents {
  progress: (progress: ShapeProgress) => void;
  status: (status: ShapeStatus) => void;
}

export interface Shape {
  readonly request: ShapeRequest;
  readonly status: ShapeStatus;
  readonly progress: ShapeProgress;
  /** Why the status is `error`. */
  readonly error: WalcastError | undefined;
  /** Resolves when the rows are complete for the first time; rejects with the shape's error, or `closed`. */
  readonly ready: Promise<void>;
  /** Returns what removes the listener. */
  on<Event extends keyof ShapeEvents>(event: Event, listener: ShapeEvents[Event]): () => void;
  /** The local table beside the server's, as soon as the shape is ready; rejects as `ready` does. */
  describe(): Promise<ShapeDescription>;
  /**
   * Resolves when its rows have left the replica, in one transaction; rows that another shape holds as well stay. With a `ttl` it
   * resolves at once, and they leave later. Rejects with `closed` where the client is closed before; does nothing afterwards.
   */
  unsubscribe(): Promise<void>;
}

export interface ShapeHooks {
  leave(shape: ShapeHandle): Promise<void>;
  describe(shape: ShapeHandle): Promise<ShapeDescription>;
  /** What ready shapes show. */
  position(): Lsn;
}

export class ShapeHandle implements Shape, Subscriber {
  readonly request: ShapeRequest;
  readonly member: Member;
  readonly changes = false;
  readonly tableName: string;
  /** Equal for shapes that can stand in for each other. */
  readonly keptAs: string;
  /** What its rows are true at while it is not ready, if it was. */
  leftOffAt: Lsn | undefined;
  private currentStatus: ShapeStatus = "loading";
  private currentProgress: ShapeProgress = { rows: 0, bytes: 0, estimatedRows: 0 };
  private failure: WalcastError | undefined;
  private readonly isReady = new Deferred<void>();
  private readonly statusListeners = new Listeners<[ShapeStatus]>();
  private readonly progressListeners = new Listeners<[ShapeProgress]>();
  private readonly hooks: ShapeHooks;

  constructor(options: ShapeOptions, hooks: ShapeHooks) {
    const { indexes = [], ttl: _, ...request } = options;
    this.request = request;
    this.tableName = qualified(parseTableName(request.table));
    this.member = { number: undefined, access: undefined, request: requestKey(request), isOver: false, indexes };
    this.keptAs = keptAs(options);
    this.hooks = hooks;
  }

  get status(): ShapeStatus {
    return this.currentStatus;
  }

  get progress(): ShapeProgress {
    return this.currentProgress;
  }

  get error(): WalcastError | undefined {
    return this.failure;
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
    return this.hooks.describe(this);
  }

  unsubscribe(): Promise<void> {
    return this.hooks.leave(this);
  }

  /** It will never be ready. */
  abandon(error: WalcastError): void {
    this.isReady.reject(error);
    this.statusListeners.clear();
    this.progressListeners.clear();
  }

  loading(): void {
    this.setStatus(this.currentStatus === "loading" ? "loading" : "resyncing");
  }

  restored(isCurrent: boolean): void {
    if (isCurrent) this.joined();
    else this.setStatus("resyncing");
  }

  altered(): () => void {
    return () => {};
  }

  described(_table: TableDescription, estimatedRows: number): void {
    this.setProgress({ rows: 0, bytes: 0, estimatedRows });
  }

  progressed(rows: number, bytes: number): void {
    this.setProgress({ ...this.currentProgress, rows, bytes });
  }

  joined(): void {
    this.setStatus("ready");
    this.isReady.resolve();
  }

  committed(): void {}

  failed(error: WalcastError): void {
    this.failure = error;
    this.setStatus("error");
    this.isReady.reject(error);
  }

  private setStatus(status: ShapeStatus): void {
    if (this.currentStatus === status) return;
    if (this.currentStatus === "ready") this.leftOffAt = this.hooks.position();
    this.currentStatus = status;
    this.statusListeners.emit(status);
  }

  private setProgress(progress: ShapeProgress): void {
    this.currentProgress = progress;
    this.progressListeners.emit(progress);
  }
}

export function keptAs(options: ShapeOptions): string {
  return JSON.stringify([requestKey(options), options.indexes ?? []]);
}

/** Throws `config_invalid`. */
export function ttlOf({ table, ttl = 0 }: ShapeOptions): number {
  if (ttl >= 0) return ttl;
  throw new WalcastError(
    "config_invalid",
    `sync ${table}: expected a ttl in milliseconds from 0, found ${String(ttl)}`,
  );
}
