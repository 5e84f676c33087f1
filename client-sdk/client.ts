/**
 * The client: the public face of what runs behind it (see flow.ts), whose code is loaded behind an `import()`; and behind another,
 * when somebody wants rows, the replica's with PGlite. What a page loads before its first rows can be there is this. What is asked
 * for until then waits.
 */
import type { PGlite } from "@electric-sql/pglite";
import type { Kysely } from "kysely";

import { formatLsn, type Lsn, WalcastError, zeroLsn } from "../engine/protocol.ts";
import { Awaits, targetOf } from "./awaits.ts";
import { type Channel, ChannelHandle } from "./channel.ts";
import { type Claim, claim, isBlank, release } from "./claim.ts";
import type { Flow } from "./flow.ts";
import type { ChannelOptions, Client, ClientOptions, ClientStatus, Inspection, Queryable, Shapes } from "./index.ts";
import { inspectShape } from "./inspection.ts";
import { createKysely } from "./kysely.ts";
import { Subscribers } from "./subscribers.ts";
import { Listeners } from "./listeners.ts";
import type { MessageHooks } from "./listening.ts";
import type { LiveOptions, LiveQuery } from "./live.ts";
import type { Local } from "./local.ts";
import { PendingQueries } from "./live/pending.ts";
import { type EphemeralTopic, Meetings } from "./meetings.ts";
import { checkOptions } from "./options.ts";
import { pgliteToCome } from "./pglite-to-come.ts";
import type { Token } from "./renewal.ts";
import { type Revalidated, Revalidations } from "./revalidations.ts";
import type { Row } from "./row.ts";
import { keptAs, type Shape, ShapeHandle, type ShapeOptions, ttlOf } from "./shape.ts";
import { alwaysCurrent } from "./storage/storage.ts";
import { parseTableName } from "./table-name.ts";
import { checkTopic, type EphemeralOptions, type Topic, TopicHandle, type TopicOptions } from "./topic.ts";
import { Trace } from "./trace.ts";
import { ShapeLease, WarmShapes } from "./warm.ts";

const AWAIT_TIMEOUT_MS = 10_000;

export class WalcastClient<DB, Name extends string> implements Client<DB, Name> {
  readonly shapes: Shapes<DB, Name>;
  readonly kysely: Kysely<DB>;
  private readonly place: Claim;
  private readonly loaded: Promise<Flow>;
  /** Undefined until its code is there. */
  private flow: Flow | undefined;
  /** Undefined until somebody wants rows. Rejects where there is no replica. */
  private opened: Promise<Local> | undefined;
  private readonly subscribers = new Subscribers();
  private readonly pending = new PendingQueries();
  private readonly awaitedPglite: PGlite;
  private readonly awaits: Awaits;
  private readonly statusListeners = new Listeners<[ClientStatus]>();
  private readonly positionListeners = new Listeners<[]>();
  private readonly failureListeners = new Listeners<[WalcastError]>();
  private toldPosition = "";
  private readonly warm = new WarmShapes((shape) => this.unsync(shape));
  private readonly revalidations: Revalidations;
  private readonly meetings: Meetings;
  private currentStatus: ClientStatus = "connecting";
  /** Given since the client was created. */
  private newToken: { readonly token: Token } | undefined;
  private isClosed = false;
  private closing: Promise<void> | undefined;
  private readonly trace = new Trace();
  /** Why there is no replica. */
  private failure: WalcastError | undefined;

  constructor(options: ClientOptions<Name>) {
    checkOptions(options);
    this.place = claim(options.replica);
    this.loaded = this.load(options).catch((error: unknown) => this.openFailed(error));
    this.loaded.catch(() => {});
    if (!isBlank(this.place, options.seed)) this.want();
    this.kysely = createKysely<DB>(async () => (await this.open()).database);
    this.awaitedPglite = pgliteToCome(
      async () => (await this.open()).database.pglite,
      () => this.flow?.local?.database.pglite,
    );
    this.meetings = new Meetings((message) => this.flow?.send(message));
    this.revalidations = new Revalidations(this.messageHooks());
    this.awaits = new Awaits({
      send: (message) => this.flow?.send(message),
      position: () => this.lsn,
      isBehind: () =>
        this.subscribers.shapes.values().some(({ status }) => status === "resyncing" || status === "loading"),
    });
    try {
      this.shapes = this.syncDeclared(options.shapes);
    } catch (error) {
      void this.close();
      throw error;
    }
    this.updateStatus();
  }

