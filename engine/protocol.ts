/**
 * Every message on the socket: `walcast.v1`. The one engine file the client imports, so it runs in browsers and knows
 * nothing of Node. docs/protocol.md says the same in prose; tests hold the two together.
 *
 * Client to server: JSON text. Server to client: JSON text for control, binary frames for data. Each message from the
 * server, text or binary, takes the connection's next frame number, from 1: a gap means that something was lost, and
 * the client reconnects.
 *
 * A binary frame, all integers big-endian:
 *
 *     0  u8   kind        1 commits · 2 copy · 3 catch-up · 4 join · 5 position
 *     1  u8   flags       bit 0: boundary (commits: everything staged since the last boundary may now be shown)
 *     2  u16  sections
 *     4  u32  number      the connection's frame number
 *     8  u32  checksum    CRC-32 of the header (all bytes before the payloads, without this field), seeded with the
 *                         checksum of the binary frame before; 0 before the first
 *     12 u64  position    commit-end LSN the connection has reached when this frame is applied
 *     20      per section: u32 subscription · u32 payload length · u32 CRC-32 of the payload
 *     …       the payloads, one after another
 *
 * So a shape's payload is encoded once, its CRC computed once, and every connection puts its own small header before it.
 *
 * Payloads of copy frames are whole lines of COPY text format. Payloads of commits, catch-up and join frames are
 * transactions in commit order:
 *
 *     'C'  u64 position (commit-end LSN) · i64 commit time (µs since 2000-01-01 UTC) · u64 xid · u32 operations
 *     then that many operations:
 *     'I'  tuple                    a row that is new to the shape
 *     'U'  u8 old · [tuple] · tuple old: 0 nothing, 1 the old key (the key changed), 2 the whole old row (changes mode)
 *     'D'  u8 old · tuple           old: 1 the key, 2 the whole old row (changes mode)
 *     'T'                           all rows of the shape are gone
 *
 *     tuple: u16 columns, then per column 'n' (NULL) | 'u' (unchanged: keep what you have) | 't' u32 length, UTF-8 text
 *
 * A row tuple has the columns of the shape's description, in its order; a key tuple has the key's, in the key's order.
 * Values are Postgres' own text output under the settings that docs/protocol.md lists.
 */
import { type ErrorJson, WalcastError } from "./errors.ts";
import type { TypeDescription } from "./changes/table.ts";

export { WalcastError, type ErrorCode, type ErrorJson, errorCodes } from "./errors.ts";
export type { TypeDescription } from "./changes/table.ts";

export const subprotocol = "walcast.v1";

/** Why the server closed the connection. https://www.rfc-editor.org/rfc/rfc6455#section-7.4.2 */
export const closeCodes = {
  goingAway: 1001,
  malformed: 4400,
  unauthenticated: 4401,
  forbidden: 4403,
  tooSlowToGreet: 4408,
  tooLarge: 4413,
  tooMany: 4429,
} as const;

// ── Positions ────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * A position in the write-ahead log: 64-bit unsigned. Its text form is pg_lsn's, "16/B374D848".
 * https://www.postgresql.org/docs/current/datatype-pg-lsn.html
 */
export type Lsn = bigint & { readonly [lsnBrand]: true };
declare const lsnBrand: unique symbol;

export const zeroLsn = 0n as Lsn;

/** "16/B374D848" → Lsn. Throws `malformed_message` on anything else. */
export function parseLsn(text: string): Lsn {
  const parts = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (!parts)
    throw new WalcastError(
      "malformed_message",
      `read an LSN: expected a form like "16/B374D848", found ${JSON.stringify(text)}`,
    );
  return ((BigInt(`0x${parts[1]}`) << 32n) | BigInt(`0x${parts[2]}`)) as Lsn;
}

export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

/** From the two halves as they stand on a wire. */
export function lsnFromHalves(high: number, low: number): Lsn {
  return ((BigInt(high) << 32n) | BigInt(low)) as Lsn;
}

// ── Control messages ─────────────────────────────────────────────────────────────────────────────────────────────────

