/**
 * Postgres' frontend/backend protocol, as far as a replica in the same process needs it: messages to PGlite and the
 * bytes that come back. Pure; knows nothing of PGlite itself.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import { uint32 } from "../engine/protocol/uint32.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

// What is kept between two uses: enough for the rows that are loaded at once, so that memory is not made anew for each of many. A
// larger COPY makes the buffer grow; it should not stay that large.
const KEPT_BYTES = (1 << 20) + (1 << 16);

/** Builds one buffer of messages. Values travel as text, formats and parameter types are left to Postgres. */
export class Messages {
  private bytes = new Uint8Array(1 << 14);
  private length = 0;

  /** Postgres finds out the types of parameters that are not given one. */
  parse(name: string, sql: string, parameterTypes: readonly number[] = []): this {
    const start = this.begin(0x50);
    this.zeroTerminated(name);
    this.zeroTerminated(sql);
    this.int16(parameterTypes.length);
    for (const type of parameterTypes) this.int32(type);
    return this.end(start);
  }

  describeStatement(name: string): this {
    const start = this.begin(0x44);
    this.byte(0x53);
    this.zeroTerminated(name);
    return this.end(start);
  }

  closeStatement(name: string): this {
    const start = this.begin(0x43);
    this.byte(0x53);
    this.zeroTerminated(name);
    return this.end(start);
  }

  /** Runs a prepared statement with these values. `format`: of the results, 0 text, 1 binary. */
  run(name: string, values: readonly (string | null)[], format = 0): this {
    this.bind(name, values, format);
    const start = this.begin(0x45);
    this.byte(0);
    this.int32(0);
    return this.end(start);
  }

  sync(): this {
    return this.end(this.begin(0x53));
  }

  /** A simple query: any number of statements, no parameters; ends with its own ReadyForQuery. */
  query(sql: string): this {
    const start = this.begin(0x51);
    this.zeroTerminated(sql);
    return this.end(start);
  }

  copyData(bytes: Uint8Array): this {
    const start = this.begin(0x64);
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
    return this.end(start);
  }

  copyDone(): this {
    return this.end(this.begin(0x63));
  }

  /** What was built; valid until the next message is. */
  take(): Uint8Array {
    const taken = this.bytes.subarray(0, this.length);
    if (this.bytes.length > KEPT_BYTES) this.bytes = new Uint8Array(1 << 14);
    this.length = 0;
    return taken;
  }

  private bind(name: string, values: readonly (string | null)[], format: number): void {
    const start = this.begin(0x42);
    this.byte(0);
    this.zeroTerminated(name);
    this.int16(0);
    this.int16(values.length);
    for (const value of values) this.value(value);
    this.int16(1);
    this.int16(format);
    this.end(start);
  }

  private value(value: string | null): void {
    if (value === null) return this.int32(-1);
    const start = this.length;
    this.int32(0);
    this.text(value);
    uint32(this.bytes, start, this.length - start - 4);
  }

  private begin(tag: number): number {
    this.byte(tag);
    const start = this.length;
    this.int32(0);
    return start;
  }

  private end(start: number): this {
    uint32(this.bytes, start, this.length - start);
    return this;
  }

  private zeroTerminated(text: string): void {
    this.text(text);
    this.byte(0);
  }

  private text(text: string): void {
    if (text.length > KEPT_BYTES) return this.longText(encoder.encode(text));
    this.reserve(text.length * 3);
    this.length += writeText(text, this.bytes, this.length);
  }

