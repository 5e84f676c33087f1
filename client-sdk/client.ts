/**
 * The client: puts the parts together and gives them their public face.
 *
 *     Connection ─messages, frames─▶ Lanes ─transactions─▶ Replica ─changed keys─▶ LiveQueries
 *
 * Connecting and opening the replica go on at the same time; what arrives early waits in the lanes. Only where an earlier
 * process may have left rows, the replica is opened first: the server has to be told where it is.
 */
import type { PGlite } from "@electric-sql/pglite";
import type { Kysely } from "kysely";

import {
  formatLsn,
  type Lsn,
  parseLsn,
  type Seed,
  type ServerMessage,
  WalcastError,
  zeroLsn,
} from "../engine/protocol.ts";
import { Awaits } from "./awaits.ts";
import { Changed } from "./changed.ts";
import { type Channel, ChannelHandle } from "./channel.ts";
import type { Backoff } from "./backoff.ts";
import { tokenFailed } from "./connection-errors.ts";
import { Connection } from "./connection.ts";
import { isOpen } from "./connection-state.ts";
import { Database } from "./database.ts";
import type { Row } from "./rows.ts";
import type { ChannelOptions, Client, ClientOptions, ClientStatus, Inspection, Queryable, Shapes } from "./index.ts";
import { Sizes } from "./inspection.ts";
import { createKysely } from "./kysely.ts";
import { Lanes } from "./lanes.ts";
import { Listeners } from "./listeners.ts";
import { LiveQueries, type LiveOptions, type LiveQuery } from "./live.ts";
import { checkOptions } from "./options.ts";
import { Owner } from "./owner.ts";
import { Patience } from "./patience.ts";
import { Replica } from "./replica.ts";
import type { Token } from "./renewal.ts";
import { seeded } from "./seed.ts";
import { keptAs, type Shape, ShapeHandle, type ShapeOptions, ttlOf } from "./shape.ts";
import { parseTableName } from "./tables.ts";
import type { MessageHooks, MessageSubscriber } from "./listening.ts";
import { type EphemeralTopic, Meetings } from "./meetings.ts";
import { type Revalidated, Revalidations } from "./revalidations.ts";
import { checkTopic, type EphemeralOptions, type Topic, TopicHandle, type TopicOptions } from "./topic.ts";
import { Trace } from "./trace.ts";
import { onWake } from "./wake.ts";
import { ShapeLease, WarmShapes } from "./warm.ts";

const AWAIT_TIMEOUT_MS = 10_000;

/** Errors by which a server says that who holds this token may not see what an earlier one saw. */
const refusals = new Set(["unauthenticated", "token_expired", "forbidden"]);

export class WalcastClient<DB, Name extends string> implements Client<DB, Name> {
  readonly shapes: Shapes<DB, Name>;
  readonly kysely: Kysely<DB>;
  private readonly database: Database;
  private readonly seed: Seed | undefined;
  private readonly opened: Promise<Replica>;
  private replica: Replica | undefined;
  private readonly connection: Connection;
  private readonly lanes: Lanes;
  private readonly liveQueries: LiveQueries;
  private readonly awaits: Awaits;
  private readonly statusListeners = new Listeners<[ClientStatus]>();
  private readonly positionListeners = new Listeners<[]>();
  private readonly failureListeners = new Listeners<[WalcastError]>();
  private toldPosition = "";
  private readonly handles = new Set<ShapeHandle>();
  private readonly warm = new WarmShapes((shape) => this.unsync(shape));
  private readonly channels = new Set<ChannelHandle>();
  private readonly listeners = new Set<MessageSubscriber>();
  private readonly revalidations: Revalidations;
  private readonly meetings: Meetings;
  private currentStatus: ClientStatus = "connecting";
  private epoch: string | undefined;
  private isNewToken = false;
  private isClosed = false;
  private closing: Promise<void> | undefined;
  private readonly trace = new Trace();
  private readonly sizes: Sizes;
  /** Why there is no replica. */
  private failure: WalcastError | undefined;
  private readonly sleep: () => void;
  private readonly owner: Owner | undefined;
  private readonly patience: Patience;

