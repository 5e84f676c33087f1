/**
 * Takes one pgoutput message apart, protocol version 2 with text values. It only notes where things are, in
 * one Message that is reused for all: a change costs no allocation.
 *
 * A transaction that is sent before it commits comes in blocks, from Stream Start to Stream Stop. What lies in one
 * belongs to nobody by its place, so there a message carries a xid behind its tag: its subtransaction's, if it has one.
 *
 * Nothing a message says about itself is trusted. Every count and length is held against the bytes that are there, no
 * byte at or after `end` is read, and bytes left over are refused: what decoded without a complaint decoded in full.
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */
import assert from "node:assert/strict";
import { WalcastError } from "../errors.ts";
import { type Message, messageTags, NO_OLD_TUPLE, OLD_KEY, OLD_ROW, type RelationColumn } from "./pgoutput-message.ts";
import { NULL_VALUE, TEXT_VALUE, type Tuple, UNCHANGED_TOAST } from "./tuple.ts";

/**
 * Decodes the message that is bytes[start … end) into `into`, and returns it. Throws `malformed_message`. `streamed`: it
 * lies in a block of a streamed transaction.
 */
export function decodeMessage(
  bytes: Buffer,
  start: number,
  end: number,
  into: Message,
  streamed: boolean = false,
): Message {
  assert(start >= 0 && start <= end && end <= bytes.length, "a message lies within its buffer");
  into.bytes = bytes;
  into.start = start;
  into.end = end;
  into.body = start + 1;
  into.tag = start < end ? bytes[start]! : 0;
  // Where a transaction comes from is said once a block, of all that is in it.
  if (streamed && into.tag !== messageTags.origin) decodeXid(into);
  const at = decodeBody(into);
  if (at !== end) refuse(into, at, "the end");
  return into;
}

function decodeXid(message: Message): void {
  need(message, message.body, 4, "a xid");
  message.xid = uint32(message.bytes, message.body);
  message.body += 4;
}

/** Returns the offset of the first byte that is not part of the message. */
function decodeBody(message: Message): number {
  switch (message.tag) {
    case messageTags.update:
      return decodeUpdate(message);
    case messageTags.insert:
      return decodeInsert(message);
    case messageTags.delete:
      return decodeDelete(message);
    case messageTags.begin:
      return decodeBegin(message);
    case messageTags.commit:
      return decodeCommit(message);
    case messageTags.relation:
      return decodeRelation(message);
    case messageTags.truncate:
      return decodeTruncate(message);
    case messageTags.message:
      return decodeLogicalMessage(message);
    case messageTags.type:
      return decodeType(message);
    case messageTags.origin:
      return decodeOrigin(message);
    case messageTags.streamStart:
      return decodeStreamStart(message);
    case messageTags.streamStop:
      return message.body;
    case messageTags.streamCommit:
      return decodeStreamCommit(message);
    case messageTags.streamAbort:
      return decodeStreamAbort(message);
    default:
      return refuse(message, message.start, "a message's tag");
  }
}

// ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const NEW_TUPLE = 0x4e; // 'N'

function decodeInsert(message: Message): number {
  const at = relationOidOf(message);
  message.oldKind = NO_OLD_TUPLE;
  message.old.count = 0;
  return decodeNewTuple(message, at);
}

function decodeUpdate(message: Message): number {
  const at = relationOidOf(message);
  const kind = byteAt(message, at, "the kind of a tuple");
  if (kind === OLD_ROW || kind === OLD_KEY) {
    message.oldKind = kind;
    return decodeNewTuple(message, decodeTuple(message, message.old, at + 1));
  }
  message.oldKind = NO_OLD_TUPLE;
  message.old.count = 0;
  return decodeNewTuple(message, at);
}

function decodeDelete(message: Message): number {
  const at = relationOidOf(message);
  const kind = byteAt(message, at, "the kind of a tuple");
  if (kind !== OLD_ROW && kind !== OLD_KEY) refuse(message, at, "an old tuple ('K' or 'O')");
  message.oldKind = kind;
  message.new.count = 0;
  return decodeTuple(message, message.old, at + 1);
}

