/**
 * One load of a lane: the rows of a snapshot, as they are read, then the transactions that the snapshot did not see, until
 * nothing of these is left. Then the lane joins, in that very turn of the event loop.
 */
import { sees } from "../changes/pg-snapshot.ts";
import { TableMoved } from "../changes/reading.ts";
import type { Snapshot } from "../changes/snapshot.ts";
import { oidsOf } from "../changes/table.ts";
import { type Transaction, touches } from "../changes/transaction.ts";
import type { Lsn, Payload, SectionOut } from "../protocol.ts";
import { Registry, type Routed } from "../shapes/registry.ts";
import type { Shape } from "../shapes/shape.ts";
import { runs } from "./delivery.ts";
import type { Feed } from "./feed.ts";
import type { Hub } from "./hub.ts";
import type { Lane } from "./lane.ts";

/** What is replayed in the turn in which a lane joins, as WAL bytes of its table. More is read batch by batch before. */
const lastStretchBytes = 1 << 20;

/** Whoever loads. Once it is over nothing more is sent for it. */
export type Loading = Pick<Lane, "id" | "feed" | "changes" | "isOver">;

export interface LoadOptions {
  readonly shape: Shape;
  readonly snapshot: Snapshot;
  /** Who wants changes only was told those up to here; undefined: what was committed before the join is no news to them. */
  readonly after: Lsn | undefined;
}

export class Load {
  private readonly hub: Hub;
  private readonly lane: Loading;
  private readonly feed: Feed;
  private readonly snapshot: Snapshot;
  private readonly after: Lsn | undefined;
  private readonly alone: Registry<Loading>;
  private readonly tables: ReadonlySet<number>;

  constructor(hub: Hub, lane: Loading, { shape, snapshot, after }: LoadOptions) {
    this.after = after;
    this.hub = hub;
    this.lane = lane;
    this.feed = lane.feed;
    this.snapshot = snapshot;
    this.alone = new Registry(hub.frameBytes);
    this.alone.add(shape, lane);
    this.tables = new Set(oidsOf(shape.table));
  }

  /** The client has the first `from` frames of rows. Calls `join` with what was left, at most one payload; or not at all, where the lane is over. Rejects with TableMoved, or `where_failed`. */
  async run(from: number, join: (position: Lsn, rest: readonly Payload[]) => void): Promise<void> {
    await this.sendRows(from);
    await this.snapshot.barrier;
    await this.catchUp(join);
  }

  private async sendRows(from: number): Promise<void> {
    const { frames } = this.feed;
    for (let n = from; ; n++) {
      const rows = await this.snapshot.spool.piece(n);
      if (!rows || this.lane.isOver) return;
      frames.frame("copy", false, frames.position, [this.section(rows)]);
      await frames.room();
    }
  }

  /**
   * Replays what the snapshot did not see, batch by batch while there is much of it, and joins in the same turn of the
   * event loop in which nothing was left: between the last replay and the join no transaction can come. A connection that
   * is behind is waited for, as it has one position for all that has joined.
   */
  private async catchUp(join: (position: Lsn, rest: readonly Payload[]) => void): Promise<void> {
    let after = this.after ?? this.snapshot.pin.from;
    // Another engine was further.
    if (after > this.hub.position) await this.hub.reached(after, this.feed);
    while (!this.lane.isOver) {
      await this.feed.live();
      // That may have taken long, and somebody who is not subscribed any more joins nothing.
      if (this.lane.isOver) return;
      const rest = this.unseen(this.hub.tail.recent(after));
      if (!rest || !isShort(rest)) {
        after = await this.readOn(after);
        continue;
      }
      const end = this.hub.position;
      const payloads = this.replayed(this.alone.route(rest));
      if (payloads.length <= 1 && this.feed.isLive) return join(end, payloads);
      await this.send(payloads);
      after = end;
    }
  }

  /** Up to about the log's end. Gives where that was. */
  private async readOn(after: Lsn): Promise<Lsn> {
    let end = after;
    for await (const batch of this.hub.tail.read(after, this.tables)) {
      for (const run of runs(batch.transactions.filter((one) => this.isMissing(one)))) {
        if (run[0]!.large) await this.replayLarge(run[0]!);
        else await this.send(this.replayed(this.alone.route(run)));
      }
      end = batch.end;
      if (this.lane.isOver) return end;
    }
    return end;
  }

  private async replayLarge(transaction: Transaction): Promise<void> {
    this.replayed(this.alone.examine(transaction));
    if (!this.alone.concerns(transaction)) return;
    for await (const part of transaction.large!.parts()) {
      await this.send(this.replayed(this.alone.routePart(transaction, part)));
      if (this.lane.isOver) return;
    }
  }

  private async send(payloads: readonly Payload[]): Promise<void> {
    const { frames } = this.feed;
    for (const payload of payloads) {
      await frames.room(payload.bytes.length);
      if (this.lane.isOver) return;
      frames.frame("catchUp", false, frames.position, [this.section(payload)]);
    }
  }

  private replayed({ changed, broken, failed }: Routed<Loading>): readonly Payload[] {
    if (broken.length > 0) throw new TableMoved();
    if (this.lane.changes && this.after === undefined) return [];
    if (failed[0]) throw failed[0].failure;
    return changed[0]?.payloads ?? [];
  }

  private unseen(transactions: readonly Transaction[] | undefined): readonly Transaction[] | undefined {
    return transactions?.filter((transaction) => touches(transaction, this.tables) && this.isMissing(transaction));
  }

  /** Changes are in the log's order, whatever a snapshot sees of them. */
  private isMissing({ xid }: Transaction): boolean {
    return this.after !== undefined || !sees(this.snapshot.token, xid);
  }

  private section(payload: Payload): SectionOut {
    return { subscription: this.lane.id, payload };
  }
}

function isShort(transactions: readonly Transaction[]): boolean {
  return (
    transactions.every(({ large }) => !large) &&
    transactions.reduce((sum, { bytes }) => sum + bytes.length, 0) <= lastStretchBytes
  );
}