  constructor(options: ClientOptions<Name>) {
    checkOptions(options);
    this.database = new Database(options.replica, {
      troubled: (error) => (this.trace.lastError = error),
      crashed: (error) => this.replicaFailed(error),
      wrote: () => this.wroteOwn(),
    });
    this.seed = options.seed;
    this.sizes = new Sizes(this.database);
    this.patience = new Patience(backoffOf(options));
    if (!this.database.isFresh) this.owner = new Owner(options, (owner) => this.lanes.ownedBy(owner));
    this.opened = this.open(openTimeoutOf(options)).catch((error: unknown) => this.openFailed(error));
    this.opened.catch(() => {});
    this.kysely = createKysely<DB>(this.database, this.opened);
    this.connection = this.createConnection(options);
    this.sleep = onWake(() => this.wake());
    this.lanes = this.createLanes();
    this.liveQueries = this.createLiveQueries();
    this.meetings = new Meetings((message) => this.connection.send(message));
    this.revalidations = new Revalidations(this.messageHooks());
    this.awaits = new Awaits({
      send: (message) => this.connection.send(message),
      position: () => this.lsn,
      isBehind: () => this.handles.values().some(({ status }) => status === "resyncing" || status === "loading"),
    });
    try {
      this.shapes = this.syncDeclared(options.shapes);
    } catch (error) {
      void this.close();
      throw error;
    }
    this.start();
  }

  get pglite(): PGlite {
    return this.database.pglite;
  }

  get status(): ClientStatus {
    return this.currentStatus;
  }

  get position(): string {
    return formatLsn(this.lsn);
  }

  onStatus(listener: (status: ClientStatus) => void): () => void {
    return this.statusListeners.add(listener);
  }

  /** Called when rows of a later position can be read. Returns what ends it. */
  onPosition(listener: () => void): () => void {
    return this.positionListeners.add(listener);
  }

  /** Called when there is no replica any more, before anything else is told of that. Returns what ends it. */
  onFailure(listener: (error: WalcastError) => void): () => void {
    return this.failureListeners.add(listener);
  }

  sync(options: ShapeOptions): Shape {
    this.refuseIfClosed("sync a shape");
    const ttlMs = ttlOf(options);
    const warm = this.warm.take(keptAs(options));
    const handle = warm ?? this.syncNew(options);
    return warm || ttlMs > 0 ? new ShapeLease(handle, () => this.warm.keep(handle, ttlMs)) : handle;
  }

  async preload(): Promise<void> {
    await Promise.all(Object.values<Shape>(this.shapes).map(({ ready }) => ready));
  }

  async query<R extends object = Row>(sql: string, params: readonly unknown[] = []): Promise<R[]> {
    this.refuseIfClosed("run a query");
    await this.opened;
    return (await this.database.select(sql, params)) as R[];
  }

  live<R extends object = Row>(
    query: Queryable<DB, R>,
    params: readonly unknown[] = [],
    options: LiveOptions = {},
  ): LiveQuery<R> {
    this.refuseIfClosed("start a live query");
    if (typeof query === "string") return this.liveQueries.add<R>(query, params, options);
    const { sql, parameters } = query(this.kysely).compile();
    return this.liveQueries.add<R>(sql, parameters, options);
  }

  channel<R extends object = Row>(table: string, options: ChannelOptions = {}): Channel<R> {
    this.refuseIfClosed("open a channel");
    parseTableName(table);
    const handle = new ChannelHandle(
      { ...options, table },
      { add: (channel) => this.watch(channel), remove: (channel) => this.unwatch(channel) },
    );
    this.channels.add(handle);
    return handle as unknown as Channel<R>;
  }

  topic<P = unknown>(name: string, options: EphemeralOptions): EphemeralTopic<P>;
  topic<P = unknown>(name: string, options?: TopicOptions): Topic<P>;
  topic(name: string, options: TopicOptions | EphemeralOptions = {}): Topic | EphemeralTopic {
    this.refuseIfClosed("listen to a topic");
    if ("ephemeral" in options) return this.meetings.topic(name);
    checkTopic(name, options);
    return new TopicHandle(name, options, this.messageHooks());
  }

  onRevalidate(
    keys: readonly string[],
    listener: (revalidated: Revalidated) => void,
    onError?: (error: WalcastError) => void,
  ): () => void {
    this.refuseIfClosed("listen to keys");
    return this.revalidations.add(keys, listener, onError);
  }