  /** Until there is one, what waits for it. */
  get pglite(): PGlite {
    return this.place.kind === "given" ? this.place.pglite : (this.flow?.local?.database.pglite ?? this.awaitedPglite);
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
    this.want();
    const warm = this.warm.take(keptAs(options));
    const handle = warm ?? this.syncNew(options);
    return warm || ttlMs > 0 ? new ShapeLease(handle, () => this.warm.keep(handle, ttlMs)) : handle;
  }

  async preload(): Promise<void> {
    await Promise.all(Object.values<Shape>(this.shapes).map(({ ready }) => ready));
  }

  async query<R extends object = Row>(sql: string, params: readonly unknown[] = []): Promise<R[]> {
    this.refuseIfClosed("run a query");
    const { database } = await this.open();
    return (await database.select(sql, params)) as R[];
  }

  live<R extends object = Row>(
    query: Queryable<DB, R>,
    params: readonly unknown[] = [],
    options: LiveOptions = {},
  ): LiveQuery<R> {
    this.refuseIfClosed("start a live query");
    this.want();
    const queries = this.flow?.local?.liveQueries ?? this.pending;
    if (typeof query === "string") return queries.add<R>(query, params, options);
    const { sql, parameters } = query(this.kysely).compile();
    return queries.add<R>(sql, parameters, options);
  }

  channel<R extends object = Row>(table: string, options: ChannelOptions = {}): Channel<R> {
    this.refuseIfClosed("open a channel");
    parseTableName(table);
    const handle = new ChannelHandle({ ...options, table }, this.messageHooks());
    this.subscribers.note(handle);
    return handle as unknown as Channel<R>;
  }

  topic<P = unknown>(name: string, options: EphemeralOptions): EphemeralTopic<P>;
  topic<P = unknown>(name: string, options?: TopicOptions): Topic<P>;
  topic(name: string, options: TopicOptions | EphemeralOptions = {}): Topic | EphemeralTopic {
    this.refuseIfClosed("listen to a topic");
    if ("ephemeral" in options) return this.meet(name);
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
    return this.awaits.add(targetOf(target), timeoutMs);
  }

  setToken(token: Token): void {
    this.refuseIfClosed("set a token");
    this.newToken = { token };
    this.flow?.setToken(token);
  }

  /** Resolves when what is shown now outlives the process; rejects where there is no room for it. */
  async flush(): Promise<void> {
    const local = await this.opened;
    await local?.database.instance.flush();
  }

  wake(): void {
    this.flow?.wake();
  }

  inspect(): Inspection {
    this.look();
    return this.inspection;
  }

  /** Somebody wants to know what the shapes hold. */
  look(): void {
    if (!this.isClosed) this.flow?.look();
  }

  /** What is known without looking. */
  get inspection(): Inspection {
    const { flow } = this;
    const serverPosition = flow?.serverPosition ?? this.lsn;
    return {
      status: this.status,
      position: this.position,
      serverPosition: formatLsn(serverPosition),
      epoch: flow?.lanes.epoch,
      ...this.trace.inspect(),
      storage: flow?.local?.database.instance.inspect() ?? alwaysCurrent(this.place.kind),
      shapes: Array.from(this.subscribers.shapes, (shape) =>
        inspectShape(shape, flow?.local?.sizes.of(shape.member), this.lsn, serverPosition),
      ),
      channels: this.subscribers.channels.map(({ request, status }) => ({ ...request, status })),
      live: flow?.local?.liveQueries.list() ?? [],
    };
  }

