/**
 * Writes the transactions of one shape in the form that protocol.ts describes. Values are copied out of the WAL bytes; a
 * payload that grows past `bytesMax` is cut, in the middle of a transaction if need be, and the transaction goes on in the
 * next one under the same position.
 *
 * A read may touch thousands of shapes, with one row each. So their payloads lie in buffers that they share, writers are used
 * again, and what is left to make for a shape is its payload.
 */
import type { Transaction } from "../changes/transaction.ts";
import { NULL_VALUE, TEXT_VALUE, type Tuple, UNCHANGED_TOAST } from "../changes/tuple.ts";
import { crc32, oldKinds, type Payload, tags, uint32 } from "../protocol.ts";
import { slab } from "./slab.ts";

/** 'C', position, time, xid, count. */
const COMMIT_BYTES = 1 + 8 + 8 + 8 + 4;

const none: Buffer = Buffer.alloc(0);
const nothing: Payload[] = [];

export class PayloadWriter {
  private columns: readonly number[] = [];
  private key: readonly number[] = [];
  private bytesMax = 0;
  /** What is being written lies in these from `start` to `end`, and may go on up to `limit`. */
  private bytes = none;
  private start = 0;
  private end = 0;
  private limit = 0;
  private finished = nothing;
  private transaction: Transaction | undefined;
  private countAt = 0;
  private count = 0;

  /** `columns` of a row and of its key, as positions in the tuples that come. */
  constructor(columns: readonly number[], key: readonly number[], bytesMax: number) {
    this.begin(columns, key, bytesMax);
  }

  /** As a new one would be. */
  begin(columns: readonly number[], key: readonly number[], bytesMax: number): this {
    this.columns = columns;
    this.key = key;
    this.bytesMax = bytesMax;
    return this;
  }

  get isEmpty(): boolean {
    return this.end === this.start && this.finished.length === 0;
  }

  insert(transaction: Transaction, row: Tuple): void {
    this.operation(transaction, tags.insert, tupleBytes(row, this.columns));
    this.tuple(row, this.columns);
  }

  /** `old`: the row before, where its key is another one. */
  update(transaction: Transaction, row: Tuple, old: Tuple | undefined): void {
    const oldBytes = old ? tupleBytes(old, this.key) : 0;
    this.operation(transaction, tags.update, 1 + oldBytes + tupleBytes(row, this.columns));
    if (old) this.old(oldKinds.key, old, this.key);
    else this.bytes[this.end++] = oldKinds.none;
    this.tuple(row, this.columns);
  }

  updateWhole(transaction: Transaction, row: Tuple, old: Tuple): void {
    this.operation(transaction, tags.update, 1 + tupleBytes(old, this.columns) + tupleBytes(row, this.columns));
    this.old(oldKinds.row, old, this.columns);
    this.tuple(row, this.columns);
  }

  delete(transaction: Transaction, old: Tuple): void {
    this.operation(transaction, tags.delete, 1 + tupleBytes(old, this.key));
    this.old(oldKinds.key, old, this.key);
  }

  deleteWhole(transaction: Transaction, old: Tuple): void {
    this.operation(transaction, tags.delete, 1 + tupleBytes(old, this.columns));
    this.old(oldKinds.row, old, this.columns);
  }

  truncate(transaction: Transaction): void {
    this.operation(transaction, tags.truncate, 0);
  }

  /** What was written since the last time, in payloads of about `bytesMax` at most. */
  finish(): readonly Payload[] {
    this.cut();
    const payloads = this.finished;
    this.finished = nothing;
    return payloads;
  }

  /** Makes room for what follows, which is `size` bytes. */
  private operation(transaction: Transaction, tag: number, size: number): void {
    if (this.end - this.start > this.bytesMax) this.cut();
    if (this.transaction === transaction) this.reserve(1 + size);
    else this.commit(transaction, 1 + size);
    this.count++;
    this.bytes[this.end++] = tag;
  }

