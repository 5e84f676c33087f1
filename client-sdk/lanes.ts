/**
 * From the messages of a connection to whole local transactions. Every subscription has a lane: its first rows travel in
 * it, with a position of their own, until it joins the connection's at a commit boundary.
 *
 *     asked ─described─▶ loading ─join─▶ joined          resync: joined ─▶ asked          error, unsubscribe: ─▶ over
 *
 * Receiving is cheap and synchronous: it keeps what arrives in order, and hands it to the backlog, which works it off on
 * the replica.
 */
import {
  type ClientMessage,
  type Frame,
  type Lsn,
  type SectionIn,
  type ServerMessage,
  type TableDescription,
  WalcastError,
} from "../engine/protocol.ts";
import { Backlog, type BacklogHooks, type Lane, type Subscriber, type Transaction, unexpected } from "./backlog.ts";
import type { Replica } from "./replica.ts";

export interface LanesHooks extends Omit<BacklogHooks, "failed"> {
  send(message: ClientMessage): void;
}

/** Errors after which a client must not go on showing the rows it has. */
const revoking = new Set(["forbidden", "unauthenticated", "token_expired", "unknown_table", "unknown_column"]);

export class Lanes {
  private readonly backlog: Backlog;
  private readonly hooks: LanesHooks;
  private readonly subscribers = new Set<Subscriber>();
  private lanes = new Map<number, Lane>();
  private nextId = 1;
  isOnline = false;
  private staged = new Map<Lane, Uint8Array[]>();
  private stagedBytes = 0;
  private position = 0n as Lsn;

  constructor(replica: Promise<Replica>, hooks: LanesHooks) {
    this.hooks = hooks;
    this.backlog = new Backlog(replica, {
      breach: (error) => hooks.breach(error),
      applied: (changed) => hooks.applied(changed),
      awaited: (id) => hooks.awaited(id),
      changed: () => hooks.changed(),
      failed: (lane, error) => this.giveUp(lane, error),
    });
  }

  /** Whether every subscription's rows are complete. */
  get allJoined(): boolean {
    return (
      this.isOnline &&
      this.lanes.values().every(({ stage, isApplied }) => (stage === "joined" && isApplied) || stage === "over")
    );
  }

  add(subscriber: Subscriber): void {
    this.subscribers.add(subscriber);
    if (this.isOnline) this.open(subscriber);
  }

  /** Resolves when its rows are gone from the replica. */
  remove(subscriber: Subscriber): Promise<void> {
    this.subscribers.delete(subscriber);
    const lane = this.laneOf(subscriber);
    if (lane && this.isOnline) this.hooks.send({ kind: "unsubscribe", id: lane.id });
    if (lane) this.end(lane);
    return new Promise((done) => this.backlog.push({ kind: "remove", member: subscriber.member, done }));
  }

  /** The rows of all shapes leave: another user is here. */
  purge(): void {
    for (const subscriber of this.subscribers)
      this.backlog.push({ kind: "remove", member: subscriber.member, done: () => {} });
  }

  // ── Receiving ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A new connection has greeted us; `isNewHistory`: it counts positions of another database than the one before. */
  online(isNewHistory: boolean): void {
    this.isOnline = true;
    if (isNewHistory) this.backlog.push({ kind: "newHistory" });
    this.position = 0n as Lsn;
    for (const subscriber of this.subscribers) this.open(subscriber);
    this.hooks.changed();
  }

  /** What was staged and not yet whole is lost; what is whole will still be applied. */
  offline(): void {
    this.isOnline = false;
    this.clearStaged();
    for (const lane of this.lanes.values()) this.end(lane);
    this.lanes = new Map();
    this.hooks.changed();
  }

  /** Throws WalcastError where the message cannot be. */
  message(message: ServerMessage): void {
    switch (message.kind) {
      case "described":
        return this.described(this.lane(message.id), message.table, message.estimatedRows);
      case "resync":
        return this.resync(this.lane(message.id));
      case "unsubscribed":
        return void this.lanes.delete(message.id);
      case "awaited":
        return this.backlog.push({ kind: "awaited", id: message.id });
      case "error":
        if (message.subscription !== undefined) this.refused(this.lane(message.subscription), message.error);
        return;
      case "welcome":
    }
  }

  frame(frame: Frame): void {
    switch (frame.kind) {
      case "copy":
        return frame.sections.forEach((section) => this.copied(section));
      case "catchUp":
        return frame.sections.forEach((section) => this.expect(section, "loading")?.catchUp.push(section.payload));
      case "commits":
        frame.sections.forEach((section) => this.stage(section));
        return frame.boundary ? this.boundary(frame.position, []) : undefined;
      case "join":
        return this.boundary(frame.position, frame.sections);
      case "position":
        return this.boundary(frame.position, []);
    }
  }

