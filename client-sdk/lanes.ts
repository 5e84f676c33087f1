/**
 * From the messages of a connection to whole local transactions. Every subscription has a lane (lane.ts): its first rows travel in
 * it, with a position of their own, until it joins the connection's at a commit boundary.
 *
 * Receiving is cheap and synchronous: it keeps what arrives in order, and hands it to the backlog, which works it off on
 * the replica.
 */
import {
  type ClientMessage,
  errorFromJson,
  formatLsn,
  type Frame,
  type Lsn,
  parseLsn,
  type ServerMessage,
  WalcastError,
  zeroLsn,
} from "../engine/protocol.ts";
import { Asking } from "./asking.ts";
import { Backlog, type BacklogHooks } from "./backlog.ts";
import type { Changed } from "./changed.ts";
import { Incoming } from "./incoming.ts";
import { Lane, type Said } from "./lane.ts";
import { Deferred } from "./listeners.ts";
import type { Replica } from "./replica.ts";
import type { Subscriber } from "./subscriber.ts";
import { Withdrawals } from "./withdrawals.ts";
import type { EpochKeeps } from "./work.ts";

export interface LanesHooks extends Omit<BacklogHooks, "failed" | "audited" | "told"> {
  send(message: ClientMessage): void;
  /** What is shown, and where nobody wants rows, told. */
  position(): Lsn;
  /** That may be another. */
  moved(): void;
  counted(what: "resumes" | "resyncs" | "purges" | "refetches"): void;
}

type LaneMessage = Said<"described" | "listening" | "resumed" | "access" | "altered" | "audit" | "resync">;

/** Errors after which a client must not go on showing the rows it has. */
const revoking = new Set(["forbidden", "unauthenticated", "token_expired", "unknown_table", "unknown_column"]);

export class Lanes {
  readonly withdrawals: Withdrawals;
  isOnline = false;
  /** A replica that may have a position of its own: until it is open shapes are not asked for, and the connection is there for the others. */
  isOpening: boolean;
  /** The history that the connection, or what an earlier process left, is in. */
  epoch: string | undefined;
  /** Up to where everything was told before anybody wanted rows. */
  told = zeroLsn;
  private readonly hooks: LanesHooks;
  private readonly backlog: Backlog;
  private readonly incoming: Incoming;
  private readonly asking: Asking;
  private readonly subscribers = new Set<Subscriber>();
  /** The newest of each subscriber: one that is over only where the next connection asks for another. */
  private readonly lanes = new Map<Subscriber, Lane>();
  private replica: Replica | undefined;
  /** Where the server was when it resumed us: until then we are behind. */
  private target = zeroLsn;

  constructor(replica: Promise<Replica>, isOpening: boolean, hooks: LanesHooks) {
    this.isOpening = isOpening;
    this.hooks = hooks;
    this.asking = new Asking((message) => hooks.send(message));
    this.backlog = new Backlog(replica, isOpening, {
      ...hooks,
      breach: (error) => this.breach(error),
      applied: (changed) => this.applied(changed),
      audited: (lane, matches) => this.asking.audited(lane, matches),
      told: (position) => this.toldUntil(position),
      failed: (lane, error) => this.giveUp(lane, error),
    });
    this.withdrawals = new Withdrawals(this.backlog, () => hooks.changed());
    this.incoming = new Incoming(this.backlog, {
      lane: (id) => this.asking.lane(id),
      areResuming: () => this.lanes.values().some(({ stage }) => stage === "resuming"),
    });
  }

  /** Whether every subscription's rows are complete, and as new as the server's. */
  get areCurrent(): boolean {
    if (!this.isOnline || !this.withdrawals.areDone || this.hooks.position() < this.target) return false;
    return this.lanes.values().every(({ isShown }) => isShown);
  }

  /** What the server was last heard to have. */
  get serverPosition(): Lsn {
    return this.incoming.position > this.target ? this.incoming.position : this.target;
  }

  /** Nothing that has come is applied any more. */
  close(error: WalcastError): void {
    this.backlog.close(error);
  }

  // ── Who wants what ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Somebody wants rows: what comes for a replica is kept for it. */
  want(): void {
    if (!this.isOpening) this.backlog.want();
  }

  /** The replica is open, with what an earlier process left. If it has a position, there is no connection, and the next one goes on from there. */
  restore(replica: Replica): void {
    this.replica = replica;
    this.isOpening = false;
    if (replica.reached === zeroLsn) {
      this.epoch ??= replica.epoch;
      this.backlog.want();
      if (this.isOnline) this.askForNew();
      return;
    }
    this.backlog.wantElsewhere();
    for (const lane of this.lanes.values()) lane.takeAlong(this.epoch!, this.incoming.position);
    this.epoch = replica.epoch;
    this.incoming.position = replica.reached;
    for (const subscriber of this.subscribers) this.claim(subscriber, replica);
  }

