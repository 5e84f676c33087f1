/**
 * Asks Postgres what a shape's rows are, and the client whether it shows the same: how many, and the sum of their hashes. Both
 * speak of one position: a transaction that the count does not contain, and that is streamed by the time the client is asked,
 * must not change the shape's rows. Where one does, it is tried again, in an uneven rhythm.
 */
import { setTimeout as delay } from "node:timers/promises";
import { sees } from "../changes/pg-snapshot.ts";
import { TableMoved } from "../changes/reading.ts";
import { oidsOf } from "../changes/table.ts";
import { type Transaction, touches } from "../changes/transaction.ts";
import { Registry } from "../shapes/registry.ts";
import { Shape } from "../shapes/shape.ts";
import type { Hub } from "./hub.ts";
import type { Lane } from "./lane.ts";

/** What a client says of its rows. Nothing here can tell whether that is so, so it is no breach of what the engine promises. */
export type AuditResult = "matched" | "mismatched";

/** A shape that is written all the time is left alone after so many, until it is picked again. */
const attempts = 12;
/** Between them: a gap between two writes is found sooner or later, if it is not always looked for in the same rhythm. */
const pauseMs = 2;
const pauseMsMax = 500;

export class Audits {
  private readonly hub: Hub;
  /** What clients answered, so far. */
  readonly answers = new Map<AuditResult, number>();

  constructor(hub: Hub) {
    this.hub = hub;
  }

  /** One subscription of somebody who is live. */
  async sample(): Promise<void> {
    const all = this.candidates();
    const picked = all[Math.floor(Math.random() * all.length)];
    if (picked) await this.audit(picked);
  }

  /** Every subscription of everybody who is live. Ends when all that could be asked were. */
  async all(): Promise<void> {
    for (const lane of this.candidates()) await this.audit(lane);
  }

  answered(result: AuditResult): void {
    this.answers.set(result, (this.answers.get(result) ?? 0) + 1);
  }

  /** Changes alone have no rows to count. */
  private candidates(): Lane[] {
    const feeds = [...this.hub.connections].filter(({ isLive }) => isLive);
    return feeds.flatMap(({ joined }) => [...joined].filter(([, shape]) => !shape.changes).map(([lane]) => lane));
  }

  private async audit(lane: Lane): Promise<void> {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const shape = lane.feed.joined.get(lane);
      if (!(shape instanceof Shape) || (await this.auditOnce(lane, shape))) return;
      await delay(Math.random() * Math.min(pauseMs * 2 ** attempt, pauseMsMax), undefined, { ref: false });
    }
  }

  private async auditOnce(lane: Lane, shape: Shape): Promise<boolean> {
    const { hub } = this;
    const pin = hub.tail.pin();
    try {
      const { token, rows, hash } = await hub.snapshots.sum(shape);
      // When it has streamed by, so has everything that the count contains.
      await hub.snapshots.commitBarrier();
      const tables = new Set(oidsOf(shape.table));
      const later = hub.tail.recent(pin.from)?.filter((one) => touches(one, tables) && !sees(token, one.xid));
      if (!later || this.changes(shape, lane, later)) return false;
      if (lane.feed.isLive && lane.feed.joined.get(lane) === shape) lane.ask(rows, hash);
      return true;
    } catch (error) {
      if (error instanceof TableMoved) return false;
      throw error;
    } finally {
      pin.release();
    }
  }

  /** Whether any of these has rows of the shape, and not just of its table. */
  private changes(shape: Shape, lane: Lane, transactions: readonly Transaction[]): boolean {
    if (transactions.some(({ large, schemaChanges }) => large || schemaChanges.length > 0)) return true;
    const alone = new Registry<Lane>(this.hub.frameBytes);
    alone.add(shape, lane);
    const { changed, broken, failed } = alone.route(transactions);
    return changed.length + broken.length + failed.length > 0;
  }
}
