/**
 * One subscription of one connection, from its first row to its last. While it loads it is a lane with a position of its
 * own: rows of a snapshot, then the transactions that the snapshot did not see, then it *joins* the connection at a
 * commit boundary and its changes come with everybody else's. If its table changes, it goes through all that again
 * beside the rows that the client still shows. One that resumes has its rows, and joins where the client left off.
 *
 *     resuming ─────┐
 *        │ other    ▼
 *     loading ──▶ joined ──▶ over
 *        ▲          │
 *        └─ resync ─┘        (over: unsubscribed, refused, or the connection is gone)
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { must } from "../invariants.ts";
import { sees } from "../changes/pg-snapshot.ts";
import { oidsOf } from "../changes/table.ts";
import { type Snapshot, TableMoved } from "../changes/snapshot.ts";
import type { Spool } from "../changes/spool.ts";
import { isPostgresAway } from "../changes/connection.ts";
import type { Transaction } from "../changes/transaction.ts";
import { type ErrorJson, type Lsn, type Payload, type SectionOut, WalcastError } from "../protocol.ts";
import { Registry, type Routed } from "../shapes/registry.ts";
import { describeShape, isSameAccess, type Shape } from "../shapes/shape.ts";
import { runs, touches } from "./delivery.ts";
import type { Feed } from "./feed.ts";
import type { Frames } from "./frames.ts";
import type { Hub } from "./hub.ts";

const copyFrameBytes = 256 * 1024;
const retryMs = 200;
const retryMsMax = 5_000;

/** What is replayed in the turn in which a lane joins, as WAL bytes of its table. More is read batch by batch before. */
const lastStretchBytes = 1 << 20;

export interface LaneOptions {
  /** The subscription's. */
  readonly id: number;
  readonly changes: boolean;
  /** What was asked for, as the database and the client's rights are now. */
  readonly resolve: () => Promise<Shape>;
  /** The subscription is over, and nothing is under way for it any more. */
  readonly onEnded: () => void;
}

export class Lane {
  readonly id: number;
  readonly feed: Feed;
  private readonly frames: Frames;
  private readonly hub: Hub;
  private readonly options: LaneOptions;
  private shape: Shape | undefined;
  private over = false;
  /** What is under way for it: a load, or a comparison that leads to one. */
  private running = 0;
  private asked = false;
  /** The client was told of a description: another one has to be announced. */
  private described = false;

  constructor(hub: Hub, feed: Feed, options: LaneOptions) {
    this.hub = hub;
    this.feed = feed;
    this.frames = feed.frames;
    this.id = options.id;
    this.options = options;
  }

  /** Ends when the lane has joined, or is over. Never rejects: what goes wrong is told to the client. */
  load(): Promise<void> {
    return this.run(() => this.keepLoading());
  }

  private async keepLoading(): Promise<void> {
    for (let attempt = 0; !this.over; attempt++) {
      try {
        return await this.loadOnce();
      } catch (error) {
        if (this.over) return;
        if (!mayRetry(error)) return this.fail(error);
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
        return this.compare(identity, await this.options.resolve());
      } catch (error) {
        if (this.over) return;
        if (!isPostgresAway(error)) return this.fail(error);
        await delay(backoffMs(attempt));
      }
    }
  }

  /** The table is not what it was: the rows stay as they are until new ones replace them. */
  resync(cause: ErrorJson): void {
    this.withdraw();
    this.announceResync(cause);
    void this.load();
  }

  /** The client is asked whether its rows at the last boundary sum up to this. */
  ask(rows: string, hash: string): void {
    this.asked = true;
    this.frames.control({ kind: "audit", id: this.id, rows, hash });
  }

