/**
 * From the messages of a connection to whole local transactions. Every subscription has a lane: its first rows travel in
 * it, with a position of their own, until it joins the connection's at a commit boundary. A lane that has joined outlives
 * its connection: the next one goes on with it where the server can.
 *
 *             ┌──── interrupted ◀─ connection lost
 *             ▼             │ (with what has come of its first rows, or with what a channel was told)
 *     asked ─described─▶ loading ─join─▶ joined ─connection lost─▶ held ─welcome that resumes─▶ resuming ─resumed─▶ joined
 *       ▲                                  │                        │                             │
 *       └──────────── resync ──────────────┴─ (without `resumes`: over, and a new lane is asked) ─┘
 *                                                            error, unsubscribe: ─▶ over, from anywhere
 *
 * Receiving is cheap and synchronous: it keeps what arrives in order, and hands it to the backlog, which works it off on
 * the replica.
 */
import {
  type ClientMessage,
  formatLsn,
  type Frame,
  type Lsn,
  parseLsn,
  type ServerMessage,
  type TableDescription,
  WalcastError,
  zeroLsn,
} from "../engine/protocol.ts";
import { asking } from "./asking.ts";
import { Backlog, type BacklogHooks } from "./backlog.ts";
import type { Changed } from "./changed.ts";
import { isShown, type Lane, newLane, type Subscriber, unexpected, wasComplete } from "./lane.ts";
import { Incoming } from "./incoming.ts";
import { Deferred } from "./listeners.ts";
import type { Alteration } from "./pile.ts";
import type { Replica } from "./replica.ts";
import { Withdrawals } from "./withdrawals.ts";
import type { EpochKeeps } from "./work.ts";

export interface LanesHooks extends Omit<BacklogHooks, "failed" | "audited" | "told"> {
  send(message: ClientMessage): void;
  /** A replica that may have a position of its own: until it is open shapes are not asked for, and the connection is there for the others. */
  isOpening(): boolean;
  /** What is shown, and where nobody wants rows, told. */
  position(): Lsn;
  /** That may be another. */
  moved(): void;
  counted(what: keyof LaneCounts): void;
}

export interface LaneCounts {
  /** Connections that went on where the one before had ended. */
  readonly resumes: number;
  /** Resyncs the server asked for. */
  readonly resyncs: number;
  /** Resyncs after which rows had to leave at once. */
  readonly purges: number;
  /** Complete shapes that had to be loaded again, for whatever reason. */
  readonly refetches: number;
}

/** Errors after which a client must not go on showing the rows it has. */
const revoking = new Set(["forbidden", "unauthenticated", "token_expired", "unknown_table", "unknown_column"]);

export class Lanes {
  private readonly backlog: Backlog;
  private readonly hooks: LanesHooks;
  private readonly subscribers = new Set<Subscriber>();
  /** The newest of each subscriber. */
  private readonly lanes = new Map<Subscriber, Lane>();
  /** Of the connection. */
  private byId = new Map<number, Lane>();
  private nextId = 1;
  isOnline = false;
  private replica: Replica | undefined;
  private readonly incoming: Incoming;
  private epoch: string | undefined;
  /** Up to where everything was told before anybody wanted rows. */
  told = zeroLsn;
  /** Where the server was when it resumed us: until then we are behind. */
  private target = zeroLsn;
  private readonly withdrawals: Withdrawals;

  constructor(replica: Promise<Replica>, hooks: LanesHooks) {
    this.hooks = hooks;
    this.backlog = new Backlog(replica, hooks.isOpening(), {
      breach: (error) => this.breach(error),
      applied: (changed) => this.applied(changed),
      audited: (lane, matches) => this.audited(lane, matches),
      awaited: (id) => hooks.awaited(id),
      changed: () => hooks.changed(),
      told: (position) => this.toldUntil(position),
      failed: (lane, error) => this.giveUp(lane, error),
    });
    this.withdrawals = new Withdrawals(this.backlog, () => hooks.changed());
    this.incoming = new Incoming(this.backlog, {
      lane: (id) => this.lane(id),
      areResuming: () => this.lanes.values().some(({ stage }) => stage === "resuming"),
    });
  }

