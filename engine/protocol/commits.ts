/** The transactions in a payload, as the head of protocol.ts describes them. */
import type { Lsn } from "./lsn.ts";
import { malformed } from "./malformed.ts";

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
