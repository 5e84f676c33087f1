/**
 * Where a transaction that a client names by its xid ended: in the log's memory, or by asking Postgres how it went. While it
 * runs, Postgres is asked again and again: one question for all transactions that anybody waits for.
 */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import type { Snapshots } from "../changes/snapshot.ts";
import { WalcastError } from "../errors.ts";
import type { Log } from "../log/log.ts";
import type { Lsn } from "../protocol.ts";

const pollMs = 100;

/** "transaction ID … is in the future", and more than 64 bits. */
const notAssigned: ReadonlySet<string> = new Set(["22023", "22003"]);

export class Xids {
  private readonly tail: Log;
  private readonly control: pg.Pool;
  private readonly snapshots: Snapshots;
  private readonly waiting = new Set<Waiting>();
  private polling: Promise<void> | undefined;

  constructor(tail: Log, control: pg.Pool, snapshots: Snapshots) {
    this.tail = tail;
    this.control = control;
    this.snapshots = snapshots;
  }

  /** A position at which the transaction's rows have arrived. Throws `transaction_aborted` or `transaction_unknown`. */
  async positionOf(xid: bigint, cancelled: () => boolean): Promise<Lsn> {
    while (!cancelled()) {
      const known = this.tail.positionOf(xid);
      if (known !== undefined) return known;
      const status = await this.status(xid);
      // It touched nothing that is synced, or long ago: whatever it did is before a barrier that is committed now.
      if (status === "committed") return this.snapshots.commitBarrier();
      if (status === "aborted")
        throw new WalcastError("transaction_aborted", `await transaction ${xid}: it was rolled back`);
      if (status === null)
        throw new WalcastError("transaction_unknown", `await transaction ${xid}: Postgres does not know it (any more)`);
      await this.ended(xid, cancelled);
    }
    throw new WalcastError("closed", `await transaction ${xid}: the connection is over`);
  }

  /** Resolves when it may not be running any more. */
  private ended(xid: bigint, cancelled: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.add({ xid, cancelled, resolve });
      this.polling ??= this.poll();
    });
  }

  private async poll(): Promise<void> {
    while (this.waiting.size > 0) {
      await delay(pollMs);
      const asked = [...this.waiting];
      const running = await this.running(asked.filter((one) => this.isOpen(one)).map(({ xid }) => String(xid)));
      for (const one of asked) if (!running.has(String(one.xid)) || !this.isOpen(one)) this.release(one);
    }
    this.polling = undefined;
  }

  /** Somebody still waits for it, and it did not come by. */
  private isOpen({ xid, cancelled }: Waiting): boolean {
    return !cancelled() && this.tail.positionOf(xid) === undefined;
  }

  private release(waiting: Waiting): void {
    this.waiting.delete(waiting);
    waiting.resolve();
  }

  private async running(xids: readonly string[]): Promise<ReadonlySet<string>> {
    if (xids.length === 0) return new Set();
    try {
      const { rows } = await this.control.query<{ xid: string }>(
        "select xid::text from unnest($1::text[]::xid8[]) as xid where pg_xact_status(xid) = 'in progress'",
        [[...new Set(xids)]],
      );
      return new Set(rows.map(({ xid }) => xid));
    } catch {
      // Each asks for itself, and is told what is wrong.
      return new Set();
    }
  }

  private async status(xid: bigint): Promise<string | null> {
    try {
      const { rows } = await this.control.query<{ status: string | null }>(
        "select pg_xact_status($1::text::xid8) as status",
        [String(xid)],
      );
      return rows[0]!.status;
    } catch (error) {
      if (notAssigned.has((error as pg.DatabaseError).code ?? "")) return null;
      throw new WalcastError("not_streaming", `await transaction ${xid}: ask Postgres for its status`, {
        cause: error,
      });
    }
  }
}

interface Waiting {
  readonly xid: bigint;
  readonly cancelled: () => boolean;
  readonly resolve: () => void;
}