function relationOidOf(message: Message): number {
  const at = message.body;
  need(message, at, 4, "a table's oid");
  message.relationOid = uint32(message.bytes, at);
  return at + 4;
}

function decodeNewTuple(message: Message, at: number): number {
  if (byteAt(message, at, "a new tuple ('N')") !== NEW_TUPLE) refuse(message, at, "a new tuple ('N')");
  return decodeTuple(message, message.new, at + 1);
}

/** Where all the time goes: straight-line code on local variables, and the only calls are those that refuse. */
function decodeTuple(message: Message, tuple: Tuple, start: number): number {
  const { bytes, end } = message;
  if (start + 2 > end) refuse(message, start, "a count of columns");
  const count = (bytes[start]! << 8) | bytes[start + 1]!;
  let at = start + 2;
  // A column takes a byte at least, so a count beyond that is a lie; refused before anything is made that large.
  if (count > end - at) refuse(message, start, `at most ${end - at} columns`, `a count of ${count}`);
  tuple.reset(bytes, count);
  const { kinds, starts, ends } = tuple;
  for (let column = 0; column < count; column++) {
    if (at >= end) refuse(message, at, "the kind of a column");
    const kind = bytes[at++]!;
    kinds[column] = kind;
    if (kind === TEXT_VALUE) {
      if (at + 4 > end) refuse(message, at, "the length of a value");
      const length = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
      at += 4;
      if (length < 0 || length > end - at)
        refuse(message, at - 4, `a value of at most ${end - at} bytes`, `a length of ${length}`);
      starts[column] = at;
      at += length;
    } else {
      // 'b', a binary value, is never sent to those who did not ask for it.
      if (kind !== NULL_VALUE && kind !== UNCHANGED_TOAST)
        refuse(message, at - 1, "the kind of a column ('n', 'u' or 't')");
      starts[column] = at;
    }
    ends[column] = at;
  }
  return at;
}

// ── Around the rows ──────────────────────────────────────────────────────────────────────────────────────────────────

function decodeBegin(message: Message): number {
  need(message, message.body, 20, "an LSN, a time and a xid");
  message.xid = uint32(message.bytes, message.body + 16);
  return message.body + 20;
}

function decodeCommit(message: Message): number {
  return decodeCommitFrom(message, message.body);
}

function decodeCommitFrom(message: Message, at: number): number {
  need(message, at, 25, "flags, two LSNs and a time");
  // None are defined. One that appears may mean that this is no commit.
  if (message.bytes[at] !== 0) refuse(message, at, "a commit's flags, 0");
  return at + 25;
}

function decodeOrigin(message: Message): number {
  need(message, message.body, 8, "an LSN");
  return decodeFirst(message, message.body + 8, "an origin's name");
}

function decodeType(message: Message): number {
  need(message, message.body, 4, "a type's oid");
  message.secondStart = decodeFirst(message, message.body + 4, "a type's schema");
  message.secondEnd = endOfText(message, message.secondStart, "a type's name");
  return message.secondEnd + 1;
}

function decodeLogicalMessage(message: Message): number {
  const flags = byteAt(message, message.body, "flags");
  if (flags > 1) refuse(message, message.body, "a logical message's flags, 0 or 1");
  message.transactional = flags === 1;
  need(message, message.body + 1, 8, "an LSN");
  const at = decodeFirst(message, message.body + 9, "a prefix");
  need(message, at, 4, "the length of the content");
  const length = uint32(message.bytes, at);
  need(message, at + 4, length, "the content");
  message.secondStart = at + 4;
  message.secondEnd = at + 4 + length;
  return message.secondEnd;
}

function decodeTruncate(message: Message): number {
  const at = message.body;
  need(message, at, 5, "a count of tables and options");
  const count = uint32(message.bytes, at);
  need(message, at + 5, count * 4, "the tables' oids");
  message.truncateOptions = message.bytes[at + 4]!;
  message.relationOids = Array.from({ length: count }, (_, index) => uint32(message.bytes, at + 5 + index * 4));
  return at + 5 + count * 4;
}

// ── Around the blocks of a streamed transaction ──────────────────────────────────────────────────────────────────────