  private commit(transaction: Transaction, size: number): void {
    this.closeCommit();
    this.reserve(COMMIT_BYTES + size);
    const { bytes, end } = this;
    const head = headOf(transaction);
    for (let i = 0; i < COMMIT_BYTES; i++) bytes[end + i] = head[i]!;
    this.end += COMMIT_BYTES;
    this.countAt = this.end - 4 - this.start;
    this.transaction = transaction;
  }

  private closeCommit(): void {
    if (this.transaction) uint32(this.bytes, this.start + this.countAt, this.count);
    this.transaction = undefined;
    this.count = 0;
  }

  private cut(): void {
    this.closeCommit();
    const { bytes, start, end } = this;
    if (end === start) return;
    const payload = {
      bytes: new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start),
      crc: crc32(bytes, 0, start, end),
    };
    if (this.finished === nothing) this.finished = [payload];
    else this.finished.push(payload);
    this.bytes = none;
    this.start = this.end = this.limit = 0;
  }

  private old(kind: number, old: Tuple, columns: readonly number[]): void {
    this.bytes[this.end++] = kind;
    this.tuple(old, columns);
  }

  private tuple(tuple: Tuple, columns: readonly number[]): void {
    this.end = writeTuple(this.bytes, this.end, tuple, columns);
  }

  private reserve(size: number): void {
    if (this.end + size <= this.limit) return;
    if (slab.extend(this.bytes, this.limit, this.end + size)) this.limit = slab.end;
    else this.move(size);
  }

  /** To a place with more room, twice as much where something is there. */
  private move(size: number): void {
    const { bytes, start, end } = this;
    const length = end - start;
    const room = length === 0 ? size : Math.max(length + size, length * 2);
    this.start = slab.take(room);
    this.bytes = slab.bytes;
    this.limit = this.start + room;
    this.end = this.start + length;
    if (length > 0) bytes.copy(this.bytes, this.start, start, end);
  }
}

/** Of those that are done with. */
const idle: PayloadWriter[] = [];
/** They take some 200 bytes each. */
const idleMax = 10_000;

export function beginPayloads(columns: readonly number[], key: readonly number[], bytesMax: number): PayloadWriter {
  return idle.pop()?.begin(columns, key, bytesMax) ?? new PayloadWriter(columns, key, bytesMax);
}

/** The writer must not be used afterwards. */
export function finishPayloads(writer: PayloadWriter): readonly Payload[] {
  const payloads = writer.finish();
  if (idle.length < idleMax) idle.push(writer);
  return payloads;
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

/** How many bytes `writeTuple` takes for these columns. */
function tupleBytes({ kinds, starts, ends }: Tuple, columns: readonly number[]): number {
  let size = 2;
  for (const column of columns) size += kinds[column] === TEXT_VALUE ? 5 + ends[column]! - starts[column]! : 1;
  return size;
}

/** Where it ends. */
function writeTuple(into: Buffer, start: number, tuple: Tuple, columns: readonly number[]): number {
  const { kinds, starts, ends } = tuple;
  into[start] = columns.length >>> 8;
  into[start + 1] = columns.length;
  let at = start + 2;
  for (const column of columns) {
    const kind = kinds[column];
    if (kind === TEXT_VALUE) at = writeText(into, at, tuple.bytes, starts[column]!, ends[column]!);
    else into[at++] = kind === NULL_VALUE ? tags.null : unchangedOnly(kind);
  }
  return at;
}

function writeText(into: Buffer, at: number, from: Buffer, start: number, end: number): number {
  into[at] = tags.text;
  uint32(into, at + 1, end - start);
  // A call into C++ costs more than copying a short value by hand.
  if (end - start > 32) from.copy(into, at + 5, start, end);
  else for (let i = start, to = at + 5; i < end; i++) into[to++] = from[i]!;
  return at + 5 + end - start;
}

function unchangedOnly(kind: number | undefined): number {
  if (kind !== UNCHANGED_TOAST) throw new Error(`a value is NULL, text or unchanged, found tag ${kind}`);
  return tags.unchanged;
}
