/**
 * The transactions that no snapshot has seen yet. A commit can be streamed before it is visible on the primary, always for a
 * moment, and as long as a synchronous standby takes; a shape that is loaded meanwhile needs it from the log. A transaction
 * is seen once a snapshot taken after it arrived sees its xid; then so does every later one. What counts is the prefix.
 */
import { type PgSnapshot, sees } from "../changes/pg-snapshot.ts";
import type { Lsn } from "../protocol.ts";

export class Unseen {
  /** xid and commit-end of each, in commit order: 16 bytes, however large the transaction was. */
  private pairs = new BigUint64Array(1024);
  private from = 0;
  private to = 0;
  /** Commit-end of the last that has been seen. */
  end: Lsn;
  /** What was between `end` and here is lost: nobody knows its xids any more. */
  private lostEnd: Lsn;
  /** Every xid of what is lost is below. */
  private lostXmax: bigint | undefined;

  constructor(end: Lsn, lostEnd = end) {
    this.end = end;
    this.lostEnd = lostEnd;
  }

  get isEmpty(): boolean {
    return this.from === this.to;
  }

  push(xid: bigint, commitEnd: Lsn): void {
    if (this.to === this.pairs.length) this.makeRoom();
    this.pairs[this.to++] = xid;
    this.pairs[this.to++] = commitEnd;
  }

  learn(snapshot: PgSnapshot): void {
    if (this.end < this.lostEnd && !this.outlast(snapshot)) return;
    for (; !this.isEmpty && sees(snapshot, this.pairs[this.from]!); this.from += 2)
      this.end = this.pairs[this.from + 1]! as Lsn;
  }

  /** All that had an xid at the first snapshot has to have ended: what is lost was among them, if it was not seen. */
  private outlast({ xmin, xmax }: PgSnapshot): boolean {
    this.lostXmax ??= xmax;
    if (xmin < this.lostXmax) return false;
    this.end = this.lostEnd;
    return true;
  }

  private makeRoom(): void {
    const live = this.pairs.subarray(this.from, this.to);
    const room = live.length > this.pairs.length / 2 ? new BigUint64Array(this.pairs.length * 2) : this.pairs;
    room.set(live);
    this.pairs = room;
    this.to -= this.from;
    this.from = 0;
  }
}
