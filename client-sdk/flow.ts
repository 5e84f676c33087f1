/**
 * What runs behind a client: loaded by itself, and, when somebody wants rows, with everything that PGlite is for (see local.ts).
 *
 *     Connection ─messages, frames─▶ Lanes ─transactions─▶ Replica ─changed keys─▶ LiveQueries
 *                                      └─ before there is a replica ─▶ channels, topics, keys
 *
 * Connecting and opening the replica go on at the same time; what arrives early for it waits in the lanes. Where an earlier process may
 * have left rows, the server has to be told where they are: until the replica is open, the connection is for channels and the like
 * alone, if there are any, and then there is another one, which goes on from there.
 */
import {
  type ClientMessage,
  type Lsn,
  type ServerMessage,
  WalcastError,
  errorFromJson,
  formatLsn,
  zeroLsn,
} from "../engine/protocol.ts";
import type { Awaits } from "./awaits.ts";
import type { Backoff } from "./backoff.ts";
import type { Changed } from "./changed.ts";
import { type Claim, isBlank } from "./claim.ts";
import { tokenFailed } from "./connection-errors.ts";
import { Connection } from "./connection.ts";
import { isOpen } from "./connection-state.ts";
import type { ClientOptions, ClientStatus } from "./index.ts";
import { Lanes } from "./lanes.ts";
import type { LiveQueries } from "./live.ts";
import type { Local, LocalHooks } from "./local.ts";
import type { Meetings } from "./meetings.ts";
import { nextTask } from "./next-task.ts";
import { Owner } from "./owner.ts";
import { Patience } from "./patience.ts";
import type { Token } from "./renewal.ts";
import type { Replica } from "./replica.ts";
import type { ShapeHandle } from "./shape.ts";
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
  /** Live queries can be started. */
  reading(liveQueries: LiveQueries): void;
  /** Nothing can be read or written any more. */
  crashed(error: WalcastError): void;
}

/** Errors by which a server says that who holds this token may not see what an earlier one saw. */
const refusals = new Set(["unauthenticated", "token_expired", "forbidden"]);

export class Flow {
  readonly lanes: Lanes;
  /** Once somebody has wanted rows, and its code is there. */
  local: Local | undefined;
  private readonly options: ClientOptions;
  private readonly place: Claim;
  private readonly hooks: FlowHooks;
  private readonly trace: Trace;
  private readonly connection: Connection;
  private readonly replica = Promise.withResolvers<Replica>();
  private isNewToken: boolean;
  /** The server has said meanwhile that its rows must leave. */
  private isPurgeDue = false;
  private isClosed = false;
  private readonly sleep: () => void;
  private readonly owner: Owner | undefined;
  private readonly patience: Patience;

  constructor(options: ClientOptions, place: Claim, hooks: FlowHooks) {
    this.options = options;
    this.place = place;
    this.hooks = hooks;
    this.trace = hooks.trace;
    this.isNewToken = hooks.isNewToken;
    this.patience = new Patience(backoffOf(options));
    if (place.kind !== "memory") this.owner = new Owner(options, (owner) => this.lanes.withdrawals.ownedBy(owner));
    this.connection = this.createConnection(options);
    this.sleep = onWake(() => this.wake());
    this.replica.promise.catch(() => {});
    this.lanes = this.createLanes();
  }

  /**
   * Where an earlier process may have left a position, or a page brought one, the server has to be told of it. What it left is shown
   * first: the first WebSocket of a Node process takes fifty milliseconds to load.
   */
  start(): void {
    if (!this.lanes.isOpening) this.listen();
    this.replica.promise.then(nextTask).then(
      () => this.listen(),
      () => {},
    );
  }

  /** Somebody wants what needs no replica, or there is one. */
  listen(): void {
    this.connection.start();
  }

  /** Somebody wants rows. */
  async open(create: typeof Local): Promise<Local> {
    const { place, options, hooks } = this;
    const owner = (): Promise<string | undefined> => this.findOwner(openTimeoutOf(options));
    try {
      const local = new create({ place, seed: options.seed, owner, shapes: hooks.shapes }, this.localHooks());
      this.local = local;
      hooks.reading(local.liveQueries);
      this.replica.resolve(await local.opened);
      return local;
    } catch (error) {
      this.replica.reject(error);
      throw error;
    }
  }

