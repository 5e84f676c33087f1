/**
 * Writes the transactions of one shape in the form that protocol.ts describes. Values are sliced out of the WAL bytes
 * and copied once; a payload that grows past `bytesMax` is cut, in the middle of a transaction if need be, and the
 * transaction goes on in the next one under the same position.
 */
import { crc32 } from "node:zlib";
import type { Transaction } from "../changes/transaction.ts";
import { NULL_VALUE, TEXT_VALUE, type Tuple, UNCHANGED_TOAST } from "../changes/tuple.ts";
import { oldKinds, type Payload, tags } from "../protocol.ts";

/** 'C', position, time, xid, count. */
const COMMIT_BYTES = 1 + 8 + 8 + 8 + 4;

const none: Buffer = Buffer.alloc(0);

export class PayloadWriter {
  private readonly columns: readonly number[];
  private readonly key: readonly number[];
  private readonly bytesMax: number;
  private bytes = none;
  private length = 0;
  private finished: Payload[] = [];
  private transaction: Transaction | undefined;
  private countAt = 0;
  private count = 0;

  /** `columns` of a row and of its key, as positions in the tuples that come. */
  constructor(columns: readonly number[], key: readonly number[], bytesMax: number) {
    this.columns = columns;
    this.key = key;
    this.bytesMax = bytesMax;
  }

  get isEmpty(): boolean {
    return this.length === 0 && this.finished.length === 0;
  }

  insert(transaction: Transaction, row: Tuple): void {
    this.operation(transaction, tags.insert);
    this.tuple(row, this.columns);
  }

  /** `old`: the row before, where its key is another one. */
  update(transaction: Transaction, row: Tuple, old: Tuple | undefined): void {
    this.operation(transaction, tags.update);
    if (old) this.old(oldKinds.key, old, this.key);
    else this.u8(oldKinds.none);
    this.tuple(row, this.columns);
  }

  updateWhole(transaction: Transaction, row: Tuple, old: Tuple): void {
    this.operation(transaction, tags.update);
    this.old(oldKinds.row, old, this.columns);
    this.tuple(row, this.columns);
  }

  delete(transaction: Transaction, old: Tuple): void {
    this.operation(transaction, tags.delete);
    this.old(oldKinds.key, old, this.key);
  }

  deleteWhole(transaction: Transaction, old: Tuple): void {
    this.operation(transaction, tags.delete);
    this.old(oldKinds.row, old, this.columns);
  }

  truncate(transaction: Transaction): void {
    this.operation(transaction, tags.truncate);
  }

  /** What was written since the last time, in payloads of about `bytesMax` at most. */
  finish(): Payload[] {
    this.cut();
    const payloads = this.finished;
    this.finished = [];
    return payloads;
  }

  private operation(transaction: Transaction, tag: number): void {
    if (this.length > this.bytesMax) this.cut();
    if (this.transaction !== transaction) this.commit(transaction);
    this.count++;
    this.reserve(2);
    this.bytes[this.length++] = tag;
  }

  private commit(transaction: Transaction): void {
    this.closeCommit();
    this.reserve(COMMIT_BYTES);
    const head = headOf(transaction);
    for (let i = 0; i < COMMIT_BYTES; i++) this.bytes[this.length + i] = head[i]!;
    this.length += COMMIT_BYTES;
    this.countAt = this.length - 4;
    this.transaction = transaction;
  }

  private closeCommit(): void {
    if (this.transaction) this.bytes.writeUInt32BE(this.count, this.countAt);
    this.transaction = undefined;
    this.count = 0;
  }

  private cut(): void {
    this.closeCommit();
    if (this.length === 0) return;
    const bytes = this.bytes.subarray(0, this.length);
    this.finished.push({ bytes, crc: crc32(bytes) });
    this.bytes = none;
    this.length = 0;
  }

  private old(kind: number, old: Tuple, columns: readonly number[]): void {
    this.u8(kind);
    this.tuple(old, columns);
  }

  private tuple(tuple: Tuple, columns: readonly number[]): void {
    this.reserve(2);
    this.length = this.bytes.writeUInt16BE(columns.length, this.length);
    for (const column of columns) this.value(tuple, column);
  }

  private value(tuple: Tuple, column: number): void {
    const kind = tuple.kinds[column];
    if (kind === TEXT_VALUE) return this.text(tuple.bytes, tuple.starts[column]!, tuple.ends[column]!);
    this.u8(kind === NULL_VALUE ? tags.null : unchangedOnly(kind));
  }

  private text(source: Buffer, start: number, end: number): void {
    const size = end - start;
    this.reserve(5 + size);
    const { bytes } = this;
    let at = this.length;
    bytes[at] = tags.text;
    bytes[at + 1] = size >>> 24;
    bytes[at + 2] = size >>> 16;
    bytes[at + 3] = size >>> 8;
    bytes[at + 4] = size;
    at += 5;
    // A call into C++ costs more than copying a short value by hand.
    if (size > 32) source.copy(bytes, at, start, end);
    else for (let i = start; i < end; i++) bytes[at++] = source[i]!;
    this.length += 5 + size;
  }

  private u8(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  private reserve(size: number): void {
    const needed = this.length + size;
    if (needed <= this.bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.bytes.length * 2, 256));
    this.bytes.copy(grown, 0, 0, this.length);
    this.bytes = grown;
  }
}

// A transaction may change thousands of shapes, one after the other.
const head = Buffer.alloc(COMMIT_BYTES);
// Several times faster than Buffer's methods.
const headView = new DataView(head.buffer, head.byteOffset, head.byteLength);
let headIsOf: Transaction | undefined;

function headOf(transaction: Transaction): Buffer {
  if (headIsOf === transaction) return head;
  head[0] = tags.commit;
  headView.setBigUint64(1, transaction.commitEnd);
  headView.setBigInt64(9, transaction.commitTime);
  headView.setBigUint64(17, transaction.xid);
  headIsOf = transaction;
  return head;
}

function unchangedOnly(kind: number | undefined): number {
  if (kind !== UNCHANGED_TOAST) throw new Error(`a value is NULL, text or unchanged, found tag ${kind}`);
  return tags.unchanged;
}
