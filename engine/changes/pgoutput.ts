/**
 * Decodes pgoutput (protocol version 1, text format, with messages) without copying: a Message notes where things lie in
 * the bytes that were received, and makes a string or a bigint only when asked for one. One Message is reused for all,
 * so what it says is valid until the next decode. Pure: the same bytes always give the same Message.
 *
 * It may refuse (`malformed_message`), but it never reads outside [start, end) and never believes a count.
 * Field order follows https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */
import { WalcastError } from "../errors.ts";
import { type Lsn, lsnFromHalves } from "../protocol.ts";
import { BINARY_VALUE, NULL_VALUE, TEXT_VALUE, type Tuple, Tuple as TupleView, UNCHANGED_TOAST } from "./tuple.ts";

export const messageTags = { begin: 0x42, commit: 0x43, origin: 0x4f, relation: 0x52, type: 0x59, insert: 0x49, update: 0x55, delete: 0x44, truncate: 0x54, message: 0x4d } as const;

/** Which old tuple an Update or Delete carries. */
export const oldTuples = { none: 0, key: 0x4b, row: 0x4f } as const;
const NEW_TUPLE = 0x4e; // 'N'

export interface Relation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly replicaIdentity: "d" | "n" | "f" | "i";
  readonly columns: readonly RelationColumn[];
}

export interface RelationColumn {
  readonly name: string;
  readonly typeOid: number;
  readonly typmod: number;
  /** Part of the replica identity. */
  readonly isKey: boolean;
}

export class Message {
  tag = 0;
  bytes: Buffer = Buffer.alloc(0);
  start = 0;
  end = 0;
  /** Insert, Update, Delete, Relation. */
  relationOid = 0;
  /** Begin: the top-level transaction's xid, 32 bits. Message and Type use their own getters. */
  xid = 0;
  /** Update, Delete: one of `oldTuples`. */
  oldKind: number = oldTuples.none;
  readonly old: Tuple = new TupleView();
  readonly new: Tuple = new TupleView();
  /** Truncate. */
  readonly relationOids: number[] = [];
  /** Truncate: 1 CASCADE, 2 RESTART IDENTITY. */
  truncateOptions = 0;
  /** Message: 1 where it is transactional. */
  flags = 0;
  /** Where the first of several texts or values of this kind of message lies, and the second. */
  at = 0;
  secondAt = 0;

  /** Begin: the commit record's LSN. Commit: the same. Origin, Message: their own. */
  get lsn(): Lsn {
    return this.lsnAt(this.start + lsnOffsets(this.tag));
  }

  /** Commit: the first byte after the commit record. */
  get endLsn(): Lsn {
    return this.lsnAt(this.start + 10);
  }

  /** Begin, Commit: µs since 2000-01-01 UTC. */
  get time(): bigint {
    return this.bytes.readBigInt64BE(this.start + (this.tag === messageTags.begin ? 9 : 18));
  }

  /** Message: who it is for. Origin and Type: the name. */
  prefix(): string {
    return this.bytes.toString("utf8", this.at, this.secondAt - 1);
  }

  /** Message: its payload, a view. */
  content(): Buffer {
    return this.bytes.subarray(this.secondAt + 4, this.end);
  }

  relation(): Relation {
    return readRelation(this);
  }

  private lsnAt(at: number): Lsn {
    return lsnFromHalves(this.bytes.readUInt32BE(at), this.bytes.readUInt32BE(at + 4));
  }
}

function lsnOffsets(tag: number): number {
  return tag === messageTags.commit || tag === messageTags.message ? 2 : 1;
}

/** Decodes the message in bytes[start, end), all of it. */
export function decodeMessage(bytes: Buffer, start: number, end: number, into: Message): Message {
  if (end <= start) throw malformed("a message", "a tag", start, start);
  into.tag = bytes[start]!;
  into.bytes = bytes;
  into.start = start;
  into.end = end;
  const at = decodeBody(bytes, start + 1, end, into);
  if (at !== end) throw new WalcastError("malformed_message", `decode ${nameOf(into.tag)}: ${end - at} bytes left over at byte ${at - start}`);
  return into;
}

