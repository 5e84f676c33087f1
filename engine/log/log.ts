/**
 * The one global log, before the shapes: every transaction in commit order, durable, and readable again for as long as
 * anybody may need it. What it must never drop is a transaction that some later snapshot might not see: a commit can be
 * streamed before it is visible on the primary, and a shape that is loaded in that moment finds it here and nowhere else.
 */
import type { PgSnapshot } from "../changes/pg-snapshot.ts";
import type { Transaction } from "../changes/transaction.ts";
import type { Lsn } from "../protocol.ts";

export interface Log {
  /** Commit-end of the last transaction; zero before the first. */
  readonly end: Lsn;
  /** Whoever has applied everything up to here, or further, can be brought up to date from the log. */
  readonly start: Lsn;
  /**
   * The transactions after `after`, in commit order, in batches of bounded size, up to the end as it is when the reading
   * gets there. With `tables`, transactions that touch none of them may be left out, where that spares reading them.
   * Throws `position_too_old` where `after` is before the start, also when retention overtakes the reader.
   */
  read(after: Lsn, tables?: ReadonlySet<number>): AsyncIterable<LogBatch>;
  /** The same, at once, where memory reaches back to `after`; undefined where it does not. */
  recent(after: Lsn): readonly Transaction[] | undefined;
  /** Takes what one read brought. Gives those that are new: after a reconnect Postgres sends some again. */
  append(transactions: readonly Transaction[]): readonly Transaction[];
  /**
   * From the first transaction that a snapshot taken from now on may not see, nothing is dropped until `release`, or until
   * the log is at twice its bound because of it: then whoever reads on from there is told `position_too_old`.
   */
  pin(): Pin;
  /** The same from an earlier pin's position on, where the log still reaches back to it. */
  pinFrom(position: Lsn): Pin | undefined;
  /** Where the transaction with this xid ended, if the log still knows. */
  positionOf(xid: bigint): Lsn | undefined;
  /** Resolves with the same once that transaction has been appended. For transactions that are known to have committed. */
  committed(xid: bigint): Promise<Lsn>;
  /** Tells the log what a snapshot, taken just now, sees. */
  learn(snapshot: PgSnapshot): void;
  /** All transactions have been streamed up to here. */
  quiet(walEnd: Lsn): void;
  /** The highest position that is durable: Postgres may forget everything before. Never decreases within a history. */
  readonly recorded: Lsn;
  readonly bytes: number;
}

export interface LogBatch {
  /** A large transaction comes alone: its rows are read from its own file, part by part. */
  readonly transactions: readonly Transaction[];
  /** All that was asked for, up to here, has come. */
  readonly end: Lsn;
}

export interface Pin {
  /** Every snapshot taken since the pin was set sees the transactions up to here. */
  readonly from: Lsn;
  release(): void;
}
