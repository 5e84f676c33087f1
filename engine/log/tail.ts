/**
 * The newest transactions, in memory, bounded in bytes: what live clients and loading shapes need, they find here without
 * reading a file. Only what is durable is let go of. Beside them, in 16 bytes each, which xid ended where.
 */
import type { Transaction } from "../changes/transaction.ts";
import type { Lsn } from "../protocol.ts";

/** What a transaction costs beyond its bytes: the objects around them, roughly. */
const transactionOverheadBytes = 300;

export class Tail {
  private readonly bytesMax: number;
  private transactions: (Transaction | undefined)[] = [];
  /** Its xids, place by place. */
  private xids = new BigUint64Array(1024);
  /** transactions[0 … kept) are let go of. */
  private kept = 0;
  /** Who has applied everything up to here finds the rest here. */
  start: Lsn;
  bytes = 0;

  constructor(bytesMax: number, start: Lsn) {
    this.bytesMax = bytesMax;
    this.start = start;
  }

  push(transaction: Transaction): void {
    const at = this.transactions.push(transaction) - 1;
    if (at === this.xids.length) this.grow();
    this.xids[at] = transaction.xid;
    this.bytes += cost(transaction);
  }

  /** Lets go of the oldest, as far as they are durable, until the bound is kept. */
  trim(durable: Lsn): void {
    while (this.bytes > this.bytesMax && this.kept < this.transactions.length) {
      const oldest = this.transactions[this.kept]!;
      if (oldest.commitEnd > durable) break;
      this.transactions[this.kept++] = undefined;
      this.bytes -= cost(oldest);
      this.start = oldest.commitEnd;
    }
    this.compact();
  }

  /** The transactions after the position, about `bytesMax` of them; undefined where they are not all here. */
  after(position: Lsn, bytesMax = Infinity): readonly Transaction[] | undefined {
    if (position < this.start) return undefined;
    const from = this.indexAfter(position);
    let to = from;
    for (let bytes = 0; bytes < bytesMax && to < this.transactions.length; to++) bytes += cost(this.transactions[to]!);
    return this.transactions.slice(from, to) as Transaction[];
  }

  positionOf(xid: bigint): Lsn | undefined {
    // The newest first, as they are asked for most; a native search, so that a miss costs no more than a map would have.
    const at = this.xids.subarray(this.kept, this.transactions.length).lastIndexOf(xid);
    return at < 0 ? undefined : this.transactions[this.kept + at]!.commitEnd;
  }

  private indexAfter(position: Lsn): number {
    let low = this.kept;
    let high = this.transactions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.transactions[middle]!.commitEnd > position) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  private grow(): void {
    const grown = new BigUint64Array(this.xids.length * 2);
    grown.set(this.xids);
    this.xids = grown;
  }

  /** Shortens the lists once half of them is let go of, so that each transaction is moved about once. */
  private compact(): void {
    if (this.kept < 256 || this.kept < this.transactions.length / 2) return;
    this.xids.copyWithin(0, this.kept, this.transactions.length);
    this.transactions = this.transactions.slice(this.kept);
    this.kept = 0;
  }
}

function cost({ bytes }: Transaction): number {
  return bytes.length + transactionOverheadBytes;
}
