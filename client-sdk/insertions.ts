/**
 * Transactions of nothing but new rows, as lines of COPY text: from bytes to bytes, without a string for each value. In bulk
 * that is most of what applying them costs. Whatever is anything else, malformed included, is none.
 * https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
 */
import { tags } from "../engine/protocol.ts";

export interface Insertions {
  readonly rows: number;
  readonly lines: Uint8Array;
}

/** 'C', the position, the commit's time and its transaction; what follows is the count of operations. */
const COMMIT_HEAD_BYTES = 1 + 8 + 8 + 8;

/** Undefined where there are fewer than `rowsMin`, or something else among them. */
export function insertionsOf(
  payloads: readonly Uint8Array[],
  columnCount: number,
  rowsMin: number,
): Insertions | undefined {
  const readers = payloads.map((payload) => new InsertReader(payload, columnCount));
  if (!readers.every((reader) => reader.measure())) return undefined;
  const rows = readers.reduce((sum, reader) => sum + reader.rows, 0);
  if (rows < rowsMin) return undefined;
  const lines = new Uint8Array(readers.reduce((sum, reader) => sum + reader.lineBytesMax, 0));
  let length = 0;
  for (const reader of readers) length = reader.write(lines, length);
  return { rows, lines: lines.subarray(0, length) };
}

const escapes = new Map([
  ["\\", "\\"],
  ["\n", "n"],
  ["\r", "r"],
  ["\t", "t"],
]);
/** By byte, what stands behind a backslash in its place; 0 where it stands for itself. */
const escapeOf = new Uint8Array(256);
for (const [character, escape] of escapes) escapeOf[character.charCodeAt(0)] = escape.charCodeAt(0);

const BACKSLASH = 0x5c;
const TAB = 0x09;
const NEWLINE = 0x0a;
const NULL = 0x4e;

class InsertReader {
  rows = 0;
  lineBytesMax = 0;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly columnCount: number;

  constructor(bytes: Uint8Array, columnCount: number) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.columnCount = columnCount;
  }

  /** Goes from value to value. False where it is not whole commits of whole new rows. */
  measure(): boolean {
    let at = 0;
    while (at < this.bytes.length) {
      if (this.bytes[at] !== tags.commit || at + COMMIT_HEAD_BYTES + 4 > this.bytes.length) return false;
      const count = this.view.getUint32(at + COMMIT_HEAD_BYTES);
      at += COMMIT_HEAD_BYTES + 4;
      for (let i = 0; i < count; i++) {
        const end = this.endOfInsert(at);
        if (end < 0) return false;
        at = end;
      }
      this.rows += count;
    }
    return true;
  }

  /** After `measure`. Returns where the lines end. */
  write(into: Uint8Array, start: number): number {
    let length = start;
    let at = 0;
    while (at < this.bytes.length) {
      const count = this.view.getUint32(at + COMMIT_HEAD_BYTES);
      at += COMMIT_HEAD_BYTES + 4;
      for (let i = 0; i < count; i++) {
        at += 3;
        for (let column = 0; column < this.columnCount; column++) {
          const tag = this.bytes[at++];
          if (tag === tags.text) {
            const end = at + 4 + this.view.getUint32(at);
            length = escaped(this.bytes, at + 4, end, into, length);
            at = end;
          } else {
            into[length++] = BACKSLASH;
            into[length++] = NULL;
          }
          into[length++] = TAB;
        }
        into[length - 1] = NEWLINE;
      }
    }
    return length;
  }

  /** Negative where it is none. */
  private endOfInsert(start: number): number {
    const { bytes, view, columnCount } = this;
    if (bytes[start] !== tags.insert || start + 3 > bytes.length || view.getUint16(start + 1) !== columnCount)
      return -1;
    let at = start + 3;
    for (let column = 0; column < columnCount; column++) {
      const tag = bytes[at++];
      if (tag === tags.null) this.lineBytesMax += 3;
      else if (tag === tags.text && at + 4 <= bytes.length) {
        const valueBytes = view.getUint32(at);
        at += 4 + valueBytes;
        if (at > bytes.length) return -1;
        this.lineBytesMax += 2 * valueBytes + 1;
      } else return -1;
    }
    return at;
  }
}

function escaped(from: Uint8Array, start: number, end: number, into: Uint8Array, at: number): number {
  let length = at;
  for (let i = start; i < end; i++) {
    const byte = from[i]!;
    const escape = escapeOf[byte]!;
    if (escape === 0) into[length++] = byte;
    else {
      into[length++] = BACKSLASH;
      into[length++] = escape;
    }
  }
  return length;
}
