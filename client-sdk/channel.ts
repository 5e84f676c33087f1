/**
 * Events instead of state: every change of a part of a table, commit by commit, from now on. Nothing is kept.
 */
import { type Commit, type ShapeRequest, type TableDescription, WalcastError } from "../engine/protocol.ts";
import type { EventReader } from "./event-reader.ts";
import type { Row } from "./row.ts";
import type { ListenerHooks, MakeReader, Subscriber } from "./subscriber.ts";
import { ChangeListeners } from "./change-listeners.ts";
import { Deferred } from "./listeners.ts";
import type { Member } from "./local-tables.ts";

export type ChangeType = "INSERT" | "UPDATE" | "DELETE";

/** A change, relative to the channel's filter: a row that comes to match is an INSERT, one that no longer does a DELETE. */
export interface ChangeEvent<R> {
  readonly type: ChangeType;
  /** Undefined for DELETE. */
  readonly row: R | undefined;
  /** The row before: whole with REPLICA IDENTITY FULL, otherwise its key, or undefined where the key did not change. */
  readonly old: Partial<R> | undefined;
  /** Where its transaction ends, as Postgres writes it. */
  readonly position: string;
  readonly commitTime: Date;
}

export interface Channel<R> {
  /** Adds a listener; several may listen to one type. Returns the channel, to go on with. */
  on(type: ChangeType | "*", listener: (event: ChangeEvent<R>) => void): Channel<R>;
  /** Starts. Events come from the commit at which `ready` resolves. Returns the channel. */
  subscribe(): Channel<R>;
  unsubscribe(): Promise<void>;
  /** Resolves when changes are being watched; rejects with the server's refusal, or `closed`. */
  readonly ready: Promise<void>;
  readonly status: "idle" | "joining" | "joined" | "error";
  readonly error: WalcastError | undefined;
}

export class ChannelHandle implements Channel<Row>, Subscriber {
  readonly request: ShapeRequest;
  readonly changes = true;
  /** Never on the replica. */
  readonly member: Member = { number: undefined, access: undefined, request: "", isOver: false, indexes: [] };
  status: Channel<Row>["status"] = "idle";
  error: WalcastError | undefined;
  private readonly hooks: ListenerHooks;
  private readonly isReady = new Deferred<void>();
  private readonly listeners = new ChangeListeners();
  private reader: EventReader | undefined;

  constructor(request: ShapeRequest, hooks: ListenerHooks) {
    this.request = request;
    this.hooks = hooks;
  }

  get ready(): Promise<void> {
    return this.isReady.promise;
  }

  on(type: ChangeType | "*", listener: (event: ChangeEvent<Row>) => void): this {
    this.listeners.add(type, listener);
    return this;
  }

  subscribe(): this {
    if (this.status !== "idle") return this;
    this.status = "joining";
    this.hooks.add(this);
    return this;
  }

  async unsubscribe(): Promise<void> {
    this.abandon(new WalcastError("closed", "wait for a channel: it was unsubscribed"));
    await this.hooks.remove(this);
    this.status = "idle";
  }

  abandon(error: WalcastError): void {
    this.isReady.reject(error);
    this.listeners.clear();
  }

  loading(): void {
    this.status = "joining";
  }

  described(table: TableDescription, _estimatedRows: number, readerOf: MakeReader): void {
    this.reader = readerOf(table);
  }

  altered(table: TableDescription, readerOf: MakeReader): () => void {
    const reader = readerOf(table);
    return () => void (this.reader = reader);
  }

  restored(): void {}

  progressed(): void {}

  joined(): void {
    this.status = "joined";
    this.isReady.resolve();
  }

  failed(error: WalcastError): void {
    if (this.status === "idle") return;
    this.status = "error";
    this.error = error;
    this.isReady.reject(error);
  }

  committed(commits: readonly Commit[]): void {
    for (const commit of commits) {
      for (const operation of commit.operations) {
        const event = this.reader?.read(operation, commit);
        if (event) this.listeners.emit(event);
      }
    }
  }
}