  async awaitPosition(
    target: string | bigint | { readonly xid: string | number | bigint },
    { timeoutMs = AWAIT_TIMEOUT_MS }: { timeoutMs?: number } = {},
  ): Promise<void> {
    this.refuseIfClosed("wait for a position");
    if (this.failure) throw this.failure;
    if (typeof target === "object") return this.awaits.add({ xid: xidOf(target.xid) }, timeoutMs);
    return this.awaits.add({ position: typeof target === "bigint" ? (target as Lsn) : parseLsn(target) }, timeoutMs);
  }

  setToken(token: Token): void {
    this.refuseIfClosed("set a token");
    this.isNewToken = true;
    this.connection.setToken(this.owner ? this.owner.watch(token) : token);
    this.patience.wake();
  }

  /** Resolves when what is shown now outlives the process; rejects where there is no room for it. */
  async flush(): Promise<void> {
    await this.opened;
    await this.database.flush();
  }

  wake(): void {
    this.patience.wake();
    this.connection.wake();
  }

  inspect(): Inspection {
    this.look();
    return this.inspection;
  }

  /** Somebody wants to know what the shapes hold. */
  look(): void {
    if (this.replica && !this.isClosed)
      this.sizes.refresh(this.replica, [...this.handles], this.trace.counts.transactions);
  }

  /** What is known without looking. */
  get inspection(): Inspection {
    const serverPosition = later(this.lanes.serverPosition, this.lsn);
    return {
      status: this.status,
      position: this.position,
      serverPosition: formatLsn(serverPosition),
      epoch: this.epoch,
      ...this.trace.inspect(),
      storage: this.database.inspect(),
      shapes: Array.from(this.handles, (shape) => this.sizes.inspect(shape, this.lsn, serverPosition)),
      channels: Array.from(this.channels, ({ request, status }) => ({ ...request, status })),
      live: this.liveQueries.list(),
    };
  }

  close(): Promise<void> {
    this.isClosed = true;
    this.closing ??= this.shutDown();
    return this.closing;
  }

