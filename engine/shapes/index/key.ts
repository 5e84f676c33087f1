/**
 * The values of some columns as one key, of a predicate's points or of a row: each column's part begins with what kind it is and
 * ends where that says. So no list of values has the key of another one, nor its beginning.
 */
import assert from "node:assert/strict";
import { NULL_VALUE, TEXT_VALUE, type Tuple } from "../../changes/tuple.ts";
import { type AnyColumn, isReadable, type ReadColumn } from "../where/column.ts";
import type { Point } from "./cover.ts";
import { hashOf } from "./key-map.ts";
import type { Words } from "./key-table.ts";

/** Until the zero behind it, which no text of Postgres contains. */
const TEXT = 1;
const NULL = 2;
/** Sixteen bytes. */
const UUID = 3;

export class Key implements Words {
  words = new Int32Array(16);
  hash = 0;
  private bytes = new Uint8Array(this.words.buffer);
  private length = 0;
  private readonly columns: readonly (AnyColumn | ReadColumn)[];

  constructor(columns: readonly AnyColumn[]) {
    this.columns = columns;
  }

  get count(): number {
    return (this.length + 3) >>> 2;
  }

  /** Itself, until the next. */
  ofPoints(points: readonly Point[]): this {
    this.length = 0;
    for (const { column, value } of points) this.append(column, value, 0, value?.length ?? 0);
    return this.finished();
  }

  /** Itself, until the next. */
  ofRow(row: Tuple): this {
    this.length = 0;
    for (const column of this.columns) {
      const { position } = column;
      const isNone = isNull(row, position);
      this.append(column, isNone ? null : row.bytes, row.starts[position]!, row.ends[position]!);
    }
    return this.finished();
  }

  private append(column: AnyColumn | ReadColumn, value: Buffer | null, start: number, end: number): void {
    if (this.length + end - start + 8 > this.bytes.length) this.grow(end - start + 8);
    if (!value) this.bytes[this.length++] = NULL;
    // A column that can only be asked whether it is NULL has no value that anybody looks for.
    else if (!isReadable(column)) this.appendText(value, start, start);
    else if (column.values.name === "uuid") this.appendUuid(value, start);
    else this.appendText(value, start, column.values.end(value, start, end));
  }

  private appendText(from: Buffer, start: number, end: number): void {
    const { bytes } = this;
    let at = this.length;
    bytes[at++] = TEXT;
    for (let i = start; i < end; i++) bytes[at++] = from[i]!;
    bytes[at++] = 0;
    this.length = at;
  }

  /** Canonical text: 32 digits in lower case, and four hyphens. */
  private appendUuid(from: Buffer, start: number): void {
    const { bytes } = this;
    bytes[this.length++] = UUID;
    for (let group = 0, at = start; group < uuidGroups.length; group++, at++)
      for (const end = at + uuidGroups[group]!; at < end; at += 2)
        bytes[this.length++] = (digitOf(from[at]!) << 4) | digitOf(from[at + 1]!);
  }

  /** The last word's rest is zeros. */
  private finished(): this {
    for (let at = this.length; (at & 3) !== 0; at++) this.bytes[at] = 0;
    this.hash = hashOf(this.words, this.count);
    return this;
  }

  private grow(more: number): void {
    const words = new Int32Array((this.words.length + more) * 2);
    words.set(this.words);
    this.words = words;
    this.bytes = new Uint8Array(words.buffer);
  }
}

const uuidGroups = [8, 4, 4, 4, 12];

/** Of '0' to '9' and 'a' to 'f'. */
function digitOf(letter: number): number {
  return (letter & 0xf) + (letter >>> 6) * 9;
}

export function isNull(row: Tuple, position: number): boolean {
  const kind = row.kinds[position];
  if (kind === TEXT_VALUE) return false;
  assert(kind === NULL_VALUE && position < row.count, "a row carries every column that a predicate reads");
  return true;
}
