/**
 * One subscription of one connection, from its first row to its last. While it loads it is a lane with a position of its
 * own (load.ts): rows of a snapshot, then the transactions that it did not see, then it *joins* the connection at a
 * commit boundary and its changes come with everybody else's. If its table changes, it goes through all that again
 * beside the rows that the client still shows. One that resumes has its rows, and joins where the client left off.
 *
 *     resuming ─────┐
 *        │ other    ▼
 *     loading ──▶ joined ──▶ over
 *        ▲          │
 *        └─ resync ─┘        (over: unsubscribed, refused, or the connection is gone)
 */
import { setTimeout as delay } from "node:timers/promises";
import { must } from "../invariants.ts";
import type { Snapshot } from "../changes/snapshot.ts";
import { isPostgresAway } from "../changes/connection.ts";
import { type ErrorJson, type LoadPart, type Lsn, type Payload, WalcastError } from "../protocol.ts";
import { MessageShape } from "../shapes/message-shape.ts";
import { describeShape, isSameAccess, Shape } from "../shapes/shape.ts";
import { Asked, type AskedOptions } from "./asked.ts";
import { backoffMs, causeOf, changedMeanwhile, mayRetry, otherAccess } from "./causes.ts";
import type { Feed } from "./feed.ts";
import type { Frames } from "./frames.ts";
import { type From, History } from "./history.ts";
import type { Hub } from "./hub.ts";
import { Load, type Loading } from "./load.ts";

export interface LaneOptions extends AskedOptions {
  /** The subscription's. */
  readonly id: number;
  readonly changes: boolean;
  /** What the client might read when the rows came that it shows, if it has some and says so. */
  readonly shown: string | undefined;
  /** The subscription is over, and what is under way for it is for nothing. */
  readonly onOver?: () => void;
  /** The subscription is over, and nothing is under way for it any more. */
  readonly onEnded: () => void;
}

/** What the client has of it from an earlier connection. */
export interface Had {
  readonly part?: LoadPart | undefined;
  /** Changes up to there; those that follow come first. */
  readonly told?: { readonly identity: string; readonly after: Lsn } | undefined;
}

export class Lane {
  readonly id: number;
  readonly feed: Feed;
  readonly changes: boolean;
  private readonly frames: Frames;
  private readonly hub: Hub;
  private readonly options: LaneOptions;
  private readonly asked: Asked;
  shape: Shape | MessageShape | undefined;
  /** Of messages: which earlier ones come first. */
  private from: From = {};
  private over = false;
  private mayReturn = false;
  /** What is under way for it: a load, or a comparison that leads to one. */
  private running = 0;
  private isAudited = false;
  /** The newest load; those before it send nothing any more. */
  private current: object | undefined;
  /** By which right the client has rows, or some are on their way, as it said or was told; undefined where it keeps none. */
  told: string | undefined;
  /** What it may read now, as far as it has been looked at. */
  private right: string | undefined;
  /** The client was told of a description: another one has to be announced. */
  private described = false;

  constructor(hub: Hub, feed: Feed, options: LaneOptions) {
    this.hub = hub;
    this.feed = feed;
    this.frames = feed.frames;
    this.id = options.id;
    this.changes = options.changes;
    this.told = options.shown;
    this.options = options;
    this.asked = new Asked(hub, feed, options);
  }

  /** Nothing is sent for it any more. */
  get isOver(): boolean {
    return this.over;
  }

  /** Ends when the lane has joined, or is over. Never rejects: what goes wrong is told to the client. */
  load(had: Had = {}): Promise<void> {
    const load = (this.current = {});
    return this.run(() => this.keepLoading(() => this.over || this.current !== load, had));
  }

  /** Of messages: the same, from there on. */
  loadFrom(from: From): void {
    this.from = from;
    if (!this.over) void this.load();
  }

  private async keepLoading(isOver: () => boolean, first: Had): Promise<void> {
    let had = first;
    for (let attempt = 0; !isOver(); attempt++) {
      try {
        return await this.loadOnce(isOver, had);
      } catch (error) {
        if (isOver()) return;
        if (!mayRetry(error)) return this.fail(error);
        // Once it is described, changes may have been sent.
        had = this.described ? {} : { told: had.told };
        if (this.shape) this.hub.forget(this.shape.table.oid);
        this.announceResync(causeOf(error));
        await delay(backoffMs(attempt));
      }
    }
  }

  /**
   * The client has this shape at its connection's position, and knows it by this identity. Ends when the client was told
   * whether it still is what it was; if not, it loads.
   */
  resume(identity: string): Promise<void> {
    this.described = true;
    return this.run(() => this.keepComparing(identity));
  }

