/**
 * Earlier messages for one lane, from the log, until nothing of it is left; then the lane joins in that very turn of the event
 * loop. What is older than the log is not there, and that is said.
 */
import type { Transaction } from "../changes/transaction.ts";
import { touches } from "../changes/transaction.ts";
import { oidsOf } from "../changes/table.ts";
import { decodeCommits, type ErrorJson, formatLsn, type Lsn, type Payload } from "../protocol.ts";
import type { MessageShape } from "../shapes/message-shape.ts";
import { Registry, type Routed } from "../shapes/registry.ts";
import { runs } from "./delivery.ts";
import type { Hub } from "./hub.ts";
import type { Loading } from "./load.ts";

/** Replayed in the turn in which the lane joins, as bytes of transactions. */
const lastStretchBytes = 1 << 20;

export interface From {
  /** Messages after this position; with a limit alone, all that the log has; otherwise from now on. */
  readonly since?: Lsn;
  /** At most so many earlier ones: the newest. */
  readonly limit?: number;
  /** Why it cannot be from where the client wished. */
  readonly cause?: ErrorJson;
}

export class History {
  private readonly hub: Hub;
  private readonly lane: Loading;
  private readonly alone: Registry<Loading>;
  private readonly tables: ReadonlySet<number>;
  private readonly limit: number | undefined;
  private readonly cause: ErrorJson | undefined;
  /** Everything after it comes, within the limit. */
  readonly after: Lsn;

  constructor(hub: Hub, lane: Loading, shape: MessageShape, { since, limit, cause }: From) {
    const { tail } = hub;
    const wished = since ?? (limit === undefined ? hub.position : tail.start);
    this.hub = hub;
    this.lane = lane;
    this.limit = limit;
    this.after = wished < tail.start ? tail.start : wished;
    this.cause = wished < tail.start ? tooOld(wished, tail.start) : cause;
    this.alone = new Registry(hub.frameBytes);
    this.alone.add(shape, lane);
    this.tables = new Set(oidsOf(shape.table));
  }

  /** As `listening` has it. */
  begin(): { from: string; cause?: ErrorJson } {
    return { from: formatLsn(this.after), ...(this.cause ? { cause: this.cause } : {}) };
  }

  /** Calls `join` with what was left, at most one payload; or not at all, where the lane is over. Rejects where the log let go of it. */
  async run(join: (position: Lsn, rest: readonly Payload[]) => void): Promise<void> {
    const { hub, lane } = this;
    // Another engine was further.
    if (this.after > hub.position) await hub.reached(this.after, lane.feed);
    let { after } = this;
    if (this.limit !== undefined) after = await this.afterOlder(after, this.limit);
    while (!lane.isOver) {
      await lane.feed.live();
      if (lane.isOver) return;
      const rest = hub.tail.recent(after)?.filter((transaction) => touches(transaction, this.tables));
      if (!rest || !isShort(rest)) {
        after = await this.each(after, (payloads) => this.send(payloads));
        continue;
      }
      const end = hub.position;
      const payloads = payloadsOf(this.alone.route(rest));
      if (payloads.length <= 1 && lane.feed.isLive) return join(end, payloads);
      await this.send(payloads);
      after = end;
    }
  }

  /** Counts what there is: of the first transaction with a newer message those that are too old are skipped. */
  private async afterOlder(after: Lsn, limit: number): Promise<Lsn> {
    if (limit === 0) return this.hub.position;
    const kept: { position: Lsn; count: number }[] = [];
    let before = after;
    let total = 0;
    const end = await this.each(after, async (payloads) => {
      for (const { position, operations } of payloads.flatMap(({ bytes }) => decodeCommits(bytes))) {
        total += operations.length;
        // What one payload could not hold goes on in the next.
        if (kept.at(-1)?.position === position) kept.at(-1)!.count += operations.length;
        else kept.push({ position, count: operations.length });
      }
      for (; kept.length > 1 && total - kept[0]!.count >= limit; before = kept.shift()!.position)
        total -= kept[0]!.count;
    });
    if (kept.length === 0) return end;
    this.alone.messages.skip = Math.max(total - limit, 0);
    return before;
  }

  /** Up to about the log's end. Gives where that was. */
  private async each(after: Lsn, take: (payloads: readonly Payload[]) => Promise<void>): Promise<Lsn> {
    let end = after;
    for await (const batch of this.hub.tail.read(after, this.tables)) {
      for (const run of runs(batch.transactions)) {
        if (run[0]!.large) await this.eachPart(run[0]!, take);
        else await take(payloadsOf(this.alone.route(run)));
      }
      end = batch.end;
      if (this.lane.isOver) return end;
    }
    return end;
  }

  private async eachPart(
    transaction: Transaction,
    take: (payloads: readonly Payload[]) => Promise<void>,
  ): Promise<void> {
    if (!this.alone.concerns(transaction)) return;
    for await (const part of transaction.large!.parts()) {
      await take(payloadsOf(this.alone.routePart(transaction, part)));
      if (this.lane.isOver) return;
    }
  }

  private async send(payloads: readonly Payload[]): Promise<void> {
    const { id: subscription, feed } = this.lane;
    for (const payload of payloads) {
      await feed.frames.room(payload.bytes.length);
      if (this.lane.isOver) return;
      feed.frames.frame("catchUp", false, feed.frames.position, [{ subscription, payload }]);
    }
  }
}

function payloadsOf({ changed }: Routed<Loading>): readonly Payload[] {
  return changed[0]?.payloads ?? [];
}

function isShort(transactions: readonly Transaction[]): boolean {
  return (
    transactions.every(({ large }) => !large) &&
    transactions.reduce((sum, { bytes }) => sum + bytes.length, 0) <= lastStretchBytes
  );
}

function tooOld(since: Lsn, start: Lsn): ErrorJson {
  return {
    code: "position_too_old",
    message: `listen since ${formatLsn(since)}: the log begins at ${formatLsn(start)}`,
  };
}
