/**
 * The records of a segment, encoding and decoding side by side. Little-endian, one after another:
 *
 *     length     u32   of the whole record; 0 where nothing has been written yet
 *     checksum   u32   CRC-32 of all that follows, begun with the segment's salt
 *     kind       u8
 *     position   u64   commit-end of a transaction; of the other kinds, how far everything has been streamed
 *     …                by kind
 *
 * The salt is drawn for each segment, so what an earlier file left on the disk is never taken for a record of this one.
 */
import { crc32 } from "node:zlib";
import type { DescribedRelation, SchemaChange, Transaction } from "../changes/transaction.ts";
import { type Lsn, WalcastError } from "../protocol.ts";
import type { LargeFile } from "./large-files.ts";

export const recordKinds = { transaction: 1, relation: 2, position: 3, history: 4 } as const;

/** Length, checksum, kind and position. */
export const recordHeadBytes = 17;

/** Bytes and the view through which numbers get in and out: several times faster than Buffer's methods. */
export interface Space {
  readonly bytes: Buffer;
  readonly view: DataView;
}

export function spaceOf(bytes: Buffer): Space {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
}

// ── The record around ────────────────────────────────────────────────────────────────────────────────────────────────

/** Completes the record of `length` bytes at `at`, of which all but the head is there. `body` follows it elsewhere in memory. */
function sealRecord({ bytes, view }: Space, at: number, length: number, salt: number, body?: Buffer): void {
  view.setUint32(at, length + (body?.length ?? 0), true);
  const checksum = crc32(bytes.subarray(at + 8, at + length), salt);
  view.setUint32(at + 4, body ? crc32(body, checksum) : checksum, true);
}

function beginRecord({ view }: Space, at: number, kind: number, position: bigint): void {
  view.setUint8(at + 8, kind);
  view.setBigUint64(at + 9, position, true);
}

/** Length of the record that claims to begin here; 0 where none does. */
export function recordLength({ view }: Space, at: number): number {
  const length = view.getUint32(at, true);
  return length < recordHeadBytes ? 0 : length;
}

/** Whether all `length` bytes of it are as they were written. */
export function isWhole({ bytes, view }: Space, at: number, length: number, salt: number): boolean {
  return crc32(bytes.subarray(at + 8, at + length), salt) === view.getUint32(at + 4, true);
}

export function recordKind({ view }: Space, at: number): number {
  return view.getUint8(at + 8);
}

export function recordPosition({ view }: Space, at: number): Lsn {
  return view.getBigUint64(at + 9, true) as Lsn;
}

// ── Transaction: xid u64, commit time i64, counts of relations, details' bytes and messages u32 each, then those ──────

const transactionHeadBytes = recordHeadBytes + 28;

/** What few transactions have, as JSON. */
interface Details {
  readonly schemaChanges?: readonly SchemaChange[];
  readonly large?: LargeFile;
}

export function encodeDetails({ schemaChanges, large }: Transaction): Buffer | undefined {
  if (schemaChanges.length === 0 && !large) return undefined;
  const details: Details = {
    ...(schemaChanges.length === 0 ? {} : { schemaChanges }),
    ...(large ? { large: { length: large.length, crc: large.crc, aborted: large.aborted } } : {}),
  };
  return Buffer.from(JSON.stringify(details));
}

/** The bytes of a transaction's record without its messages. */
export function transactionRecordBytes({ relations, starts }: Transaction, details: Buffer | undefined): number {
  return transactionHeadBytes + 4 * (relations.length + starts.length - 1) + (details?.length ?? 0);
}

/**
 * Writes the record of `length` bytes at `at`. Messages that are not copied follow in the file; the record's length and
 * checksum cover them, `length` here does not.
 */
export function encodeTransaction(
  space: Space,
  at: number,
  length: number,
  { transaction, numbers, details, copied }: EncodedParts,
  salt: number,
): void {
  const { view, bytes } = space;
  const { starts } = transaction;
  const messages = starts.length - 1;
  beginRecord(space, at, recordKinds.transaction, transaction.commitEnd);
  view.setBigUint64(at + 17, transaction.xid, true);
  view.setBigInt64(at + 25, transaction.commitTime, true);
  view.setUint32(at + 33, numbers.length, true);
  view.setUint32(at + 37, details?.length ?? 0, true);
  view.setUint32(at + 41, messages, true);
  let to = at + transactionHeadBytes;
  for (let i = 0; i < numbers.length; i++, to += 4) view.setUint32(to, numbers[i]!, true);
  if (details) to += details.copy(bytes, to);
  for (let i = 0; i < messages; i++, to += 4) view.setUint32(to, starts[i + 1]! - starts[i]!, true);
  if (copied) bytes.set(transaction.bytes, to);
  sealRecord(space, at, length, salt, copied ? undefined : transaction.bytes);
}