/** What a subscription asks for. Names as in SQL; `where` as in SQL, with $1… for `params`. */
export interface ShapeRequest {
  readonly table: string;
  readonly where?: string;
  /** JSON values: numbers, booleans, null, text (Postgres' input form), or arrays of these. */
  readonly params?: readonly unknown[];
  /** Plain column names; must include the key's. Default: every column the config lets this client read. */
  readonly columns?: readonly string[];
}

/** First rows as far as they came. */
export interface LoadPart {
  /** As `described` named it. */
  readonly id: string;
  /** How many copy frames of it came. None of its catch-up frames may have. */
  readonly frames: number;
}

export type ClientMessage =
  /** `epoch` and `position`: the history and the place in it that this client has reached, if it wants to go on from there. */
  | { readonly kind: "hello"; readonly token?: string; readonly epoch?: string; readonly position?: string }
  /**
   * Another token for this connection, from now on: what each subscription may have is decided anew. Answered by
   * `authenticated`; one at a time.
   */
  | { readonly kind: "authenticate"; readonly token: string }
  /**
   * Ids count upwards per connection and are never used again. `changes`: no rows first, whole old rows in changes.
   * `identity`: the client has this shape at the position of its hello, and the server called it so. Only between a
   * welcome that says `resumes` and `resume`.
   * `load`: what the client has of the first rows of an earlier connection, which it lost before they were complete.
   */
  | {
      readonly kind: "subscribe";
      readonly id: number;
      readonly shape: ShapeRequest;
      readonly changes?: boolean;
      readonly identity?: string;
      readonly load?: LoadPart;
    }
  /** Every subscription with an identity has been named: go on from the position of the hello. */
  | { readonly kind: "resume" }
  | { readonly kind: "unsubscribe"; readonly id: number }
  /** Answered by `awaited` once this connection has reached the position, or the commit of the transaction (a 64-bit xid in text). */
  | { readonly kind: "await"; readonly id: number; readonly position?: string; readonly xid?: string }
  /** The answer to `audit`: whether the client's rows at that boundary are the server's. */
  | { readonly kind: "audited"; readonly id: number; readonly matches: boolean };

export type ServerMessage = { readonly frame: number } &
  /**
   * `resumes`: this server can go on from the position of the hello, and waits for `subscribe` with identities, then
   * `resume`. Where the hello had a position and this is missing, `cause` says why, and everything is loaded anew.
   */
  (
    | {
        readonly kind: "welcome";
        readonly epoch: string;
        readonly position: string;
        readonly positionEveryMs: number;
        /** The longest message that a client may send, in bytes: a longer one ends the connection. */
        readonly messageBytes?: number;
        /** How long the token lasts from now on. Absent: for ever. */
        readonly expiresInMs?: number;
        readonly resumes?: boolean;
        readonly cause?: ErrorJson;
      }
    /**
     * The new token holds. What it does not allow was said before: subscriptions that have had `resync` with `purge`, or an
     * `error`. All others go on.
     */
    | { readonly kind: "authenticated"; readonly expiresInMs?: number }
    /** The identity still holds: the subscription is joined at the position of the hello, without a row being sent again. */
    | { readonly kind: "resumed"; readonly id: number }
    /** Precedes the first row of a subscription, and comes again after `resync`. */
    | {
        readonly kind: "described";
        readonly id: number;
        readonly table: TableDescription;
        readonly estimatedRows: number;
        /** Names the rows that follow: with it, a client that is cut off may ask for the rest. Absent where no rows follow. */
        readonly load?: string;
        /** The frames that the client said it has are not sent again. Otherwise what it has of an earlier load is void. */
        readonly continues?: boolean;
      }
    /**
     * The server cannot continue this subscription. Keep its rows readable; a new `described` and its rows replace them at
     * `join`. With `purge` they must not be shown any more: what this client may read has changed.
     */
    | { readonly kind: "resync"; readonly id: number; readonly cause: ErrorJson; readonly purge?: boolean }
    /**
     * The table has a new form that the rows can be brought to in place. Belongs to what is staged: it takes effect with the
     * next boundary, after the changes that came before it and before those that follow it.
     */
    | {
        readonly kind: "altered";
        readonly id: number;
        readonly table: TableDescription;
        readonly added: readonly AddedColumn[];
      }
    /** Forget what was staged since the last boundary: it comes again, from there. */
    | { readonly kind: "rewind" }
    /** At the boundary that was sent last the shape has so many rows, and their hashes this sum. Answered by `audited`. */
    | { readonly kind: "audit"; readonly id: number; readonly rows: string; readonly hash: string }
    | { readonly kind: "unsubscribed"; readonly id: number }
    | { readonly kind: "awaited"; readonly id: number; readonly position: string }
    /** With `subscription` or `await`, that one has failed and is over; without, the connection is about to close. */
    | { readonly kind: "error"; readonly subscription?: number; readonly await?: number; readonly error: ErrorJson }
  );