function decodeBody(bytes: Buffer, at: number, end: number, into: Message): number {
  switch (into.tag) {
    case messageTags.insert:
      return decodeInsert(bytes, at, end, into);
    case messageTags.update:
      return decodeUpdate(bytes, at, end, into);
    case messageTags.delete:
      return decodeDelete(bytes, at, end, into);
    case messageTags.begin:
      return decodeBegin(bytes, at, end, into);
    case messageTags.commit:
      return need(at, 25, end, into);
    case messageTags.relation:
      return decodeRelation(bytes, at, end, into);
    case messageTags.truncate:
      return decodeTruncate(bytes, at, end, into);
    case messageTags.message:
      return decodeLogicalMessage(bytes, at, end, into);
    case messageTags.origin:
      return decodeName(bytes, need(at, 8, end, into), end, into);
    case messageTags.type:
      return decodeType(bytes, at, end, into);
    default:
      throw new WalcastError("malformed_message", `decode a message: expected one of ${Object.keys(messageTags).join(", ")}, found tag ${into.tag}`);
  }
}

// ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

function decodeInsert(bytes: Buffer, at: number, end: number, into: Message): number {
  need(at, 5, end, into);
  into.relationOid = u32(bytes, at);
  into.oldKind = oldTuples.none;
  if (bytes[at + 4] !== NEW_TUPLE) throw wrongTuple(into, bytes[at + 4]!, at + 4, "'N'");
  return decodeTuple(bytes, at + 5, end, into.new, into);
}

function decodeUpdate(bytes: Buffer, at: number, end: number, into: Message): number {
  need(at, 5, end, into);
  into.relationOid = u32(bytes, at);
  const kind = bytes[at + 4]!;
  into.oldKind = oldTuples.none;
  if (kind === NEW_TUPLE) return decodeTuple(bytes, at + 5, end, into.new, into);
  if (kind !== oldTuples.key && kind !== oldTuples.row) throw wrongTuple(into, kind, at + 4, "'K', 'O' or 'N'");
  into.oldKind = kind;
  const after = decodeTuple(bytes, at + 5, end, into.old, into);
  need(after, 1, end, into);
  if (bytes[after] !== NEW_TUPLE) throw wrongTuple(into, bytes[after]!, after, "'N'");
  return decodeTuple(bytes, after + 1, end, into.new, into);
}

function decodeDelete(bytes: Buffer, at: number, end: number, into: Message): number {
  need(at, 5, end, into);
  into.relationOid = u32(bytes, at);
  const kind = bytes[at + 4]!;
  if (kind !== oldTuples.key && kind !== oldTuples.row) throw wrongTuple(into, kind, at + 4, "'K' or 'O'");
  into.oldKind = kind;
  return decodeTuple(bytes, at + 5, end, into.old, into);
}

function decodeTuple(bytes: Buffer, at: number, end: number, tuple: Tuple, message: Message): number {
  if (at + 2 > end) throw malformed(nameOf(message.tag), "a column count", message.start, end);
  const count = (bytes[at]! << 8) | bytes[at + 1]!;
  // A column takes a byte at least: a count that cannot be true makes no room for itself.
  if (count > end - at - 2) throw malformed(nameOf(message.tag), `${count} columns`, message.start, end);
  tuple.reset(bytes, count);
  const { kinds, starts, ends } = tuple;
  let next = at + 2;
  for (let column = 0; column < count; column++) {
    if (next >= end) throw malformed(nameOf(message.tag), `column ${column}`, message.start, end);
    const kind = bytes[next++]!;
    kinds[column] = kind;
    if (kind === TEXT_VALUE || kind === BINARY_VALUE) {
      if (next + 4 > end) throw malformed(nameOf(message.tag), `the length of column ${column}`, message.start, end);
      const length = u32(bytes, next);
      next += 4;
      starts[column] = next;
      next += length;
      if (next > end) throw malformed(nameOf(message.tag), `${length} bytes of column ${column}`, message.start, end);
    } else {
      if (kind !== NULL_VALUE && kind !== UNCHANGED_TOAST) throw wrongTuple(message, kind, next - 1, "a column of kind 'n', 'u', 't' or 'b'");
      starts[column] = next;
    }
    ends[column] = next;
  }
  return next;
}

// ── Everything else ──────────────────────────────────────────────────────────────────────────────────────────────────

function decodeBegin(bytes: Buffer, at: number, end: number, into: Message): number {
  const after = need(at, 20, end, into);
  into.xid = u32(bytes, at + 16);
  return after;
}