  private async keepComparing(identity: string): Promise<void> {
    for (let attempt = 0; !this.over; attempt++) {
      try {
        return this.compare(identity, await this.asked.knownAs(identity));
      } catch (error) {
        if (this.over) return;
        if (!isPostgresAway(error)) return this.fail(error);
        await delay(backoffMs(attempt));
      }
    }
  }

  /**
   * The client's rights have changed. Gives what follows, to be done at once for all its lanes; until then what it has goes on
   * under the old ones. Never rejects.
   */
  async review(): Promise<() => void> {
    const { shape: before } = this;
    // What it does not have yet is resolved by the new rights, but what it shows meanwhile is not; and what is compared is, too.
    if (!before && (this.told === undefined || this.described)) return () => {};
    for (let attempt = 0; !this.over; attempt++) {
      try {
        const shape = await this.asked.after(this);
        return () => this.reviewed(before, shape);
      } catch (error) {
        if (!isPostgresAway(error)) return () => this.over || this.fail(error);
        await delay(backoffMs(attempt));
      }
    }
    return () => {};
  }

  /** Whatever replaced its shape meanwhile was resolved by the new rights, too. */
  private reviewed(before: Shape | MessageShape | undefined, shape: Shape | MessageShape): void {
    if (this.over || this.shape !== before) return;
    if (!before) {
      // What had come of its rows is gone with what it showed.
      if (shape instanceof Shape && this.purgeOthers(shape)) void this.load();
      return;
    }
    if (isSameRight(before, shape)) return this.keepAs(shape);
    this.withdraw();
    this.announceResync(otherAccess, shape instanceof Shape);
    void this.load();
  }

  /** The table is not what it was: the rows stay as they are until new ones replace them. */
  resync(cause: ErrorJson): void {
    this.withdraw();
    this.announceResync(cause);
    void this.load();
  }

  /** The client is asked whether its rows at the last boundary sum up to this. */
  ask(rows: string, hash: string): void {
    this.isAudited = true;
    this.frames.control({ kind: "audit", id: this.id, rows, hash });
  }

  /** It was asked, and this is what it says. */
  answered(matches: boolean): void {
    if (!this.isAudited) return;
    this.isAudited = false;
    if (!this.feed.joined.has(this)) return;
    this.hub.audits.answered(matches ? "matched" : "mismatched");
    if (matches) return;
    const { shape, id: subscription } = this;
    this.hub.log.warn({ table: shape?.table.name, subscription }, "a client says that its rows are not Postgres'");
    this.resync({
      code: "audit_mismatch",
      message: "audit: the client says that its rows are not Postgres': they are loaded again",
    });
  }

  /** The client is told, and nothing is sent for it any more. */
  fail(error: unknown): void {
    const failure =
      error instanceof WalcastError
        ? error
        : new WalcastError("snapshot_failed", "load a shape: an unexpected error, which the engine's log tells");
    if (failure !== error) this.hub.log.error({ err: error }, "loading a shape failed");
    else if (failure.code === "forbidden" && failure.cause !== undefined)
      this.hub.log.warn({ err: failure }, "a read rule cannot be applied, so it allows nothing");
    this.end();
    this.hub.noteRefusal(failure.code);
    this.frames.control({ kind: "error", subscription: this.id, error: failure.toJSON() });
  }

  /** `mayReturn`: its connection is gone, and its client may come back for the rest of the rows. */
  end({ mayReturn = false } = {}): void {
    this.over = true;
    this.mayReturn = mayReturn;
    this.withdraw();
    this.options.onOver?.();
    if (this.running === 0) this.options.onEnded();
  }

  private async run(work: () => Promise<void>): Promise<void> {
    this.running++;
    try {
      await work();
    } finally {
      if (--this.running === 0 && this.over) this.options.onEnded();
    }
  }

  /** Messages go on from where the client is. */
  private withdraw(): void {
    if (this.feed.joined.has(this)) this.from = { since: this.frames.position };
    this.feed.leave(this);
  }

  private compare(identity: string, shape: Shape | MessageShape): void {
    if (this.over) return;
    if (identity === shape.key) {
      this.shape = shape;
      if (shape instanceof Shape && !this.changes) this.told ??= shape.right;
      this.frames.control({ kind: "resumed", id: this.id });
      this.feed.join(this, shape);
      return this.keepAs(shape);
    }
    if (shape instanceof MessageShape) return this.fail(otherMessages());
    const { told } = this;
    const isOthers = told === undefined ? !isSameAccess(identity, shape) : told !== shape.right;
    if (isOthers) this.announceResync(otherAccess, true);
    else this.announceResync(changedMeanwhile);
    void this.load();
  }