  private open(subscriber: Subscriber): void {
    const lane: Lane = {
      id: this.nextId++,
      subscriber,
      stage: "asked",
      load: undefined,
      isApplied: false,
      description: undefined,
      catchUp: [],
      rows: 0,
      bytes: 0,
    };
    this.lanes.set(lane.id, lane);
    subscriber.loading();
    this.hooks.send({
      kind: "subscribe",
      id: lane.id,
      shape: subscriber.request,
      ...(subscriber.changes ? { changes: true } : {}),
    });
    this.hooks.changed();
  }

  private described(lane: Lane | undefined, table: TableDescription, estimatedRows: number): void {
    if (!lane) return;
    if (lane.stage !== "asked") throw unexpected("a description", lane.stage);
    lane.stage = "loading";
    this.backlog.push({ kind: "described", lane, table, estimatedRows });
  }

  private copied(section: SectionIn): void {
    const lane = this.expect(section, "loading");
    if (lane) this.backlog.push({ kind: "copy", lane, lines: section.payload });
  }

  private stage(section: SectionIn): void {
    const lane = this.expect(section, "joined");
    if (!lane) return;
    const staged = this.staged.get(lane);
    if (staged) staged.push(section.payload);
    else this.staged.set(lane, [section.payload]);
    this.stagedBytes += section.payload.length;
  }

  private boundary(position: Lsn, joining: readonly SectionIn[]): void {
    if (position < this.position)
      throw new WalcastError(
        "frame_out_of_order",
        "read a frame: expected its position not to be before the last one's",
      );
    this.position = position;
    const joins = joining.flatMap((section) => this.joining(section) ?? []);
    this.backlog.push({ kind: "transaction", sections: this.staged, joins, position, bytes: this.stagedBytes });
    this.clearStaged();
  }

  private joining(section: SectionIn): Transaction["joins"][number] | undefined {
    const lane = this.expect(section, "loading");
    if (!lane) return undefined;
    lane.stage = "joined";
    const payloads = [...lane.catchUp, section.payload];
    lane.catchUp = [];
    return { lane, payloads };
  }

  private resync(lane: Lane | undefined): void {
    if (!lane) return;
    this.staged.delete(lane);
    lane.stage = "asked";
    lane.catchUp = [];
    this.backlog.push({ kind: "discard", lane });
    lane.subscriber.loading();
    this.hooks.changed();
  }

  private refused(lane: Lane | undefined, error: WalcastErrorJson): void {
    if (lane)
      this.fail(lane, new WalcastError(error.code, error.message, { position: error.position, hint: error.hint }));
  }

  /** The replica cannot hold it; the server has not heard of that. */
  private giveUp(lane: Lane, error: WalcastError): void {
    if (this.isOnline && this.lanes.get(lane.id) === lane) this.hooks.send({ kind: "unsubscribe", id: lane.id });
    this.fail(lane, error);
  }

  private fail(lane: Lane, error: WalcastError): void {
    this.end(lane);
    this.subscribers.delete(lane.subscriber);
    const tell = (): void => {
      lane.subscriber.failed(error);
      this.hooks.changed();
    };
    if (revoking.has(error.code)) this.backlog.push({ kind: "remove", member: lane.subscriber.member, done: tell });
    else tell();
  }

  private end(lane: Lane): void {
    if (lane.stage === "over") return;
    lane.stage = "over";
    this.staged.delete(lane);
    this.backlog.push({ kind: "discard", lane });
    this.hooks.changed();
  }

  private clearStaged(): void {
    this.staged = new Map();
    this.stagedBytes = 0;
  }

  private laneOf(subscriber: Subscriber): Lane | undefined {
    return this.lanes.values().find((lane) => lane.subscriber === subscriber && lane.stage !== "over");
  }

  /** Undefined for one that is over: the server may not know yet. */
  private lane(id: number): Lane | undefined {
    if (id >= this.nextId)
      throw new WalcastError(
        "malformed_message",
        `read a message: expected a subscription that was asked for, found ${id}`,
      );
    const lane = this.lanes.get(id);
    return lane?.stage === "over" ? undefined : lane;
  }

  private expect({ subscription }: SectionIn, stage: Lane["stage"]): Lane | undefined {
    const lane = this.lane(subscription);
    if (lane && lane.stage !== stage) throw unexpected("rows", lane.stage);
    return lane;
  }
}

type WalcastErrorJson = Extract<ServerMessage, { kind: "error" }>["error"];