  get status(): Exclude<ClientStatus, "closed"> {
    if (this.patience.isWaiting) return "offline";
    const { state } = this.connection;
    if (state.kind === "waiting" || state.kind === "closed") return "offline";
    if (this.lanes.isOpening) return "connecting";
    if (!isOpen(state) || !this.lanes.isOnline) return "connecting";
    return this.lanes.areCurrent ? "live" : "catching-up";
  }

  get position(): Lsn {
    const { local, lanes } = this;
    const applied = local?.position ?? zeroLsn;
    return applied > lanes.told ? applied : lanes.told;
  }

  /** What the server was last heard to have. */
  get serverPosition(): Lsn {
    const { serverPosition } = this.lanes;
    return serverPosition > this.position ? serverPosition : this.position;
  }

  send(message: ClientMessage): void {
    // What waits for rows asks again when there are some.
    if (!this.lanes.isOpening || message.kind !== "await") this.connection.send(message);
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
    this.local?.look(this.trace.counts.transactions);
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
    this.local?.liveQueries.close(error);
    return this.disconnect();
  }

  // ── Parts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  private localHooks(): LocalHooks {
    return {
      troubled: (error) => (this.trace.lastError = error),
      crashed: (error) => this.hooks.crashed(error),
      found: (replica, damage) => {
        if (replica.isPurged) this.trace.counts.purges++;
        if (damage !== undefined) this.trace.lastError = emptied(damage);
      },
      restore: (replica) => this.restore(replica),
      isLoading: (tables) =>
        this.hooks.shapes.values().some(({ tableName, status }) => tables.has(tableName) && status === "loading"),
      failureOf: (tables) => this.failureOf(tables),
      position: () => this.position,
    };
  }

  private restore(replica: Replica): void {
    if (replica.reached !== zeroLsn) this.connection.move();
    const wasOpening = this.lanes.isOpening;
    this.lanes.restore(replica);
    if (this.isPurgeDue) this.lanes.purge();
    if (wasOpening && this.lanes.isOnline) this.hooks.awaits.askAgain();
    this.hooks.changed();
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
      authenticating: () => this.lanes.withdrawals.hold(),
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
    return new Lanes(this.replica.promise, !isBlank(this.place, this.options.seed), {
      send: (message) => this.connection.send(message),
      breach: (error) => this.connection.breach(error),
      applied: (changed) => this.applied(changed),
      awaited: (id) => this.hooks.awaits.answered(id),
      changed: () => this.lanesChanged(),
      moved: () => this.hooks.moved(),
      position: () => this.position,
      counted: (what) => void this.trace.counts[what]++,
    });
  }

  // ── What happens ───────────────────────────────────────────────────────────────────────────────────────────────────

  private welcomed(welcome: Extract<ServerMessage, { kind: "welcome" }>): void {
    this.trace.counts.connections++;
    if (welcome.cause) this.trace.lastError = errorFromJson(welcome.cause);
    this.decided();
    this.lanes.online(welcome);
    this.hooks.meetings.online();
    if (!this.lanes.isOpening) this.hooks.awaits.askAgain();
  }

  private authenticated(isNewest: boolean): void {
    this.trace.counts.authentications++;
    this.lanes.withdrawals.release();
    if (isNewest) this.decided();
  }

  /** The server has said what the newest token allows; of a replica that is not open yet it was asked for nothing. */
  private decided(): void {
    if (this.lanes.isOpening) return;
    if (this.isNewToken) this.lanes.withdrawals.removeUnclaimed();
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
    if (error.code === "forbidden" || (this.isNewToken && refusals.has(error.code))) this.purge();
  }

  private purge(): void {
    if (this.lanes.isOpening) this.isPurgeDue = true;
    else this.lanes.purge();
  }

  private applied(changed: Changed): () => void {
    this.trace.transaction(formatLsn(this.position), changed);
    const settle = this.local?.liveQueries.applied(changed);
    return () => {
      settle?.();
      this.hooks.moved();
    };
  }

  private lanesChanged(): void {
    this.hooks.changed();
    this.local?.liveQueries.settle();
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