  /** Its rows are the same by this right: they stay, also where the client is away when their table changes. */
  private keepAs(shape: Shape | MessageShape): void {
    if (shape instanceof MessageShape || this.changes) return;
    this.right = shape.right;
    if (this.feed.joined.has(this)) this.tellRight();
  }

  /** Of rows that are on their way the client is told once they are there. */
  private tellRight(): void {
    if (this.told === undefined || this.right === undefined || this.told === this.right) return;
    this.told = this.right;
    this.frames.control({ kind: "access", id: this.id, access: this.right });
  }

  /** `purge`: what the client shows is not what it may read, or not what it asks for; said also where other rows were to come already. */
  private announceResync(cause: ErrorJson, purge = false): void {
    if (!this.described && !(purge && this.told !== undefined)) return;
    this.described = false;
    if (purge) this.told = undefined;
    this.hub.resyncs.set(cause.code, (this.hub.resyncs.get(cause.code) ?? 0) + 1);
    this.frames.control({ kind: "resync", id: this.id, cause, ...(purge ? { purge } : {}) });
  }

  private async loadOnce(isOver: () => boolean, { part, told }: Had): Promise<void> {
    const shape = await this.asked.after(this);
    if (isOver()) return;
    this.shape = shape;
    if (shape instanceof MessageShape) return this.loadMessages(shape, isOver);
    const isOthers = this.purgeOthers(shape);
    const snapshot = await this.hub.snapshots.open(shape);
    try {
      await this.frames.room();
      if (isOver()) return;
      const continues = !isOthers && part?.id === snapshot.id;
      this.describe(shape, snapshot, continues);
      const after = told?.identity === shape.key ? told.after : undefined;
      const load = new Load(this.hub, this.loading(isOver), { shape, snapshot, after });
      await load.run(continues ? part.frames : 0, (position, rest) => this.join(shape, position, rest));
    } finally {
      snapshot.release({ mayReturn: this.mayReturn });
    }
  }

  private async loadMessages(shape: MessageShape, isOver: () => boolean): Promise<void> {
    await this.frames.room();
    if (isOver()) return;
    const history = new History(this.hub, this.loading(isOver), shape, this.from);
    this.described = true;
    this.frames.control({ kind: "listening", id: this.id, identity: shape.key, ...history.begin() });
    // What the log lets go of meanwhile is told as missing by the next attempt.
    this.from = { since: history.after };
    await history.run((position, rest) => this.join(shape, position, rest));
  }

  /** Rows of somebody else, of whatever the client has, leave before anything is waited for. */
  private purgeOthers(shape: Shape): boolean {
    this.right = shape.right;
    if (this.told === undefined || this.told === this.right) return false;
    this.announceResync(otherAccess, true);
    return true;
  }

  private loading(isOver: () => boolean): Loading {
    const { id, feed, changes } = this;
    return {
      id,
      feed,
      changes,
      get isOver() {
        return isOver();
      },
    };
  }

  private describe(shape: Shape, { id: load, estimatedRows }: Snapshot, continues: boolean): void {
    this.described = true;
    const table = describeShape(shape);
    if (!this.changes) this.told = table.access;
    this.frames.control({
      kind: "described",
      id: this.id,
      table,
      estimatedRows,
      ...(this.changes ? {} : { load }),
      ...(continues ? { continues } : {}),
    });
  }

  private join(shape: Shape | MessageShape, position: Lsn, payloads: readonly Payload[]): void {
    must(!this.feed.joined.has(this), "joined_whole", "a lane joins once");
    this.makeRoomFor(shape);
    const sections = (payloads.length === 0 ? [nothing] : payloads).map((payload) => ({
      subscription: this.id,
      payload,
    }));
    this.frames.frame("join", true, position, sections);
    this.feed.join(this, shape);
    this.tellRight();
  }

  /** Where the catalog has to be polled, others may not know yet that the table changed: they hear of it now. */
  private makeRoomFor({ table }: Pick<Shape, "table">): void {
    const version = this.hub.live.versionOf(table.oid);
    if (version !== undefined && version !== table.version) this.hub.tableChanged(table.oid);
  }
}

const nothing: Payload = { bytes: new Uint8Array(0), crc: 0 };

function isSameRight(before: Shape | MessageShape, shape: Shape | MessageShape): boolean {
  return shape instanceof Shape ? isSameAccess(before.key, shape) : before.digest === shape.digest;
}

function otherMessages(): WalcastError {
  return new WalcastError("malformed_message", "listen: expected the identity that was given to these topics or keys");
}