  close(): Promise<void> {
    this.isClosed = true;
    this.closing ??= this.shutDown();
    return this.closing;
  }

  // ── Parts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  private async load(options: ClientOptions): Promise<Flow> {
    const { Flow: Behind } = await import("./flow.ts");
    this.refuseIfClosed("open the replica");
    const flow = new Behind({ ...options, ...this.newToken }, this.place, {
      shapes: this.subscribers.shapes,
      isNewToken: this.newToken !== undefined,
      trace: this.trace,
      awaits: this.awaits,
      meetings: this.meetings,
      changed: () => this.updateStatus(),
      moved: () => this.moved(),
      reading: (liveQueries) => this.pending.attach(liveQueries),
      crashed: (error) => this.replicaFailed(error),
    });
    this.flow = flow;
    if (this.opened) flow.lanes.want();
    this.subscribers.attach(flow);
    if (!this.meetings.isEmpty) flow.listen();
    flow.start();
    return flow;
  }

  /** Somebody wants rows. */
  private want(): void {
    void this.open();
  }

  private open(): Promise<Local> {
    if (this.opened) return this.opened;
    this.flow?.lanes.want();
    this.opened = this.openLocal().catch((error: unknown) => this.openFailed(error));
    this.opened.catch(() => {});
    return this.opened;
  }

  private async openLocal(): Promise<Local> {
    const [flow, code] = await Promise.all([this.loaded, import("./local.ts")]);
    this.refuseIfClosed("open the replica");
    return flow.open(code.Local);
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
      describe: async ({ member }) => (await this.open()).replica.descriptionOf(member),
      position: () => this.lsn,
    });
    this.subscribers.sync(handle);
    return handle;
  }

  private get lsn(): Lsn {
    return this.flow?.position ?? zeroLsn;
  }

  // ── What happens ───────────────────────────────────────────────────────────────────────────────────────────────────

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
    return this.flow?.status ?? (this.failure ? "offline" : "connecting");
  }

  private openFailed(cause: unknown): never {
    if (cause === this.failure || (cause instanceof WalcastError && cause.code === "closed")) throw cause;
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
    this.subscribers.fail(error);
    this.awaits.close(error);
    this.pending.refuse(error);
    if (this.flow) void this.flow.disconnect();
    else this.updateStatus();
  }

  /** Of a client that is closed the replica is not ours any more. */
  private unsync(handle: ShapeHandle): Promise<void> {
    handle.abandon(new WalcastError("closed", "wait for a shape: it was unsubscribed"));
    return this.subscribers.unsync(handle);
  }

  private meet(name: string): EphemeralTopic {
    this.flow?.listen();
    return this.meetings.topic(name);
  }

  private messageHooks(): MessageHooks {
    return {
      epoch: () => this.flow?.lanes.epoch,
      add: (subscriber) => this.subscribers.listen(subscriber),
      remove: (subscriber) => this.subscribers.unlisten(subscriber),
    };
  }

  private async shutDown(): Promise<void> {
    const error = new WalcastError("closed", "the client was closed");
    const disconnected = this.flow?.close(error);
    this.updateStatus();
    this.warm.close();
    this.awaits.close(error);
    this.revalidations.close();
    this.meetings.close();
    this.pending.abandon(error);
    this.subscribers.abandon(error);
    this.flow?.lanes.close(error);
    this.statusListeners.clear();
    this.positionListeners.clear();
    this.failureListeners.clear();
    await disconnected;
    // Not in the middle of its opening.
    await Promise.allSettled([this.loaded, this.opened]);
    const local = this.flow?.local;
    if (local) await local.database.close().catch(() => {});
    else release(this.place);
  }

  // ── Checks and look-ups ────────────────────────────────────────────────────────────────────────────────────────────

  private refuseIfClosed(doing: string): void {
    if (this.isClosed) throw new WalcastError("closed", `${doing}: the client is closed`);
  }
}