function decodeStreamStart(message: Message): number {
  need(message, message.body, 4, "a xid");
  message.xid = uint32(message.bytes, message.body);
  const flag = byteAt(message, message.body + 4, "a block's flag");
  if (flag > 1) refuse(message, message.body + 4, "a block's flag, 0 or 1");
  message.isFirstBlock = flag === 1;
  return message.body + 5;
}

function decodeStreamCommit(message: Message): number {
  need(message, message.body, 4, "a xid");
  message.xid = uint32(message.bytes, message.body);
  return decodeCommitFrom(message, message.body + 4);
}

function decodeStreamAbort(message: Message): number {
  need(message, message.body, 8, "two xids");
  message.xid = uint32(message.bytes, message.body);
  message.subxid = uint32(message.bytes, message.body + 4);
  return message.body + 8;
}

// ── Relation ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Read at once, strings too: it comes once per table and connection, and nobody receives one without wanting it. */
function decodeRelation(message: Message): number {
  let at = relationOidOf(message);
  const schemaEnd = endOfText(message, at, "a table's schema");
  const schema = message.bytes.toString("utf8", at, schemaEnd);
  at = schemaEnd + 1;
  const nameEnd = endOfText(message, at, "a table's name");
  const name = message.bytes.toString("utf8", at, nameEnd);
  at = nameEnd + 1;
  const replicaIdentity = replicaIdentityAt(message, at);
  const columns: RelationColumn[] = [];
  at = decodeColumns(message, at + 1, columns);
  message.described = { oid: message.relationOid, schema, name, replicaIdentity, columns };
  return at;
}

function replicaIdentityAt(message: Message, at: number): "d" | "n" | "f" | "i" {
  const letter = String.fromCharCode(byteAt(message, at, "a replica identity"));
  if (letter === "d" || letter === "n" || letter === "f" || letter === "i") return letter;
  return refuse(message, at, "a replica identity ('d', 'n', 'f' or 'i')");
}

function decodeColumns(message: Message, start: number, columns: RelationColumn[]): number {
  need(message, start, 2, "a count of columns");
  const count = message.bytes.readUInt16BE(start);
  let at = start + 2;
  for (let column = 0; column < count; column++) {
    const flags = byteAt(message, at, "a column's flags");
    if (flags > 1) refuse(message, at, "a column's flags, 0 or 1");
    const nameEnd = endOfText(message, at + 1, "a column's name");
    need(message, nameEnd + 1, 8, "a column's type and typmod");
    const name = message.bytes.toString("utf8", at + 1, nameEnd);
    at = nameEnd + 9;
    columns.push({
      name,
      typeOid: uint32(message.bytes, at - 8),
      typmod: message.bytes.readInt32BE(at - 4),
      isKey: flags === 1,
    });
  }
  return at;
}

// ── Bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Notes a text that ends in a zero byte, and returns the offset after that. */
function decodeFirst(message: Message, at: number, what: string): number {
  message.firstStart = at;
  message.firstEnd = endOfText(message, at, what);
  return message.firstEnd + 1;
}

/** The offset of the zero byte that ends the text. */
function endOfText(message: Message, start: number, what: string): number {
  let at = start;
  while (at < message.end && message.bytes[at] !== 0) at++;
  if (at === message.end) refuse(message, at, `a zero byte after ${what}`);
  return at;
}

function byteAt(message: Message, at: number, what: string): number {
  if (at >= message.end) refuse(message, at, what);
  return message.bytes[at]!;
}

function uint32(bytes: Buffer, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

function need(message: Message, at: number, count: number, what: string): void {
  if (count > message.end - at) refuse(message, at, `${what} (${count} bytes)`, `${message.end - at} bytes`);
}

/** Says what stood there instead, but never more than one byte of it: it may be a value's. */
function refuse(message: Message, at: number, expected: string, found: string = foundAt(message, at)): never {
  throw new WalcastError(
    "malformed_message",
    `decode ${nameOf(message)}: expected ${expected}, found ${found} at byte ${at - message.start}`,
  );
}

function foundAt(message: Message, at: number): string {
  return at < message.end ? `0x${message.bytes[at]!.toString(16).padStart(2, "0")}` : "the end";
}

function nameOf(message: Message): string {
  return Object.entries(messageTags).find(([, tag]) => tag === message.tag)?.[0] ?? "a pgoutput message";
}