  // ── Parts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  private async open(timeoutMs: number): Promise<Replica> {
    const [owner] = await Promise.all([this.findOwner(timeoutMs), this.database.open()]);
    const replica = await this.database.exclusive(() => {
      const found = new Replica(this.database, owner);
      if (found.isPurged) this.trace.counts.purges++;
      return seeded(found, this.seed, owner);
    });
    this.replica = replica;
    this.epoch = replica.epoch;
    const damage = this.database.damage ?? replica.emptied;
    if (damage !== undefined) this.trace.lastError = emptied(damage);
    await this.database.committed();
    this.database.admit();
    this.lanes.restore(replica);
    return replica;
  }

  /** Nothing is shown as long as it is not known whose it is. */
  private async findOwner(timeoutMs: number): Promise<string | undefined> {
    for (;;) {
      try {
        return await this.patience.within(timeoutMs, this.owner?.find());
      } catch (error) {
        if (this.isClosed) throw new WalcastError("closed", "open the replica: the client was closed");
        this.trace.lastError = tokenFailed(error);
        const waited = this.patience.wait();
        this.updateStatus();
        await waited;
        this.updateStatus();
      }
    }
  }

  /** Where an earlier process may have left a position, or a page brought one, the server has to be told of it. */
  private start(): void {
    if (this.database.isFresh && !this.seed) return this.connection.start();
    const start = (): void => this.connection.start();
    this.opened.then(start, () => {});
  }

  private createConnection(all: ClientOptions<Name>): Connection {
    const options = {
      url: all.url,
      token: this.owner ? this.owner.watch(all.token) : all.token,
      backoff: backoffOf(all),
      openTimeoutMs: openTimeoutOf(all),
    };
    return new Connection(options, {
      greeting: () => this.lanes.greeting(),
      changed: () => this.updateStatus(),
      welcomed: (welcome) => this.welcomed(welcome),
      authenticating: () => this.lanes.deciding(),
      authenticated: (isNewest) => this.authenticated(isNewest),
      message: (message) => this.received(message),
      frame: (frame) => this.lanes.frame(frame),
      down: () => {
        this.meetings.offline();
        this.lanes.offline();
      },
      failed: (error) => this.connectionFailed(error),
    });
  }

  private createLanes(): Lanes {
    return new Lanes(this.opened, {
      send: (message) => this.connection.send(message),
      breach: (error) => this.breach(error),
      applied: (changed) => this.applied(changed),
      awaited: (id) => this.awaits.answered(id),
      changed: () => this.lanesChanged(),
      position: () => this.lsn,
      counted: (what) => void this.trace.counts[what]++,
    });
  }

  private createLiveQueries(): LiveQueries {
    return new LiveQueries(this.database, this.opened, {
      isLoading: (tables) =>
        this.handles.values().some(({ tableName, status }) => tables.has(tableName) && status === "loading"),
      failureOf: (tables) => this.failureOf(tables),
      position: () => this.lsn,
    });
  }

  private syncDeclared(shapes: ClientOptions<Name>["shapes"]): Record<Name, Shape> {
    const entries = Object.entries<ShapeOptions>(shapes ?? {}).map(
      ([name, options]) => [name, this.sync(options)] as const,
    );
    return Object.fromEntries(entries) as Record<Name, Shape>;
  }

  private syncNew(options: ShapeOptions): ShapeHandle {
    const handle = new ShapeHandle(options, {
      leave: (shape) => this.unsync(shape),
      describe: async ({ member }) => (await this.opened).descriptionOf(member),
      position: () => this.lsn,
    });
    this.handles.add(handle);
    if (this.failure) handle.failed(this.failure);
    else this.lanes.add(handle);
    return handle;
  }

  private get lsn(): Lsn {
    return this.replica?.position ?? zeroLsn;
  }

  // ── What happens ───────────────────────────────────────────────────────────────────────────────────────────────────

  private welcomed(welcome: Extract<ServerMessage, { kind: "welcome" }>): void {
    this.epoch = welcome.epoch;
    if (this.isNewToken) this.lanes.removeUnclaimed();
    this.isNewToken = false;
    this.trace.counts.connections++;
    if (welcome.cause) this.trace.lastError = new WalcastError(welcome.cause.code, welcome.cause.message);
    this.lanes.online(welcome);
    this.owner?.settled();
    this.meetings.online();
    this.awaits.askAgain();
  }

  private authenticated(isNewest: boolean): void {
    this.trace.counts.authentications++;
    this.lanes.decided();
    if (!isNewest) return;
    if (this.isNewToken) this.lanes.removeUnclaimed();
    this.isNewToken = false;
    this.owner?.settled();
  }

  private received(message: ServerMessage): void {
    if (message.kind === "error" && message.await !== undefined)
      return this.awaits.refused(message.await, message.error);
    if (message.kind === "error" && message.topic !== undefined)
      return this.meetings.refused(message.topic, message.error);
    if (message.kind === "meeting") return this.meetings.message(message);
    this.lanes.message(message);
  }

  private connectionFailed(error: WalcastError): void {
    this.trace.lastError = error;
    if (error.code === "frame_out_of_order" || error.code === "checksum_mismatch" || error.code === "malformed_message")
      this.trace.counts.breaches++;
    if (error.code === "forbidden" || (this.isNewToken && refusals.has(error.code))) this.lanes.purge();
  }

  private breach(error: WalcastError): void {
    this.connection.breach(error);
  }

  private applied(changed: Changed): () => void {
    this.trace.transaction(this.position, changed);
    const settle = this.liveQueries.applied(changed);
    return () => {
      settle();
      this.moved();
    };
  }

  /** The application, into tables that no shape has. Into which is not known. */
  private wroteOwn(): () => void {
    const synced = new Set(Array.from(this.handles, ({ tableName }) => tableName));
    const read = this.liveQueries.list().flatMap(({ tables }) => tables);
    return this.liveQueries.applied(new Changed(read.filter((table) => !synced.has(table))));
  }

  private lanesChanged(): void {
    this.updateStatus();
    this.liveQueries.settle();
    this.moved();
  }

  /** Perhaps. */
  private moved(): void {
    this.awaits.check();
    const { position } = this;
    if (position === this.toldPosition) return;
    this.toldPosition = position;
    this.positionListeners.emit();
  }

  private updateStatus(): void {
    const status = this.deriveStatus();
    if (status === this.currentStatus && !this.trace.isEmpty) return;
    this.currentStatus = status;
    this.trace.status(status);
    this.statusListeners.emit(status);
  }

  private deriveStatus(): ClientStatus {
    if (this.isClosed) return "closed";
    if (this.patience.isWaiting) return "offline";
    const { state } = this.connection;
    if (state.kind === "waiting" || state.kind === "closed") return "offline";
    if (!isOpen(state) || !this.lanes.isOnline) return "connecting";
    return this.lanes.areCurrent ? "live" : "catching-up";
  }

  private openFailed(cause: unknown): never {
    if (cause instanceof WalcastError && cause.code === "closed") throw cause;
    const error = new WalcastError(
      "replica_failed",
      `open the replica: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
    this.replicaFailed(error);
    throw error;
  }

  /** There is nothing to read and nowhere to write. */
  private replicaFailed(error: WalcastError): void {
    this.trace.lastError = this.failure = error;
    this.failureListeners.emit(error);
    for (const handle of this.handles) handle.failed(error);
    for (const channel of this.channels) if (channel.status !== "idle") channel.failed(error);
    for (const listener of this.listeners) listener.failed(error);
    this.awaits.close(error);
    void this.connection.close();
  }

  /** Of a client that is closed the replica is not ours any more. */
  private unsync(handle: ShapeHandle): Promise<void> {
    this.handles.delete(handle);
    handle.abandon(new WalcastError("closed", "wait for a shape: it was unsubscribed"));
    return this.isClosed ? Promise.resolve() : this.lanes.remove(handle);
  }

  private watch(channel: ChannelHandle): void {
    this.channels.add(channel);
    if (this.failure) channel.failed(this.failure);
    else this.lanes.add(channel);
  }

  private async unwatch(channel: ChannelHandle): Promise<void> {
    this.channels.delete(channel);
    // It has no rows that could stay.
    if (!this.isClosed) await this.lanes.remove(channel).catch(() => {});
  }

  private messageHooks(): MessageHooks {
    return {
      epoch: () => this.epoch,
      position: () => this.lsn,
      add: (subscriber) => this.listen(subscriber),
      remove: (subscriber) => this.unlisten(subscriber),
    };
  }

  private listen(subscriber: MessageSubscriber): void {
    this.listeners.add(subscriber);
    if (this.failure) subscriber.failed(this.failure);
    else this.lanes.add(subscriber);
  }

  private async unlisten(subscriber: MessageSubscriber): Promise<void> {
    this.listeners.delete(subscriber);
    if (!this.isClosed) await this.lanes.remove(subscriber).catch(() => {});
  }

  private async shutDown(): Promise<void> {
    const error = new WalcastError("closed", "the client was closed");
    this.sleep();
    this.patience.close();
    const disconnected = this.connection.close();
    this.updateStatus();
    this.warm.close();
    this.awaits.close(error);
    this.revalidations.close();
    this.meetings.close();
    this.liveQueries.close(error);
    for (const handle of [...this.handles, ...this.channels, ...this.listeners]) handle.abandon(error);
    this.lanes.close(error);
    this.statusListeners.clear();
    this.positionListeners.clear();
    this.failureListeners.clear();
    await disconnected;
    // Not in the middle of its opening.
    await this.opened.catch(() => {});
    await this.database.close().catch(() => {});
  }

  // ── Checks and look-ups ────────────────────────────────────────────────────────────────────────────────────────────

  private refuseIfClosed(doing: string): void {
    if (this.isClosed) throw new WalcastError("closed", `${doing}: the client is closed`);
  }

  /** For a query whose tables are unknown because one does not exist: if nothing is on its way any more, why. */
  private failureOf(tables: ReadonlySet<string> | undefined): WalcastError | undefined {
    const handles = [...this.handles].filter(({ tableName }) => !tables || tables.has(tableName));
    return handles.every(({ status }) => status === "error") ? handles[0]?.error : undefined;
  }
}

function later(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}

/** Throws `malformed_message`: the server would end the connection at it. */
function xidOf(xid: string | number | bigint): string {
  const text = String(xid);
  if (/^\d{1,20}$/.test(text)) return text;
  throw new WalcastError(
    "malformed_message",
    `wait for a transaction: expected its 64-bit xid, found ${text.slice(0, 40)}`,
  );
}

function emptied(reason: string): WalcastError {
  return new WalcastError(
    "replica_failed",
    `open the replica: what an earlier process left cannot be used, and is loaded again: ${reason}`,
  );
}

function backoffOf({ backoff }: ClientOptions): Backoff {
  return { baseMs: backoff?.baseMs ?? 200, maxMs: backoff?.maxMs ?? 15_000 };
}

function openTimeoutOf({ openTimeoutMs = 10_000 }: ClientOptions): number {
  return openTimeoutMs;
}