/** A shape as its client sees it: enough to create the local table. */
export interface TableDescription {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** Changes with the schema. Opaque. */
  readonly version: string;
  /** The shape's identity: table, columns, predicate with claims, version. Opaque; equal means "the same rows". */
  readonly identity: string;
  readonly columns: readonly ColumnDescription[];
  /** Column names in the key's order. */
  readonly key: readonly string[];
  /** To be created before the table, in this order. */
  readonly types: readonly TypeDescription[];
}

/** A column that rows which are there already get, all with one value. */
export interface AddedColumn {
  readonly name: string;
  /** Postgres' text; null for NULL. */
  readonly value: string | null;
}

export interface ColumnDescription {
  readonly name: string;
  /** As in DDL, qualified where it is not Postgres' own: `numeric(12,2)`, `public.order_status[]`. */
  readonly type: string;
  readonly notNull: boolean;
}

// ── Frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export const frameKinds = { commits: 1, copy: 2, catchUp: 3, join: 4, position: 5 } as const;
export type FrameKind = keyof typeof frameKinds;

const kindNames: readonly (FrameKind | undefined)[] = [undefined, "commits", "copy", "catchUp", "join", "position"];
const BOUNDARY = 1;
const HEADER_BYTES = 20;
const SECTION_BYTES = 12;

/** A payload and its CRC-32, made once and shared by every connection that gets it. */
export interface Payload {
  readonly bytes: Uint8Array;
  readonly crc: number;
}

export interface SectionOut {
  readonly subscription: number;
  readonly payload: Payload;
}

export interface FrameHead {
  readonly kind: FrameKind;
  readonly boundary: boolean;
  readonly number: number;
  readonly position: Lsn;
}

/** Everything before the payloads. `previousChecksum` is that of the connection's binary frame before, or 0. */
export function encodeFrameHeader(
  head: FrameHead,
  sections: readonly SectionOut[],
  previousChecksum: number,
): { bytes: Uint8Array; checksum: number } {
  const bytes = new Uint8Array(HEADER_BYTES + sections.length * SECTION_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, frameKinds[head.kind]);
  view.setUint8(1, head.boundary ? BOUNDARY : 0);
  view.setUint16(2, sections.length);
  view.setUint32(4, head.number);
  view.setBigUint64(12, head.position);
  let at = HEADER_BYTES;
  for (const { subscription, payload } of sections) {
    view.setUint32(at, subscription);
    view.setUint32(at + 4, payload.bytes.length);
    view.setUint32(at + 8, payload.crc);
    at += SECTION_BYTES;
  }
  const checksum = checksumOf(bytes, bytes.length, previousChecksum);
  view.setUint32(8, checksum);
  return { bytes, checksum };
}

export interface SectionIn {
  readonly subscription: number;
  readonly payload: Uint8Array;
}

export interface Frame extends FrameHead {
  readonly checksum: number;
  readonly sections: readonly SectionIn[];
}

/**
 * A binary message → Frame. `expected` is what the connection must see next; payloads are views into `bytes`.
 * Throws `malformed_message`, `frame_out_of_order` or `checksum_mismatch`; the connection cannot be used afterwards.
 */