  /** Whether every subscription's rows are complete, and as new as the server's. */
  get areCurrent(): boolean {
    if (!this.isOnline || !this.withdrawals.areDone || this.hooks.position() < this.target) return false;
    return this.lanes.values().every((lane) => lane.stage === "over" || isShown(lane));
  }

  /** What the server was last heard to have. */
  get serverPosition(): Lsn {
    return this.incoming.position > this.target ? this.incoming.position : this.target;
  }

  /** What the next hello says. */
  greeting(): { epoch?: string; position?: string } {
    if (this.epoch === undefined || this.incoming.position === zeroLsn) return {};
    return { epoch: this.epoch, position: formatLsn(this.incoming.position) };
  }

  /** Somebody wants rows: what comes for a replica is kept for it. */
  want(): void {
    if (!this.hooks.isOpening()) this.backlog.want();
  }

  /** The replica is open, with what an earlier process left. If it has a position, there is no connection, and the next one goes on from there. */
  restore(replica: Replica): void {
    this.replica = replica;
    if (replica.reached === zeroLsn) {
      this.backlog.want();
      if (this.isOnline) this.askForNew();
      return;
    }
    this.backlog.wantElsewhere();
    for (const lane of this.lanes.values()) this.takeAlong(lane);
    this.epoch = replica.epoch;
    this.incoming.position = replica.reached;
    for (const subscriber of this.subscribers) this.claim(subscriber, replica);
  }

  add(subscriber: Subscriber): void {
    this.subscribers.add(subscriber);
    if (this.replica) this.claim(subscriber, this.replica);
    if (this.isOnline) this.ask(subscriber);
  }

  /** To a connection that goes on from elsewhere: what it was told stays told, and what follows that is asked for. */
  private takeAlong(lane: Lane): void {
    const { stage, identity, subscriber } = lane;
    // Messages know by themselves.
    const isTold = stage === "held" && !subscriber.messages;
    this.end(lane);
    if (!isTold) return void this.lanes.delete(subscriber);
    lane.told = { identity: identity!, epoch: this.epoch!, position: formatLsn(this.incoming.position) };
    lane.stage = "interrupted";
  }

  /** Nothing that has come is applied any more. */
  close(error: WalcastError): void {
    this.backlog.close(error);
  }

  /** Resolves when its rows are gone from the replica. */
  remove(subscriber: Subscriber): Promise<void> {
    this.subscribers.delete(subscriber);
    const lane = this.lanes.get(subscriber);
    if (lane && lane.stage !== "over" && this.byId.get(lane.id) === lane)
      this.hooks.send({ kind: "unsubscribe", id: lane.id });
    if (lane) this.end(lane);
    this.lanes.delete(subscriber);
    if (subscriber.changes) return Promise.resolve();
    const { promise, resolve: done, reject: failed } = new Deferred<void>();
    this.backlog.push({ kind: "remove", member: subscriber.member, done, failed });
    return promise;
  }

  /** The rows of all shapes leave: another user is here. */
  purge(): void {
    this.dropLanes();
    const subscribers = [...this.subscribers];
    this.backlog.push({ kind: "empty", done: () => subscribers.forEach((one) => one.loading()) });
    this.hooks.counted("purges");
  }

  /** Nobody has asked the server whether this client may still see them. */
  removeUnclaimed(): void {
    this.backlog.push({ kind: "removeUnclaimed" });
  }

  /** Whose the rows are, after what has come until now. */
  ownedBy(owner: string | undefined): void {
    this.backlog.push({ kind: "owner", owner });
  }

  /** A new token was sent: what it does not allow leaves together, once the server has said all of it. */
  deciding(): void {
    this.withdrawals.hold();
  }