  add(subscriber: Subscriber): void {
    this.subscribers.add(subscriber);
    if (this.replica) this.claim(subscriber, this.replica);
    if (this.isOnline) this.askFirst(subscriber);
  }

  /** Resolves when its rows are gone from the replica. */
  remove(subscriber: Subscriber): Promise<void> {
    this.subscribers.delete(subscriber);
    const lane = this.lanes.get(subscriber);
    this.lanes.delete(subscriber);
    if (lane) this.leave(lane);
    if (subscriber.changes) return Promise.resolve();
    const { promise, resolve: done, reject: failed } = new Deferred<void>();
    this.backlog.push({ kind: "remove", member: subscriber.member, done, failed });
    return promise;
  }

  private leave(lane: Lane): void {
    this.asking.leave(lane);
    lane.end();
    this.hooks.changed();
  }

  private claim(subscriber: Subscriber, replica: Replica): void {
    if (subscriber.changes) return;
    const claimed = replica.claim(subscriber.member);
    if (!claimed) return;
    // Once the connection has resumed it is too late to name an identity, and what waits to be applied has nothing for it.
    const isAtPosition = this.incoming.position !== zeroLsn && this.incoming.position === replica.reached;
    const { identity } = claimed;
    const isCurrent = identity !== undefined && !this.isOnline && isAtPosition;
    this.backlog.pushFirst({ kind: "claimed", member: subscriber.member, isCurrent });
    if (isCurrent) this.open(subscriber).hold(identity);
    subscriber.restored(isCurrent);
    this.hooks.changed();
  }

  private open(subscriber: Subscriber): Lane {
    const lane = new Lane(subscriber, this.incoming, this.backlog);
    this.lanes.set(subscriber, lane);
    return lane;
  }

  // ── Connections ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What the next hello says. */
  greeting(): { epoch?: string; position?: string } {
    if (this.epoch === undefined || this.incoming.position === zeroLsn) return {};
    return { epoch: this.epoch, position: formatLsn(this.incoming.position) };
  }

  /** A new connection has greeted us. */
  online({ epoch, resumes = false, position }: Said<"welcome">): void {
    const resumed = resumes && this.incoming.position !== zeroLsn;
    const isNewEpoch = this.epoch !== epoch;
    this.target = resumed ? parseLsn(position) : zeroLsn;
    this.enterEpoch(epoch, resumed);
    if (!resumed)
      this.dropLanes(({ stage, told }) => stage === "interrupted" && (told ? told.epoch === epoch : !isNewEpoch));
    this.isOnline = true;
    this.askAgain("held", "resuming");
    if (resumes) this.hooks.send({ kind: "resume" });
    if (resumed) this.hooks.counted("resumes");
    this.askAgain("interrupted", "asked");
    this.askForNew();
    this.hooks.changed();
  }

  /** What was staged and not yet whole is lost; what is whole will still be applied, and is where we go on from. */
  offline(): void {
    this.isOnline = false;
    this.withdrawals.release();
    this.incoming.unstage();
    for (const lane of this.lanes.values()) lane.lost();
    this.asking.clear();
    this.hooks.changed();
  }

  private enterEpoch(epoch: string, resumed: boolean): void {
    const isNew = this.epoch !== undefined && this.epoch !== epoch;
    const keeps: EpochKeeps = resumed ? "everything" : isNew ? "nothing" : "shown";
    this.epoch = epoch;
    if (isNew) this.told = zeroLsn;
    if (!resumed) this.incoming.position = zeroLsn;
    this.backlog.push({ kind: "epoch", epoch, keeps });
  }

  private askAgain(left: Lane["stage"], stage: Lane["stage"]): void {
    for (const lane of this.lanes.values()) if (lane.stage === left) this.ask(lane, stage);
  }

  private askForNew(): void {
    for (const subscriber of this.subscribers)
      if ((this.lanes.get(subscriber)?.stage ?? "over") === "over") this.askFirst(subscriber);
  }

  /** In its turn: see `restore`. */
  private askFirst(subscriber: Subscriber): void {
    if (!subscriber.changes && this.isOpening) return;
    subscriber.loading();
    this.ask(this.open(subscriber), "asked");
    this.hooks.changed();
  }