export function decodeFrame(bytes: Uint8Array, expected: { number: number; previousChecksum: number }): Frame {
  if (bytes.length < HEADER_BYTES) throw malformed(`expected a header of ${HEADER_BYTES} bytes, found ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = kindNames[view.getUint8(0)];
  if (!kind) throw malformed(`expected a frame kind from 1 to 5, found ${view.getUint8(0)}`);
  const count = view.getUint16(2);
  const headerBytes = HEADER_BYTES + count * SECTION_BYTES;
  if (bytes.length < headerBytes)
    throw malformed(`expected ${count} section headers, found the end at byte ${bytes.length}`);
  const number = view.getUint32(4);
  if (number !== expected.number)
    throw new WalcastError("frame_out_of_order", `read a frame: expected number ${expected.number}, found ${number}`);
  const checksum = view.getUint32(8);
  if (checksum !== checksumOf(bytes, headerBytes, expected.previousChecksum))
    throw new WalcastError(
      "checksum_mismatch",
      `read frame ${number}: its header's checksum does not continue the frame before`,
    );
  return {
    kind,
    boundary: (view.getUint8(1) & BOUNDARY) !== 0,
    number,
    checksum,
    position: view.getBigUint64(12) as Lsn,
    sections: decodeSections(bytes, view, count, headerBytes),
  };
}

function decodeSections(bytes: Uint8Array, view: DataView, count: number, headerBytes: number): SectionIn[] {
  const sections: SectionIn[] = [];
  let start = headerBytes;
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + i * SECTION_BYTES;
    const end = start + view.getUint32(at + 4);
    if (end > bytes.length)
      throw malformed(`expected a payload up to byte ${end}, found the end at byte ${bytes.length}`);
    const payload = bytes.subarray(start, end);
    if (crc32(payload) !== view.getUint32(at + 8))
      throw new WalcastError("checksum_mismatch", `read a frame: section ${i}'s payload does not have its checksum`);
    sections.push({ subscription: view.getUint32(at), payload });
    start = end;
  }
  if (start !== bytes.length) throw malformed(`${bytes.length - start} bytes left over`);
  return sections;
}

/** The header's CRC, without the checksum field itself. */
function checksumOf(bytes: Uint8Array, headerBytes: number, seed: number): number {
  return crc32(bytes.subarray(12, headerBytes), crc32(bytes.subarray(0, 8), seed));
}

// ── Transactions inside payloads ─────────────────────────────────────────────────────────────────────────────────────

/** A column's text; null for SQL NULL; undefined where the update left an out-of-line value as it was. */
export type Value = string | null | undefined;

export type Operation =
  | { readonly kind: "insert"; readonly row: readonly Value[] }
  | {
      readonly kind: "update";
      readonly oldKey?: readonly Value[];
      readonly old?: readonly Value[];
      readonly row: readonly Value[];
    }
  | { readonly kind: "delete"; readonly key?: readonly Value[]; readonly old?: readonly Value[] }
  | { readonly kind: "truncate" };

export interface Commit {
  readonly position: Lsn;
  /** Microseconds since 2000-01-01 UTC, as Postgres keeps time. */
  readonly commitTime: bigint;
  /** 64 bits wide, as `pg_current_xact_id()` gives it. */
  readonly xid: bigint;
  readonly operations: readonly Operation[];
}

export const tags = {
  commit: 0x43,
  insert: 0x49,
  update: 0x55,
  delete: 0x44,
  truncate: 0x54,
  null: 0x6e,
  unchanged: 0x75,
  text: 0x74,
} as const;
export const oldKinds = { none: 0, key: 1, row: 2 } as const;

/** A payload's transactions, in commit order. Never reads past the end: a count is believed only as far as bytes are there. */
export function decodeCommits(payload: Uint8Array): Commit[] {
  const reader = new PayloadReader(payload);
  const commits: Commit[] = [];
  while (!reader.atEnd()) commits.push(decodeCommit(reader));
  return commits;
}

function decodeCommit(reader: PayloadReader): Commit {
  const tag = reader.u8();
  if (tag !== tags.commit) throw malformed(`expected a transaction ('C'), found tag ${tag}`);
  const position = reader.u64() as Lsn;
  const commitTime = reader.i64();
  const xid = reader.u64();
  const count = reader.u32();
  const operations: Operation[] = [];
  for (let i = 0; i < count; i++) operations.push(decodeOperation(reader));
  return { position, commitTime, xid, operations };
}