  decided(): void {
    this.withdrawals.release();
  }

  private claim(subscriber: Subscriber, replica: Replica): void {
    if (subscriber.changes) return;
    const claimed = replica.claim(subscriber.member);
    if (!claimed) return;
    // Once the connection has resumed it is too late to name an identity, and what waits to be applied has nothing for it.
    const isAtPosition = this.incoming.position !== zeroLsn && this.incoming.position === replica.reached;
    const isCurrent = claimed.identity !== undefined && !this.isOnline && isAtPosition;
    this.backlog.pushFirst({ kind: "claimed", member: subscriber.member, isCurrent });
    if (isCurrent)
      this.lanes.set(subscriber, {
        ...newLane(subscriber),
        stage: "held",
        identity: claimed.identity,
        isApplied: true,
      });
    subscriber.restored(isCurrent);
    this.hooks.changed();
  }

  // ── Receiving ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A new connection has greeted us. */
  online({ epoch, resumes = false, position }: Extract<ServerMessage, { kind: "welcome" }>): void {
    const hadPosition = this.incoming.position !== zeroLsn;
    const resumed = resumes && hadPosition;
    this.byId = new Map();
    this.target = resumed ? parseLsn(position) : zeroLsn;
    const isNewEpoch = this.epoch !== epoch;
    this.enterEpoch(epoch, resumed);
    if (!resumed)
      this.dropLanes(({ stage, told }) => stage === "interrupted" && (told ? told.epoch === epoch : !isNewEpoch));
    this.isOnline = true;
    for (const lane of this.lanes.values()) if (lane.stage === "held") this.askToResume(lane);
    if (resumes) this.hooks.send({ kind: "resume" });
    if (resumed) this.hooks.counted("resumes");
    for (const lane of this.lanes.values()) if (lane.stage === "interrupted") this.askForRest(lane);
    this.askForNew();
    this.hooks.changed();
  }

  /** What was staged and not yet whole is lost; what is whole will still be applied, and is where we go on from. */
  offline(): void {
    this.isOnline = false;
    this.decided();
    this.incoming.unstage();
    for (const lane of this.lanes.values()) {
      if (lane.stage === "joined" || lane.stage === "resuming") lane.stage = "held";
      else if (lane.part || lane.told) {
        // Changes between those that were told and the join come again.
        this.incoming.forget(lane);
        lane.stage = "interrupted";
      } else if (lane.stage !== "held") this.end(lane);
      if (lane.stage === "over") this.lanes.delete(lane.subscriber);
    }
    this.byId = new Map();
    this.hooks.changed();
  }

  /** Throws WalcastError where the message cannot be. */
  message(message: ServerMessage): void {
    switch (message.kind) {
      case "described":
        return this.described(this.lane(message.id), message);
      case "listening":
        return this.listening(this.lane(message.id), message);
      case "resumed":
        return this.resumed(this.lane(message.id));
      case "resync":
        return this.resync(this.lane(message.id), message.purge === true);
      case "altered":
        return this.altered(this.lane(message.id), message.table, message.added);
      case "rewind":
        return this.incoming.unstage();
      case "audit":
        return this.audit(this.lane(message.id), message.rows, message.hash);
      case "unsubscribed":
        return void this.byId.delete(message.id);
      case "awaited":
        return this.backlog.push({ kind: "awaited", id: message.id });
      case "error":
        if (message.subscription !== undefined) this.refused(this.lane(message.subscription), message.error);
        return;
      case "meeting":
      case "welcome":
      case "authenticated":
      case "pong":
    }
  }

  frame(frame: Frame): void {
    // What must leave is not at the position that this may bring, and is not shown with it.
    this.withdrawals.apply();
    this.incoming.frame(frame);
  }