  /** What the server would not take is the end of this one, and of no other. */
  private ask(lane: Lane, stage: Lane["stage"]): void {
    lane.stage = stage;
    try {
      this.asking.ask(lane);
    } catch (error) {
      if (!(error instanceof WalcastError)) throw error;
      this.fail(lane, error);
    }
  }

  // ── Receiving ──────────────────────────────────────────────────────────────────────────────────────────────────────

  frame(frame: Frame): void {
    // What must leave is not at the position that this may bring, and is not shown with it.
    this.withdrawals.apply();
    this.incoming.frame(frame);
  }

  /** Throws WalcastError where the message cannot be. */
  message(message: ServerMessage): void {
    switch (message.kind) {
      case "rewind":
        return this.incoming.unstage();
      case "unsubscribed":
        return this.asking.forget(message.id);
      case "awaited":
        return this.backlog.push({ kind: "awaited", id: message.id });
      case "error":
        return this.refused(message);
      case "meeting":
      case "welcome":
      case "authenticated":
      case "pong":
        return;
      default: {
        const lane = this.asking.lane(message.id);
        if (lane) this.tell(lane, message);
      }
    }
  }

  private tell(lane: Lane, message: LaneMessage): void {
    switch (message.kind) {
      case "described":
        // New rows must not be taken for those that leave.
        this.withdrawals.apply();
        return lane.described(message);
      case "listening":
        return lane.listening(message);
      case "resumed":
        lane.resumed();
        return this.hooks.changed();
      case "access":
        return this.backlog.push({ kind: "access", lane, access: message.access });
      case "altered":
        return lane.altered(message);
      case "audit":
        return lane.audit(message);
      case "resync":
        return this.resync(lane, message);
    }
  }

  private resync(lane: Lane, message: Said<"resync">): void {
    this.hooks.counted("resyncs");
    if (lane.wasComplete) this.hooks.counted("refetches");
    lane.resync(message);
    if (message.purge) {
      const { subscriber } = lane;
      this.hooks.counted("purges");
      // What somebody else was allowed to see may be among the rows that nobody has asked for yet, too.
      this.withdrawals.add({ member: subscriber.member, isPurge: true, done: () => subscriber.loading() });
    }
    this.hooks.changed();
  }

  /** The last that the server says of it. */
  private refused({ subscription, error }: Said<"error">): void {
    const lane = subscription === undefined ? undefined : this.asking.lane(subscription);
    if (!lane) return;
    this.asking.forget(lane.id);
    this.fail(lane, errorFromJson(error));
  }

  // ── The end of lanes ───────────────────────────────────────────────────────────────────────────────────────────────

  /** The replica cannot hold it; the server has not heard of that. */
  private giveUp(lane: Lane, error: WalcastError): void {
    if (lane.stage === "over") return;
    this.asking.leave(lane);
    this.fail(lane, error);
  }

  private fail(lane: Lane, error: WalcastError): void {
    const { subscriber } = lane;
    lane.end();
    this.lanes.delete(subscriber);
    this.subscribers.delete(subscriber);
    const tell = (): void => {
      subscriber.failed(error);
      this.hooks.changed();
    };
    const { member, changes } = subscriber;
    if (changes) return tell();
    if (revoking.has(error.code)) return this.withdrawals.add({ member, isPurge: false, done: tell });
    member.isOver = true;
    this.backlog.push({ kind: "place" });
    tell();
  }

  /** The rows of all shapes leave: another user is here. */
  purge(): void {
    this.dropLanes();
    const subscribers = [...this.subscribers];
    this.backlog.push({ kind: "empty", done: () => subscribers.forEach((one) => one.loading()) });
    this.hooks.counted("purges");
  }

  /** Nothing of what was received can be gone on from. */
  private breach(error: WalcastError): void {
    this.dropLanes();
    this.hooks.breach(error);
  }

  private dropLanes(stays: (lane: Lane) => boolean = () => false): void {
    for (const lane of this.lanes.values()) {
      if (stays(lane)) continue;
      if (lane.wasComplete) this.hooks.counted("refetches");
      lane.end();
    }
    this.incoming.position = zeroLsn;
    this.hooks.changed();
  }

  // ── What the replica has come to ───────────────────────────────────────────────────────────────────────────────────

  private applied(changed: Changed): () => void {
    const settle = this.hooks.applied(changed);
    return () => {
      settle();
      this.arrived();
    };
  }

  private toldUntil(position: Lsn): void {
    if (position > this.told) this.told = position;
    this.hooks.moved();
    this.arrived();
  }

  /** Perhaps. */
  private arrived(): void {
    if (this.target === zeroLsn || this.hooks.position() < this.target) return;
    this.target = zeroLsn;
    this.hooks.changed();
  }
}