function decodeOperation(reader: PayloadReader): Operation {
  const tag = reader.u8();
  switch (tag) {
    case tags.insert:
      return { kind: "insert", row: reader.tuple() };
    case tags.update: {
      const old = reader.old();
      return { kind: "update", ...old.asOldKey, row: reader.tuple() };
    }
    case tags.delete:
      return { kind: "delete", ...reader.old().asKey };
    case tags.truncate:
      return { kind: "truncate" };
    default:
      throw malformed(`expected an operation, found tag ${tag}`);
  }
}

class PayloadReader {
  private at = 0;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  atEnd(): boolean {
    return this.at === this.bytes.length;
  }

  u8(): number {
    return this.view.getUint8(this.take(1));
  }

  u16(): number {
    return this.view.getUint16(this.take(2));
  }

  u32(): number {
    return this.view.getUint32(this.take(4));
  }

  u64(): bigint {
    return this.view.getBigUint64(this.take(8));
  }

  i64(): bigint {
    return this.view.getBigInt64(this.take(8));
  }

  tuple(): Value[] {
    const count = this.u16();
    const values: Value[] = [];
    for (let i = 0; i < count; i++) values.push(this.value());
    return values;
  }

  old(): { asOldKey: { oldKey?: Value[]; old?: Value[] }; asKey: { key?: Value[]; old?: Value[] } } {
    const kind = this.u8();
    if (kind === oldKinds.none) return { asOldKey: {}, asKey: {} };
    const tuple = this.tuple();
    if (kind === oldKinds.key) return { asOldKey: { oldKey: tuple }, asKey: { key: tuple } };
    if (kind === oldKinds.row) return { asOldKey: { old: tuple }, asKey: { old: tuple } };
    throw malformed(`expected an old tuple of kind 0 to 2, found ${kind}`);
  }

  private value(): Value {
    const tag = this.u8();
    if (tag === tags.text) {
      const length = this.u32();
      const start = this.take(length);
      return decodeText(this.bytes, start, start + length);
    }
    if (tag === tags.null) return null;
    if (tag === tags.unchanged) return undefined;
    throw malformed(`expected a value, found tag ${tag}`);
  }

  private take(length: number): number {
    const start = this.at;
    if (start + length > this.bytes.length)
      throw malformed(`expected ${length} bytes at ${start}, found the end at ${this.bytes.length}`);
    this.at = start + length;
    return start;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Short ASCII by hand: TextDecoder's call alone costs more than such a value. */
function decodeText(bytes: Uint8Array, start: number, end: number): string {
  if (end - start > 24) return decodeUtf8(bytes.subarray(start, end));
  let text = "";
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!;
    if (byte > 0x7f) return decodeUtf8(bytes.subarray(start, end));
    text += String.fromCharCode(byte);
  }
  return text;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw malformed("expected UTF-8 in a value, found other bytes");
  }
}

function malformed(found: string): WalcastError {
  return new WalcastError("malformed_message", `read a frame: ${found}`);
}

// ── CRC-32 ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Eight bytes a step: entry 256 k + n is the CRC of byte n with k zero bytes after it. Signed, because that is what
 * JavaScript's bit operators give: four times as fast as a byte a step through unsigned ones.
 */
const crcTables = new Int32Array(8 * 256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  crcTables[n] = c;
}
for (let i = 256; i < crcTables.length; i++) {
  const before = crcTables[i - 256]!;
  crcTables[i] = crcTables[before & 0xff]! ^ (before >>> 8);
}

/** CRC-32 as in zlib and RFC 1952: `crc32(b, crc32(a))` is the CRC of a and b joined. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  const t = crcTables;
  let crc = ~seed;
  let i = 0;
  for (const last = bytes.length - 8; i <= last; i += 8) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc =
      t[1792 + (crc & 0xff)]! ^
      t[1536 + ((crc >>> 8) & 0xff)]! ^
      t[1280 + ((crc >>> 16) & 0xff)]! ^
      t[1024 + (crc >>> 24)]! ^
      t[768 + bytes[i + 4]!]! ^
      t[512 + bytes[i + 5]!]! ^
      t[256 + bytes[i + 6]!]! ^
      t[bytes[i + 7]!]!;
  }
  for (; i < bytes.length; i++) crc = t[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}