  /** Room for three bytes a character would be too much here. */
  private longText(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  private byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  private int16(value: number): void {
    this.reserve(2);
    this.bytes[this.length++] = value >>> 8;
    this.bytes[this.length++] = value;
  }

  private int32(value: number): void {
    this.reserve(4);
    uint32(this.bytes, this.length, value);
    this.length += 4;
  }

  /** Makes room at once for what would else grow step by step. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }
}

/** Short ASCII by hand: the call into the encoder alone costs more than such a value. */
function writeText(text: string, into: Uint8Array, at: number): number {
  if (text.length > 32) return encoder.encodeInto(text, into.subarray(at)).written;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return encoder.encodeInto(text, into.subarray(at)).written;
    into[at + i] = code;
  }
  return text.length;
}

// ── What comes back ──────────────────────────────────────────────────────────────────────────────────────────────────

export const replyTags = {
  rowDescription: 0x54,
  parameterDescription: 0x74,
  dataRow: 0x44,
  complete: 0x43,
  error: 0x45,
  notice: 0x4e,
  ready: 0x5a,
} as const;

/** Steps through replies without making an object for each: a result may have 100,000 of them. */
export class Replies {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Of the current reply; `start` and `end` enclose its body. */
  tag = 0;
  start = 0;
  end = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  next(): boolean {
    if (this.end >= this.bytes.length) return false;
    this.tag = this.bytes[this.end]!;
    this.start = this.end + 5;
    this.end += 1 + this.view.getInt32(this.end + 1);
    return true;
  }
}

export interface ResultColumn {
  readonly name: string;
  readonly typeOid: number;
  /** pg_class.oid and attnum of the column this is, or 0 where it is an expression. */
  readonly tableOid: number;
  readonly attribute: number;
}

export function readColumns(replies: Replies): ResultColumn[] {
  const { bytes, view } = replies;
  const columns: ResultColumn[] = [];
  let at = replies.start + 2;
  for (let left = view.getInt16(replies.start); left > 0; left--) {
    const end = bytes.indexOf(0, at);
    const name = decoder.decode(bytes.subarray(at, end));
    columns.push({
      name,
      tableOid: view.getUint32(end + 1),
      attribute: view.getInt16(end + 5),
      typeOid: view.getUint32(end + 7),
    });
    at = end + 19;
  }
  return columns;
}

export function readParameterTypes(replies: Replies): number[] {
  const count = replies.view.getInt16(replies.start);
  return Array.from({ length: count }, (_, i) => replies.view.getUint32(replies.start + 2 + 4 * i));
}

/** Whether a transaction is open after all replies: the last one ends in "I" outside, "T" inside, "E" inside one that has failed. */
export function leavesOpen(replies: Uint8Array): boolean {
  return replies.at(-1) !== 0x49;
}

/** One value of a row, as text. */
export function readText(bytes: Uint8Array, start: number, end: number): string {
  if (end - start > 24) return decoder.decode(bytes.subarray(start, end));
  let text = "";
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!;
    if (byte > 0x7f) return decoder.decode(bytes.subarray(start, end));
    text += String.fromCharCode(byte);
  }
  return text;
}

/** What Postgres itself refused. Carried as the `cause` of a WalcastError. */
export class PostgresError extends Error {
  override readonly name = "PostgresError";
  /** https://www.postgresql.org/docs/current/errcodes-appendix.html */
  readonly sqlState: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
  /** Offset into the query, from 0. */
  readonly position: number | undefined;

  constructor(fields: ReadonlyMap<string, string>) {
    super(fields.get("M") ?? "unknown error");
    this.sqlState = fields.get("C") ?? "XX000";
    this.detail = fields.get("D");
    this.hint = fields.get("H");
    const position = fields.get("P");
    this.position = position === undefined ? undefined : Number(position) - 1;
  }
}

export function readError(replies: Replies): PostgresError {
  const fields = new Map<string, string>();
  let at = replies.start;
  while (replies.bytes[at] !== 0) {
    const end = replies.bytes.indexOf(0, at);
    fields.set(String.fromCharCode(replies.bytes[at]!), decoder.decode(replies.bytes.subarray(at + 1, end)));
    at = end + 1;
  }
  return new PostgresError(fields);
}

/** The first notice among the replies, which has an error's fields. */
export function findNotice(bytes: Uint8Array): PostgresError | undefined {
  const replies = new Replies(bytes);
  while (replies.next()) if (replies.tag === replyTags.notice) return readError(replies);
  return undefined;
}

/** The first error among the replies, if there is one. */
export function findError(bytes: Uint8Array): PostgresError | undefined {
  const replies = new Replies(bytes);
  while (replies.next()) if (replies.tag === replyTags.error) return readError(replies);
  return undefined;
}