function decodeTruncate(bytes: Buffer, at: number, end: number, into: Message): number {
  need(at, 5, end, into);
  const count = u32(bytes, at);
  into.truncateOptions = bytes[at + 4]!;
  const after = need(at + 5, count * 4, end, into);
  into.relationOids.length = 0;
  for (let next = at + 5; next < after; next += 4) into.relationOids.push(u32(bytes, next));
  return after;
}

function decodeLogicalMessage(bytes: Buffer, at: number, end: number, into: Message): number {
  need(at, 9, end, into);
  into.flags = bytes[at]!;
  const after = decodeName(bytes, at + 9, end, into);
  need(after, 4, end, into);
  return need(after + 4, u32(bytes, after), end, into);
}

function decodeName(bytes: Buffer, at: number, end: number, into: Message): number {
  into.at = at;
  into.secondAt = skipText(bytes, at, end, into);
  return into.secondAt;
}

function decodeType(bytes: Buffer, at: number, end: number, into: Message): number {
  need(at, 4, end, into);
  into.relationOid = u32(bytes, at);
  return decodeName(bytes, skipText(bytes, at + 4, end, into), end, into);
}

/** Checks the whole message, so that `relation()` reads without doubts. */
function decodeRelation(bytes: Buffer, at: number, end: number, into: Message): number {
  need(at, 4, end, into);
  into.relationOid = u32(bytes, at);
  into.at = at + 4;
  into.secondAt = skipText(bytes, into.at, end, into);
  const identityAt = skipText(bytes, into.secondAt, end, into);
  need(identityAt, 3, end, into);
  if (!"dnfi".includes(String.fromCharCode(bytes[identityAt]!))) throw wrongTuple(into, bytes[identityAt]!, identityAt, "a replica identity 'd', 'n', 'f' or 'i'");
  const count = bytes.readUInt16BE(identityAt + 1);
  let next = identityAt + 3;
  for (let column = 0; column < count; column++) next = need(skipText(bytes, need(next, 1, end, into), end, into), 8, end, into);
  return next;
}

function readRelation({ bytes, relationOid, at, secondAt, end }: Message): Relation {
  const identityAt = bytes.indexOf(0, secondAt) + 1;
  const columns: RelationColumn[] = [];
  for (let next = identityAt + 3; next < end; ) {
    const nameEnd = bytes.indexOf(0, next + 1);
    columns.push({ name: bytes.toString("utf8", next + 1, nameEnd), isKey: (bytes[next]! & 1) === 1, typeOid: bytes.readUInt32BE(nameEnd + 1), typmod: bytes.readInt32BE(nameEnd + 5) });
    next = nameEnd + 9;
  }
  return {
    oid: relationOid,
    // An empty namespace means pg_catalog.
    schema: bytes.toString("utf8", at, secondAt - 1) || "pg_catalog",
    name: bytes.toString("utf8", secondAt, identityAt - 1),
    replicaIdentity: String.fromCharCode(bytes[identityAt]!) as Relation["replicaIdentity"],
    columns,
  };
}

/** The position after a text that ends in a zero byte. */
function skipText(bytes: Buffer, at: number, end: number, message: Message): number {
  const zero = bytes.indexOf(0, at);
  if (zero < 0 || zero >= end) throw malformed(nameOf(message.tag), "the end of a text", message.start, end);
  return zero + 1;
}

function need(at: number, length: number, end: number, message: Message): number {
  if (at + length > end) throw malformed(nameOf(message.tag), `${length} bytes at byte ${at - message.start}`, message.start, end);
  return at + length;
}

function u32(bytes: Buffer, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

function nameOf(tag: number): string {
  return Object.entries(messageTags).find(([, value]) => value === tag)?.[0] ?? `a message with tag ${tag}`;
}

function malformed(what: string, expected: string, start: number, end: number): WalcastError {
  return new WalcastError("malformed_message", `decode ${what}: expected ${expected}, found the end at byte ${end - start}`);
}

function wrongTuple(message: Message, found: number, at: number, expected: string): WalcastError {
  return new WalcastError("malformed_message", `decode ${nameOf(message.tag)}: expected ${expected}, found ${found} at byte ${at - message.start}`);
}