  private enterEpoch(epoch: string, resumed: boolean): void {
    const isNew = this.epoch !== undefined && this.epoch !== epoch;
    const keeps: EpochKeeps = resumed ? "everything" : isNew ? "nothing" : "shown";
    this.epoch = epoch;
    if (isNew) this.told = zeroLsn;
    if (!resumed) this.incoming.position = zeroLsn;
    this.backlog.push({ kind: "epoch", epoch, keeps });
  }

  private askForNew(): void {
    for (const subscriber of this.subscribers) if (!this.lanes.has(subscriber)) this.ask(subscriber);
  }

  /** In its turn: see `restore`. */
  private ask(subscriber: Subscriber): void {
    if (!subscriber.changes && this.hooks.isOpening()) return;
    const lane = this.open(newLane(subscriber));
    subscriber.loading();
    this.say(lane, asking(lane));
    this.hooks.changed();
  }

  private askToResume(lane: Lane): void {
    this.open(lane);
    lane.stage = "resuming";
    this.say(lane, { ...asking(lane), identity: lane.identity! });
  }

  private askForRest(lane: Lane): void {
    this.open(lane);
    lane.stage = "asked";
    this.say(lane, asking(lane));
  }

  /** What the server would not take is the end of this one, and of no other. */
  private say(lane: Lane, message: ClientMessage): void {
    try {
      this.hooks.send(message);
    } catch (error) {
      if (!(error instanceof WalcastError)) throw error;
      this.byId.delete(lane.id);
      this.fail(lane, error);
    }
  }

  private open(lane: Lane): Lane {
    lane.id = this.nextId++;
    this.lanes.set(lane.subscriber, lane);
    this.byId.set(lane.id, lane);
    return lane;
  }

  private described(lane: Lane | undefined, { table, estimatedRows, load, continues }: Described): void {
    if (!lane) return;
    if (lane.stage !== "asked") throw unexpected("a description", lane.stage);
    // New rows must not be taken for those that leave.
    this.withdrawals.apply();
    lane.stage = "loading";
    if (continues) return this.goesOn(lane, table, load);
    if (lane.part) this.discard(lane);
    lane.part = load === undefined ? undefined : { id: load, frames: 0 };
    lane.identity = table.identity;
    this.backlog.push({ kind: "described", lane, table, estimatedRows });
  }

  private listening(lane: Lane | undefined, { identity, cause }: Listening): void {
    if (!lane) return;
    if (lane.stage !== "asked") throw unexpected("messages", lane.stage);
    lane.stage = "loading";
    lane.identity = identity;
    lane.subscriber.listening?.(cause && new WalcastError(cause.code, cause.message, { hint: cause.hint }));
  }

  /** What came of its rows before stands, and the rest follows. */
  private goesOn(lane: Lane, { identity }: TableDescription, load: string | undefined): void {
    const { part } = lane;
    if (part && part.id === load && lane.identity === identity) return;
    lane.part = undefined;
    throw unexpected("the rest of its rows", lane.stage);
  }

  private resumed(lane: Lane | undefined): void {
    if (!lane) return;
    if (lane.stage !== "resuming") throw unexpected("a resumption", lane.stage);
    lane.stage = "joined";
    this.hooks.changed();
  }

  private altered(lane: Lane | undefined, table: TableDescription, added: Alteration["added"]): void {
    if (!lane) return;
    if (lane.stage !== "joined") throw unexpected("an alteration", lane.stage);
    this.incoming.alter({ lane, table, added });
  }

  private audit(lane: Lane | undefined, rows: string, hash: string): void {
    if (lane?.stage === "joined") this.backlog.push({ kind: "audit", lane, rows, hash });
  }

  private resync(lane: Lane | undefined, isPurge: boolean): void {
    if (!lane) return;
    this.hooks.counted("resyncs");
    if (wasComplete(lane)) this.hooks.counted("refetches");
    lane.stage = "asked";
    if (isPurge) {
      this.discard(lane);
      this.purgeOne(lane);
    } else this.outdate(lane);
    this.hooks.changed();
  }

