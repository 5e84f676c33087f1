/**
 * The one global log, before the shapes: every transaction in commit order, readable again for as long as anybody may
 * need it. This is the home in memory: a tail bounded in bytes. What it must never drop is a transaction that some later
 * snapshot might not see: a commit can be streamed before it is visible on the primary, and a shape that is loaded in
 * that moment finds the transaction here and nowhere else.
 *
 * A transaction is *seen* once a snapshot taken after it arrived sees its xid; then so does every later snapshot.
 * Only a prefix of seen transactions is acknowledged to Postgres or dropped.
 */
import assert from "node:assert/strict";
import { type PgSnapshot, sees } from "../changes/pg-snapshot.ts";
import type { Transaction } from "../changes/transaction.ts";
import { type Lsn, WalcastError, zeroLsn } from "../protocol.ts";

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
  /** From the first transaction that a snapshot taken from now on may not see, nothing is dropped until `release`. */
  pin(): Pin;
  /** Where the transaction with this xid ended, if the log still knows. */
  positionOf(xid: bigint): Lsn | undefined;
  /** Resolves with the same once that transaction has been appended. For transactions that are known to have committed. */
  committed(xid: bigint): Promise<Lsn>;
  /** Tells the log what a snapshot, taken just now, sees. */
  learn(snapshot: PgSnapshot): void;
  /** All transactions have been streamed up to here. */
  quiet(walEnd: Lsn): void;
  /** Whether there is a transaction that no snapshot has seen yet. */
  readonly hasUnseen: boolean;
  /** The position that Postgres may forget everything before. Never decreases. */
  readonly acknowledgeable: Lsn;
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
  /**
   * The transactions after `after`, oldest first, among those that were not seen when the pin was set. Throws
   * `snapshot_failed` where the log had to let go of them: it grew to twice its bound while the pin held it.
   */
  read(after: Lsn): Iterable<Transaction>;
  release(): void;
}

/** What a transaction costs beyond its bytes: the objects around them, roughly. */
const transactionOverheadBytes = 300;

export class MemoryLog implements Log {
  private readonly bytesMax: number;
  /** tail[0] has sequence number `first`; sequence numbers stay inside this file. Below `kept` all is forgotten. */
  private tail: (Transaction | undefined)[] = [];
  private first = 0;
  private kept = 0;
  private seen = 0;
  private quietEnd = zeroLsn;
  private acknowledged = zeroLsn;
  private readonly pins = new Set<{ readonly from: number }>();
  private readonly positions = new Map<bigint, Lsn>();
  private readonly waiting = new Map<bigint, PromiseWithResolvers<Lsn>>();
  private forgotten = zeroLsn;
  private seenEnd = zeroLsn;
  end = zeroLsn;
  bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /**
   * A history begins at this position: what was before is not known here, and what was held is of another history. Who
   * reads or waits for that gets `snapshot_failed`.
   */
  startAt(position: Lsn): void {
    for (const { reject } of this.waiting.values())
      reject(new WalcastError("snapshot_failed", "wait for a transaction: the history that it belongs to is over"));
    this.waiting.clear();
    this.pins.clear();
    this.first = this.kept = this.seen = this.first + this.tail.length;
    this.tail = [];
    this.positions.clear();
    this.bytes = 0;
    this.end = this.quietEnd = this.acknowledged = this.forgotten = this.seenEnd = position;
  }

  /** Everything before it has come by. */
  get streamed(): Lsn {
    return this.quietEnd > this.end ? this.quietEnd : this.end;
  }

  append(transactions: readonly Transaction[]): readonly Transaction[] {
    const fresh = transactions.filter((transaction) => transaction.commitEnd > this.end);
    for (const transaction of fresh) this.push(transaction);
    this.trim();
    return fresh;
  }

  private push(transaction: Transaction): void {
    assert(transaction.commitEnd > this.end, "commit positions strictly increase");
    this.tail.push(transaction);
    this.positions.set(transaction.xid, transaction.commitEnd);
    this.bytes += transaction.bytes.length + transactionOverheadBytes;
    this.end = transaction.commitEnd;
    this.waiting.get(transaction.xid)?.resolve(transaction.commitEnd);
    this.waiting.delete(transaction.xid);
  }

