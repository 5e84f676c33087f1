/**
 * What runs behind a client, and everything that only PGlite has a use for: loaded together with it.
 *
 *     Connection ─messages, frames─▶ Lanes ─transactions─▶ Replica ─changed keys─▶ LiveQueries
 *
 * Connecting and opening the replica go on at the same time; what arrives early waits in the lanes. Only where an earlier
 * process may have left rows, the replica is opened first: the server has to be told where it is.
 */
import {
  type ClientMessage,
  type Lsn,
  type Seed,
  type ServerMessage,
  WalcastError,
  formatLsn,
  zeroLsn,
} from "../engine/protocol.ts";
import type { Awaits } from "./awaits.ts";
import type { Backoff } from "./backoff.ts";
import { Changed } from "./changed.ts";
import type { Claim } from "./claim.ts";
import { tokenFailed } from "./connection-errors.ts";
import { Connection } from "./connection.ts";
import { isOpen } from "./connection-state.ts";
import { Database } from "./database.ts";
import type { ClientOptions, ClientStatus } from "./index.ts";
import { Lanes } from "./lanes.ts";
import { LiveQueries } from "./live.ts";
import type { Meetings } from "./meetings.ts";
import { nextTask } from "./next-task.ts";
import { Owner } from "./owner.ts";
import { Patience } from "./patience.ts";
import type { Token } from "./renewal.ts";
import { Replica } from "./replica.ts";
import { seeded } from "./seed.ts";
import type { ShapeHandle } from "./shape.ts";
import { Sizes } from "./sizes.ts";
import type { Trace } from "./trace.ts";
import { onWake } from "./wake.ts";

/** What of the client it works for, and whom it tells. */
export interface FlowHooks {
  readonly shapes: ReadonlySet<ShapeHandle>;
  /** The options' token was set after the client was created. */
  readonly isNewToken: boolean;
  readonly trace: Trace;
  readonly awaits: Awaits;
  readonly meetings: Meetings;
  /** The status may be another. */
  changed(): void;
  /** The position may be another. */
  moved(): void;
  /** Nothing can be read or written any more. */
  crashed(error: WalcastError): void;
}

/** Errors by which a server says that who holds this token may not see what an earlier one saw. */
const refusals = new Set(["unauthenticated", "token_expired", "forbidden"]);

export class Flow {
  readonly database: Database;
  readonly opened: Promise<Replica>;
  readonly lanes: Lanes;
  readonly liveQueries: LiveQueries;
  readonly sizes: Sizes;
  epoch: string | undefined;
  private readonly hooks: FlowHooks;
  private readonly trace: Trace;
  private readonly seed: Seed | undefined;
  private current: Replica | undefined;
  private readonly connection: Connection;
  private isNewToken: boolean;
  private isClosed = false;
  private readonly sleep: () => void;
  private readonly owner: Owner | undefined;
  private readonly patience: Patience;

  constructor(options: ClientOptions, place: Claim, hooks: FlowHooks) {
    this.hooks = hooks;
    this.trace = hooks.trace;
    this.isNewToken = hooks.isNewToken;
    this.seed = options.seed;
    this.database = new Database(place, {
      troubled: (error) => (this.trace.lastError = error),
      crashed: (error) => hooks.crashed(error),
      wrote: () => this.wroteOwn(),
    });
    this.sizes = new Sizes(this.database);
    this.patience = new Patience(backoffOf(options));
    if (!this.database.isFresh) this.owner = new Owner(options, (owner) => this.lanes.ownedBy(owner));
    this.opened = this.open(openTimeoutOf(options));
    this.opened.catch(() => {});
    this.connection = this.createConnection(options);
    this.sleep = onWake(() => this.wake());
    this.lanes = this.createLanes();
    this.liveQueries = this.createLiveQueries();
  }

  /**
   * Where an earlier process may have left a position, or a page brought one, the server has to be told of it. What it left is shown
   * first: the first WebSocket of a Node process takes fifty milliseconds to load.
   */
  start(): void {
    if (this.database.isFresh && !this.seed) return this.connection.start();
    const start = (): void => this.connection.start();
    this.opened.then(nextTask).then(start, () => {});
  }

  get status(): Exclude<ClientStatus, "closed"> {
    if (this.patience.isWaiting) return "offline";
    const { state } = this.connection;
    if (state.kind === "waiting" || state.kind === "closed") return "offline";
    if (!isOpen(state) || !this.lanes.isOnline) return "connecting";
    return this.lanes.areCurrent ? "live" : "catching-up";
  }