interface EncodedParts {
  readonly transaction: Transaction;
  /** Of its descriptions, in its order. */
  readonly numbers: readonly number[];
  readonly details: Buffer | undefined;
  readonly copied: boolean;
}

/** What decoding needs of the segment, and of the directory. */
export interface Described {
  /** The descriptions with these numbers; undefined where one of them was never written. */
  relationsOf(view: DataView, at: number, count: number): readonly DescribedRelation[] | undefined;
  largeBody(position: Lsn, file: LargeFile): NonNullable<Transaction["large"]>;
}

const noChanges: readonly SchemaChange[] = [];

/** The record must be whole. Nothing is copied: the transaction's bytes are a part of the space. */
export function decodeTransaction(
  { bytes, view }: Space,
  at: number,
  length: number,
  described: Described,
): Transaction {
  const end = at + length;
  const commitEnd = view.getBigUint64(at + 9, true) as Lsn;
  const relationCount = length < transactionHeadBytes ? -1 : view.getUint32(at + 33, true);
  if (relationCount < 0) throw damaged("a transaction's record is shorter than its head");
  const detailsBytes = view.getUint32(at + 37, true);
  const messages = view.getUint32(at + 41, true);
  const detailsAt = at + transactionHeadBytes + 4 * relationCount;
  const lengthsAt = detailsAt + detailsBytes;
  const bytesAt = lengthsAt + 4 * messages;
  if (bytesAt > end) throw damaged("a transaction's counts exceed its record");
  const relations = described.relationsOf(view, at + transactionHeadBytes, relationCount);
  if (!relations) throw damaged("a transaction names a description that its segment does not hold");
  const starts = [0];
  let sum = 0;
  for (let i = lengthsAt; i < bytesAt; i += 4) starts.push((sum += view.getUint32(i, true)));
  if (bytesAt + sum !== end) throw damaged("a transaction's messages do not fill its record");
  const transaction: Transaction = {
    commitEnd,
    xid: view.getBigUint64(at + 17, true),
    commitTime: view.getBigInt64(at + 25, true),
    bytes: bytes.subarray(bytesAt, end),
    starts,
    relations,
    schemaChanges: noChanges,
  };
  return detailsBytes === 0
    ? transaction
    : withDetails(transaction, bytes.toString("utf8", detailsAt, lengthsAt), described);
}

function withDetails(transaction: Transaction, json: string, described: Described): Transaction {
  const { schemaChanges = noChanges, large } = JSON.parse(json) as Details;
  if (!large) return { ...transaction, schemaChanges };
  return { ...transaction, schemaChanges, large: described.largeBody(transaction.commitEnd, large) };
}

// ── Relation: its number in the segment u32, then the description as JSON ────────────────────────────────────────────

export function encodeRelation(position: Lsn, number: number, description: string, salt: number): Buffer {
  const record = Buffer.alloc(recordHeadBytes + 4 + Buffer.byteLength(description));
  const space = spaceOf(record);
  beginRecord(space, 0, recordKinds.relation, position);
  space.view.setUint32(recordHeadBytes, number, true);
  record.write(description, recordHeadBytes + 4);
  sealRecord(space, 0, record.length, salt);
  return record;
}

export function decodeRelation(
  { bytes, view }: Space,
  at: number,
  length: number,
): { number: number; description: string } {
  if (length < recordHeadBytes + 4) throw damaged("a description's record is shorter than its head");
  return {
    number: view.getUint32(at + recordHeadBytes, true),
    description: bytes.toString("utf8", at + recordHeadBytes + 4, at + length),
  };
}

// ── Position: everything up to it has been streamed; up to which commit, u64, all were seen by a snapshot ─────────────

export function encodePosition(position: Lsn, seenEnd: Lsn, salt: number): Buffer {
  const record = Buffer.alloc(recordHeadBytes + 8);
  const space = spaceOf(record);
  beginRecord(space, 0, recordKinds.position, position);
  space.view.setBigUint64(recordHeadBytes, seenEnd, true);
  sealRecord(space, 0, record.length, salt);
  return record;
}

export function decodePosition({ view }: Space, at: number, length: number): Lsn {
  if (length !== recordHeadBytes + 8) throw damaged("a position's record has another length");
  return view.getBigUint64(at + recordHeadBytes, true) as Lsn;
}

// ── History: its new name ────────────────────────────────────────────────────────────────────────────────────────────

export function encodeHistory(position: Lsn, history: string, salt: number): Buffer {
  const record = Buffer.alloc(recordHeadBytes + Buffer.byteLength(history));
  const space = spaceOf(record);
  beginRecord(space, 0, recordKinds.history, position);
  record.write(history, recordHeadBytes);
  sealRecord(space, 0, record.length, salt);
  return record;
}

export function decodeHistory({ bytes }: Space, at: number, length: number): string {
  return bytes.toString("utf8", at + recordHeadBytes, at + length);
}

export function damaged(what: string): WalcastError {
  return new WalcastError("log_failed", `read the log: ${what}`);
}