  committed(xid: bigint): Promise<Lsn> {
    const position = this.positions.get(xid);
    if (position !== undefined) return Promise.resolve(position);
    const waiting = this.waiting.get(xid) ?? Promise.withResolvers<Lsn>();
    this.waiting.set(xid, waiting);
    return waiting.promise;
  }

  pin(): Pin {
    const pin = { from: this.seen };
    this.pins.add(pin);
    return { from: this.seenEnd, read: (after) => this.readFrom(pin, after), release: () => this.unpin(pin) };
  }

  get start(): Lsn {
    return this.forgotten;
  }

  async *read(after: Lsn): AsyncIterable<LogBatch> {
    for (let from = after; ;) {
      const transactions = this.recent(from);
      if (!transactions) throw new WalcastError("position_too_old", "read the log: it does not reach back that far");
      if (transactions.length === 0) return;
      from = transactions.at(-1)!.commitEnd;
      yield { transactions, end: from };
    }
  }

  recent(after: Lsn): readonly Transaction[] | undefined {
    if (after < this.start) return undefined;
    return this.tail
      .slice(this.kept - this.first)
      .filter((one) => one !== undefined && one.commitEnd > after) as Transaction[];
  }

  private *readFrom(pin: { readonly from: number }, after: Lsn): Iterable<Transaction> {
    const sequence = pin.from;
    if (!this.pins.has(pin))
      throw new WalcastError(
        "snapshot_failed",
        "catch up: the log let go of what this shape needs: it grew past its bound, or its history is over",
        { hint: "raise log.tailBytes" },
      );
    assert(sequence >= this.kept, "a pinned transaction is not dropped");
    for (let i = sequence - this.first; i < this.tail.length; i++) {
      const transaction = this.tail[i]!;
      if (transaction.commitEnd > after) yield transaction;
    }
  }

  private unpin(pin: { readonly from: number }): void {
    this.pins.delete(pin);
    this.trim();
  }

  positionOf(xid: bigint): Lsn | undefined {
    return this.positions.get(xid);
  }

  learn(snapshot: PgSnapshot): void {
    while (this.hasUnseen && sees(snapshot, this.tail[this.seen - this.first]!.xid))
      this.seenEnd = this.tail[this.seen++ - this.first]!.commitEnd;
    this.trim();
  }

  quiet(walEnd: Lsn): void {
    if (walEnd > this.quietEnd) this.quietEnd = walEnd;
  }

  get hasUnseen(): boolean {
    return this.seen - this.first < this.tail.length;
  }

  get acknowledgeable(): Lsn {
    const safe = this.safe();
    if (safe > this.acknowledged) this.acknowledged = safe;
    return this.acknowledged;
  }

  /** With nothing unseen, all that was streamed; else up to the transaction before the first unseen one. */
  private safe(): Lsn {
    if (!this.hasUnseen) return this.streamed;
    return this.seen > this.kept ? this.tail[this.seen - this.first - 1]!.commitEnd : this.acknowledged;
  }

  /** Drops the oldest while there is too much and nobody may need them. */
  private trim(): void {
    if (this.bytes <= this.bytesMax) return;
    const needed = this.needed();
    while (this.bytes > this.bytesMax && this.kept < needed) this.forget(this.kept++);
    this.compact();
    if (this.bytes > 2 * this.bytesMax) this.loseOldestPin();
  }

  /** The first sequence number that may not go. */
  private needed(): number {
    let needed = this.seen;
    for (const pin of this.pins) needed = Math.min(needed, pin.from);
    return needed;
  }

  /** One slow reader must not take everybody's memory: it is the one to start again. */
  private loseOldestPin(): void {
    const from = this.needed();
    if (from === this.seen) return;
    for (const pin of this.pins) if (pin.from === from) this.pins.delete(pin);
    this.trim();
  }

  private forget(sequence: number): void {
    const transaction = this.tail[sequence - this.first]!;
    this.positions.delete(transaction.xid);
    this.forgotten = transaction.commitEnd;
    this.bytes -= transaction.bytes.length + transactionOverheadBytes;
    this.tail[sequence - this.first] = undefined;
  }

  /** Shortens the array once half of it is forgotten, so that each transaction is moved about once. */
  private compact(): void {
    const forgotten = this.kept - this.first;
    if (forgotten < 256 || forgotten < this.tail.length / 2) return;
    this.tail = this.tail.slice(forgotten);
    this.first = this.kept;
  }
}