  get position(): Lsn {
    return this.current?.position ?? zeroLsn;
  }

  /** What the server was last heard to have. */
  get serverPosition(): Lsn {
    const { serverPosition } = this.lanes;
    return serverPosition > this.position ? serverPosition : this.position;
  }

  /** Once it is open. */
  get replica(): Replica {
    return this.current!;
  }

  send(message: ClientMessage): void {
    this.connection.send(message);
  }

  setToken(token: Token): void {
    this.isNewToken = true;
    this.connection.setToken(this.owner ? this.owner.watch(token) : token);
    this.patience.wake();
  }

  wake(): void {
    this.patience.wake();
    this.connection.wake();
  }

  /** Somebody wants to know what the shapes hold. */
  look(): void {
    if (this.current) this.sizes.refresh(this.current, [...this.hooks.shapes], this.trace.counts.transactions);
  }

  /** For ever. */
  disconnect(): Promise<void> {
    return this.connection.close();
  }

  /** Whoever waits for something hears why it will not come. */
  close(error: WalcastError): Promise<void> {
    this.isClosed = true;
    this.sleep();
    this.patience.close();
    this.liveQueries.close(error);
    return this.disconnect();
  }

  // ── Parts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  private async open(timeoutMs: number): Promise<Replica> {
    const [owner] = await Promise.all([this.findOwner(timeoutMs), this.database.open()]);
    const replica = await this.database.exclusive(() => {
      const found = new Replica(this.database, owner);
      if (found.isPurged) this.trace.counts.purges++;
      return seeded(found, this.seed, owner);
    });
    this.current = replica;
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
        this.hooks.changed();
        await waited;
        this.hooks.changed();
      }
    }
  }

  private createConnection(all: ClientOptions): Connection {
    const options = {
      url: all.url,
      token: this.owner ? this.owner.watch(all.token) : all.token,
      backoff: backoffOf(all),
      openTimeoutMs: openTimeoutOf(all),
    };
    return new Connection(options, {
      greeting: () => this.lanes.greeting(),
      changed: () => this.hooks.changed(),
      welcomed: (welcome) => this.welcomed(welcome),
      authenticating: () => this.lanes.deciding(),
      authenticated: (isNewest) => this.authenticated(isNewest),
      message: (message) => this.received(message),
      frame: (frame) => this.lanes.frame(frame),
      down: () => {
        this.hooks.meetings.offline();
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
      awaited: (id) => this.hooks.awaits.answered(id),
      changed: () => this.lanesChanged(),
      position: () => this.position,
      counted: (what) => void this.trace.counts[what]++,
    });
  }

  private createLiveQueries(): LiveQueries {
    return new LiveQueries(this.database, this.opened, {
      isLoading: (tables) =>
        this.hooks.shapes.values().some(({ tableName, status }) => tables.has(tableName) && status === "loading"),
      failureOf: (tables) => this.failureOf(tables),
      position: () => this.position,
    });
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
    this.hooks.meetings.online();
    this.hooks.awaits.askAgain();
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
      return this.hooks.awaits.refused(message.await, message.error);
    if (message.kind === "error" && message.topic !== undefined)
      return this.hooks.meetings.refused(message.topic, message.error);
    if (message.kind === "meeting") return this.hooks.meetings.message(message);
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
    this.trace.transaction(formatLsn(this.position), changed);
    const settle = this.liveQueries.applied(changed);
    return () => {
      settle();
      this.hooks.moved();
    };
  }

  /** The application, into tables that no shape has. Into which is not known. */
  private wroteOwn(): () => void {
    const synced = new Set(Array.from(this.hooks.shapes, ({ tableName }) => tableName));
    const read = this.liveQueries.list().flatMap(({ tables }) => tables);
    return this.liveQueries.applied(new Changed(read.filter((table) => !synced.has(table))));
  }

  private lanesChanged(): void {
    this.hooks.changed();
    this.liveQueries.settle();
    this.hooks.moved();
  }

  /** For a query whose tables are unknown because one does not exist: if nothing is on its way any more, why. */
  private failureOf(tables: ReadonlySet<string> | undefined): WalcastError | undefined {
    const handles = [...this.hooks.shapes].filter(({ tableName }) => !tables || tables.has(tableName));
    return handles.every(({ status }) => status === "error") ? handles[0]?.error : undefined;
  }
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
