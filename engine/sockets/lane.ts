/**
 * One subscription of one connection, from its first row to its last. While it loads it is a lane with a position of its
 * own: rows of a snapshot, then the transactions that the snapshot did not see, then it *joins* the connection at a
 * commit boundary and its changes come with everybody else's. If its table changes, it goes through all that again
 * beside the rows that the client still shows.
 *
 *     loading ──▶ joined ──▶ over
 *        ▲          │
 *        └─ resync ─┘        (over: unsubscribed, refused, or the connection is gone)
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { sees } from "../changes/pg-snapshot.ts";
import { type Snapshot, TableMoved } from "../changes/snapshot.ts";
import type { Spool } from "../changes/spool.ts";
import { isPostgresAway } from "../changes/connection.ts";
import { type ErrorJson, type Lsn, type Payload, type SectionOut, WalcastError, zeroLsn } from "../protocol.ts";
import { Registry } from "../shapes/registry.ts";
import { describeShape, type Shape } from "../shapes/shape.ts";
import type { Frames } from "./frames.ts";
import type { Hub } from "./hub.ts";

const copyFrameBytes = 256 * 1024;
const retryMs = 200;
const retryMsMax = 5_000;

export interface LaneOptions {
  /** The subscription's. */
  readonly id: number;
  readonly changes: boolean;
  /** What was asked for, as the database and the client's rights are now. */
  readonly resolve: () => Promise<Shape>;
  /** The subscription has failed and is over. */
  readonly onFailed: () => void;
}

export class Lane {
  readonly id: number;
  readonly frames: Frames;
  private readonly hub: Hub;
  private readonly options: LaneOptions;
  private shape: Shape | undefined;
  private joined = false;
  private over = false;
  /** The client was told of a description: another one has to be announced. */
  private described = false;

  constructor(hub: Hub, frames: Frames, options: LaneOptions) {
    this.hub = hub;
    this.frames = frames;
    this.id = options.id;
    this.options = options;
  }

  /** Ends when the lane has joined, or is over. Never rejects: what goes wrong is told to the client. */
  async load(): Promise<void> {
    for (let attempt = 0; !this.over; attempt++) {
      try {
        return await this.loadOnce();
      } catch (error) {
        if (this.over) return;
        if (!mayRetry(error)) return this.fail(error);
        if (this.shape) this.hub.forget(this.shape.table.oid);
        this.announceResync(causeOf(error));
        await delay(Math.min(retryMs * 2 ** attempt, retryMsMax) * Math.random());
      }
    }
  }

  /** The table is not what it was: the rows stay as they are until new ones replace them. */
  resync(cause: ErrorJson): void {
    this.withdraw();
    this.announceResync(cause);
    void this.load();
  }

  end(): void {
    this.over = true;
    this.withdraw();
  }

  private withdraw(): void {
    if (this.joined && this.shape) this.hub.live.delete(this.shape, this);
    this.joined = false;
  }

  private announceResync(cause: ErrorJson): void {
    if (!this.described) return;
    this.described = false;
    this.hub.resyncs.set(cause.code, (this.hub.resyncs.get(cause.code) ?? 0) + 1);
    this.frames.control({ kind: "resync", id: this.id, cause });
  }

  private fail(error: unknown): void {
    const failure =
      error instanceof WalcastError
        ? error
        : new WalcastError("snapshot_failed", "load a shape: an unexpected error, which the engine's log tells");
    if (failure !== error) this.hub.log.error({ err: error }, "loading a shape failed");
    this.end();
    this.options.onFailed();
    this.frames.control({ kind: "error", subscription: this.id, error: failure.toJSON() });
  }

  private async loadOnce(): Promise<void> {
    const shape = await this.options.resolve();
    if (this.over) return;
    this.shape = shape;
    const snapshot = await this.hub.snapshots.open(shape);
    try {
      this.describe(shape, snapshot.estimatedRows);
      await this.sendRows(snapshot.spool);
      await snapshot.barrier;
      await this.catchUp(shape, snapshot);
    } finally {
      snapshot.release();
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
   * Replays what the snapshot did not see, in rounds while there is much of it, and joins in the same turn of the event
   * loop in which nothing was left: between the last round and the join no transaction can come.
   */
  private async catchUp(shape: Shape, snapshot: Snapshot): Promise<void> {
    let after = zeroLsn;
    while (!this.over) {
      const end = this.hub.tail.end;
      const payloads = this.replay(shape, snapshot, after);
      if (payloads.length <= 1) return this.join(shape, end, payloads);
      for (const payload of payloads) {
        this.frames.frame("catchUp", false, this.frames.position, [this.section(payload)]);
        await this.frames.room();
      }
      after = end;
    }
  }

  private replay(shape: Shape, snapshot: Snapshot, after: Lsn): readonly Payload[] {
    const alone = new Registry<Lane>(this.hub.frameBytes);
    alone.add(shape, this);
    const unseen = snapshot.pin.read(after);
    const { changed, broken } = alone.route(filter(unseen, (transaction) => !sees(snapshot.token, transaction.xid)));
    if (broken.length > 0) throw new TableMoved();
    // What was committed before the join is no news to those who want changes only.
    return shape.changes ? [] : (changed[0]?.payloads ?? []);
  }

  private join(shape: Shape, position: Lsn, payloads: readonly Payload[]): void {
    assert(!this.joined, "a lane joins once");
    this.makeRoomFor(shape);
    this.frames.frame(
      "join",
      true,
      position,
      payloads.map((payload) => this.section(payload)).concat(payloads.length === 0 ? [this.section(nothing)] : []),
    );
    this.joined = true;
    this.hub.live.add(shape, this);
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

function* filter<T>(items: Iterable<T>, keep: (item: T) => boolean): Iterable<T> {
  for (const item of items) if (keep(item)) yield item;
}

function mayRetry(error: unknown): boolean {
  return (
    error instanceof TableMoved ||
    isPostgresAway(error) ||
    (error instanceof WalcastError && error.code === "snapshot_failed")
  );
}

function causeOf(error: unknown): ErrorJson {
  if (error instanceof WalcastError) return error.toJSON();
  if (error instanceof TableMoved)
    return { code: "schema_changed", message: "the table changed while its rows were read" };
  return { code: "snapshot_failed", message: "Postgres cannot be asked just now; it is tried again" };
}