  /** It is stale from now on; said once more in its turn, as a join that waits to be applied makes it ready before. */
  private outdate(lane: Lane): void {
    lane.subscriber.loading();
    this.discard(lane, () => {
      if (lane.stage !== "over") lane.subscriber.loading();
    });
  }

  /** What somebody else was allowed to see may be among the rows that nobody has asked for yet, too. */
  private purgeOne({ subscriber }: Lane): void {
    this.hooks.counted("purges");
    this.withdrawals.add({ member: subscriber.member, isPurge: true, done: () => subscriber.loading() });
  }

  /** The last that the server says of it. */
  private refused(lane: Lane | undefined, error: WalcastErrorJson): void {
    if (!lane) return;
    this.byId.delete(lane.id);
    this.fail(lane, new WalcastError(error.code, error.message, { position: error.position, hint: error.hint }));
  }

  /** The replica cannot hold it; the server has not heard of that. */
  private giveUp(lane: Lane, error: WalcastError): void {
    if (this.isOnline && this.byId.get(lane.id) === lane) this.hooks.send({ kind: "unsubscribe", id: lane.id });
    this.fail(lane, error);
  }

  private fail(lane: Lane, error: WalcastError): void {
    this.end(lane);
    this.subscribers.delete(lane.subscriber);
    const tell = (): void => {
      lane.subscriber.failed(error);
      this.hooks.changed();
    };
    const { member, changes } = lane.subscriber;
    if (changes) return tell();
    if (revoking.has(error.code)) return this.withdrawals.add({ member, isPurge: false, done: tell });
    member.isOver = true;
    this.backlog.push({ kind: "place" });
    tell();
  }

  /** Nothing of what was received can be gone on from. */
  private breach(error: WalcastError): void {
    this.dropLanes();
    this.hooks.breach(error);
  }

  private dropLanes(stays: (lane: Lane) => boolean = () => false): void {
    for (const [subscriber, lane] of this.lanes) {
      if (stays(lane)) continue;
      if (wasComplete(lane)) this.hooks.counted("refetches");
      this.end(lane);
      this.lanes.delete(subscriber);
    }
    this.incoming.position = zeroLsn;
  }

  private end(lane: Lane): void {
    if (lane.stage === "over") return;
    lane.stage = "over";
    this.discard(lane);
    this.hooks.changed();
  }

  private discard(lane: Lane, done: () => void = () => {}): void {
    lane.part = lane.told = undefined;
    this.incoming.forget(lane);
    this.backlog.push({ kind: "discard", lane, done });
  }

  private applied(changed: Changed): () => void {
    const wasBehind = this.target !== zeroLsn;
    const settle = this.hooks.applied(changed);
    return () => {
      settle();
      if (wasBehind) this.arrived();
    };
  }

  private toldUntil(position: Lsn): void {
    if (position > this.told) this.told = position;
    this.hooks.moved();
    if (this.target !== zeroLsn) this.arrived();
  }

  /** Perhaps. */
  private arrived(): void {
    if (this.hooks.position() < this.target) return;
    this.target = zeroLsn;
    this.hooks.changed();
  }

  private audited(lane: Lane, matches: boolean): void {
    if (this.byId.get(lane.id) === lane) this.hooks.send({ kind: "audited", id: lane.id, matches });
  }

  /** Undefined for one that is over: the server may not know yet. */
  private lane(id: number): Lane | undefined {
    if (id >= this.nextId)
      throw new WalcastError(
        "malformed_message",
        `read a message: expected a subscription that was asked for, found ${id}`,
      );
    const lane = this.byId.get(id);
    return lane?.stage === "over" ? undefined : lane;
  }
}

type Listening = Extract<ServerMessage, { kind: "listening" }>;
type Described = Extract<ServerMessage, { kind: "described" }>;
type WalcastErrorJson = Extract<ServerMessage, { kind: "error" }>["error"];