  /** It was asked, and this is what it says. */
  answered(matches: boolean): void {
    if (!this.asked) return;
    this.asked = false;
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

  end(): void {
    this.over = true;
    this.withdraw();
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

  private withdraw(): void {
    this.feed.leave(this);
  }

  private compare(identity: string, shape: Shape): void {
    if (this.over) return;
    if (identity === shape.key) {
      this.shape = shape;
      this.frames.control({ kind: "resumed", id: this.id });
      return this.feed.join(this, shape);
    }
    if (isSameAccess(identity, shape)) this.announceResync(changedMeanwhile);
    else this.announceResync(otherAccess, true);
    void this.load();
  }

  /** `purge`: what the client shows is not what it may read, or not what it asks for. */
  private announceResync(cause: ErrorJson, purge = false): void {
    if (!this.described) return;
    this.described = false;
    this.hub.resyncs.set(cause.code, (this.hub.resyncs.get(cause.code) ?? 0) + 1);
    this.frames.control({ kind: "resync", id: this.id, cause, ...(purge ? { purge } : {}) });
  }

  private fail(error: unknown): void {
    const failure =
      error instanceof WalcastError
        ? error
        : new WalcastError("snapshot_failed", "load a shape: an unexpected error, which the engine's log tells");
    if (failure !== error) this.hub.log.error({ err: error }, "loading a shape failed");
    this.end();
    this.frames.control({ kind: "error", subscription: this.id, error: failure.toJSON() });
  }

  private async loadOnce(): Promise<void> {
    const shape = await this.resolveVisible();
    if (this.over) return;
    this.shape = shape;
    const snapshot = await this.hub.snapshots.open(shape);
    try {
      await this.frames.room();
      this.describe(shape, snapshot.estimatedRows);
      await this.sendRows(snapshot.spool);
      await snapshot.barrier;
      await this.catchUp(shape, snapshot);
    } finally {
      snapshot.release();
    }
  }

  /**
   * A commit can be streamed before anybody sees it: a table that was made anew may not be there yet for the catalog's
   * readers. So a refusal of what was served before counts only once all that was streamed is visible.
   */
  private async resolveVisible(): Promise<Shape> {
    try {
      return await this.options.resolve();
    } catch (error) {
      if (!this.shape || !(error instanceof WalcastError)) throw error;
      await this.hub.snapshots.seeing(this.hub.position, () => this.over);
      this.hub.forget(this.shape.table.oid);
      return this.options.resolve();
    }
  }

  private describe(shape: Shape, estimatedRows: number): void {
    if (this.over) return;
    this.described = true;
    this.frames.control({ kind: "described", id: this.id, table: describeShape(shape), estimatedRows });
  }

  private async sendRows(spool: Spool): Promise<void> {
    let offset = 0;
    while (!this.over) {
      const bytes = await spool.read(offset, copyFrameBytes);
      if (bytes.length === 0) return;
      const lines = await wholeLines(spool, offset, bytes);
      if (this.over) return;
      offset += lines.length;
      this.frames.frame("copy", false, this.frames.position, [this.section(asPayload(lines))]);
      await this.frames.room();
    }
  }

  /**
   * Replays what the snapshot did not see, batch by batch while there is much of it, and joins in the same turn of the
   * event loop in which nothing was left: between the last replay and the join no transaction can come. A connection that
   * is behind is waited for, as it has one position for all that has joined.
   */
  private async catchUp(shape: Shape, snapshot: Snapshot): Promise<void> {
    const alone = new Registry<Lane>(this.hub.frameBytes);
    alone.add(shape, this);
    const tables = new Set(oidsOf(shape.table));
    let after = snapshot.pin.from;
    while (!this.over) {
      await this.feed.live();
      // That may have taken long, and somebody who is not subscribed any more joins nothing.
      if (this.over) return;
      const rest = this.unseen(this.hub.tail.recent(after), tables, snapshot);
      if (!rest || !isShort(rest)) {
        after = await this.readOn(alone, tables, snapshot, after);
        continue;
      }
      const end = this.hub.position;
      const payloads = this.replayed(alone.route(rest));
      if (payloads.length <= 1 && this.feed.isLive) return this.join(shape, end, payloads);
      await this.sendReplayed(payloads);
      after = end;
    }
  }

  /** Up to about the log's end. Gives where that was. */
  private async readOn(
    alone: Registry<Lane>,
    tables: ReadonlySet<number>,
    snapshot: Snapshot,
    after: Lsn,
  ): Promise<Lsn> {
    let end = after;
    for await (const batch of this.hub.tail.read(after, tables)) {
      for (const run of runs(batch.transactions.filter(({ xid }) => !sees(snapshot.token, xid)))) {
        if (run[0]!.large) await this.replayLarge(alone, run[0]!);
        else await this.sendReplayed(this.replayed(alone.route(run)));
      }
      end = batch.end;
      if (this.over) return end;
    }
    return end;
  }

  private async replayLarge(alone: Registry<Lane>, transaction: Transaction): Promise<void> {
    this.replayed({ changed: [], broken: alone.examine(transaction) });
    if (!alone.concerns(transaction)) return;
    for await (const part of transaction.large!.parts()) {
      await this.sendReplayed(this.replayed(alone.routePart(transaction, part)));
      if (this.over) return;
    }
  }

  private async sendReplayed(payloads: readonly Payload[]): Promise<void> {
    for (const payload of payloads) {
      await this.frames.room(payload.bytes.length);
      if (this.over) return;
      this.frames.frame("catchUp", false, this.frames.position, [this.section(payload)]);
    }
  }

  private replayed({ changed, broken }: Routed<Lane>): readonly Payload[] {
    if (broken.length > 0) throw new TableMoved();
    // What was committed before the join is no news to those who want changes only.
    return this.options.changes ? [] : (changed[0]?.payloads ?? []);
  }

  private unseen(
    transactions: readonly Transaction[] | undefined,
    tables: ReadonlySet<number>,
    { token }: Snapshot,
  ): readonly Transaction[] | undefined {
    return transactions?.filter((transaction) => touches(transaction, tables) && !sees(token, transaction.xid));
  }

  private join(shape: Shape, position: Lsn, payloads: readonly Payload[]): void {
    must(!this.feed.joined.has(this), "joined_whole", "a lane joins once");
    this.makeRoomFor(shape);
    this.frames.frame(
      "join",
      true,
      position,
      payloads.map((payload) => this.section(payload)).concat(payloads.length === 0 ? [this.section(nothing)] : []),
    );
    this.feed.join(this, shape);
  }

  /** Where the catalog has to be polled, others may not know yet that the table changed: they hear of it now. */
  private makeRoomFor({ table }: Shape): void {
    const version = this.hub.live.versionOf(table.oid);
    if (version !== undefined && version !== table.version) this.hub.tableChanged(table.oid);
  }

  private section(payload: Payload): SectionOut {
    return { subscription: this.id, payload };
  }
}

const nothing: Payload = { bytes: new Uint8Array(0), crc: 0 };

function asPayload(bytes: Buffer): Payload {
  return { bytes, crc: crc32(bytes) };
}

const newline = 0x0a;

/** COPY's lines never contain a raw newline, so the last one found ends the last whole row. A longer row is read whole. */
async function wholeLines(spool: Spool, offset: number, bytes: Buffer): Promise<Buffer> {
  let found = bytes;
  for (;;) {
    const end = found.lastIndexOf(newline);
    if (end >= 0) return found.subarray(0, end + 1);
    const more = await spool.read(offset + found.length, copyFrameBytes);
    assert(more.length > 0, "COPY ends every row with a newline");
    found = Buffer.concat([found, more]);
  }
}

function isShort(transactions: readonly Transaction[]): boolean {
  return (
    transactions.every(({ large }) => !large) &&
    transactions.reduce((sum, { bytes }) => sum + bytes.length, 0) <= lastStretchBytes
  );
}

const changedMeanwhile: ErrorJson = {
  code: "schema_changed",
  message: "resume: the table changed meanwhile: its rows are loaded again",
};

const otherAccess: ErrorJson = {
  code: "access_changed",
  message: "resume: what this client asks for, or may read, is not what it has: its rows are loaded anew",
};

function backoffMs(attempt: number): number {
  return Math.min(retryMs * 2 ** attempt, retryMsMax) * Math.random();
}

function mayRetry(error: unknown): boolean {
  return (
    error instanceof TableMoved ||
    isPostgresAway(error) ||
    (error instanceof WalcastError && (error.code === "snapshot_failed" || error.code === "position_too_old"))
  );
}

function causeOf(error: unknown): ErrorJson {
  if (error instanceof WalcastError && error.code !== "position_too_old") return error.toJSON();
  if (error instanceof WalcastError)
    return { code: "snapshot_failed", message: "the log let go of what this shape needs before it was loaded" };
  if (error instanceof TableMoved)
    return { code: "schema_changed", message: "the table changed while its rows were read" };
  return { code: "snapshot_failed", message: "Postgres cannot be asked just now; it is tried again" };
}
