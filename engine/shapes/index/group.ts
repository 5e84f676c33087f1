/**
 * All places in the index that look at the same columns: rows are told apart by the values of some of them, as one key, and
 * among those with that key by the range that another column lies in.
 */
import assert from "node:assert/strict";
import { NULL_VALUE, TEXT_VALUE, type Tuple } from "../../changes/tuple.ts";
import type { Predicate } from "../where.ts";
import { ByteMap } from "../where/bytes.ts";
import { type AnyColumn, isReadable, type ReadColumn } from "../where/column.ts";
import { type Bucket, type Entry, entryIn, withEntry, withoutEntry } from "./bucket.ts";
import type { Point } from "./cover.ts";
import { Intervals } from "./intervals.ts";
import type { Range } from "./range.ts";

/** Where one predicate lies: values of a group's columns, and a range where the group has one. */
export interface Spot {
  readonly points: readonly Point[];
  readonly range: Range | undefined;
}

export interface Group<T> {
  readonly isEmpty: boolean;
  find(spot: Spot, predicate: Predicate): Entry<T> | undefined;
  add(spot: Spot, entry: Entry<T>): void;
  /** Nothing happens where it is not there. */
  delete(spot: Spot, entry: Entry<T>): void;
  candidates(row: Tuple, visit: (bucket: Bucket<T>) => void): void;
}

export function groupFor<T>({ points, range }: Spot): Group<T> {
  const columns = points.map(({ column }) => column);
  return range ? new RangeGroup(columns, range.column) : new PointGroup(columns);
}

class PointGroup<T> implements Group<T> {
  private readonly key: Key;
  private readonly buckets = new ByteMap<Bucket<T>>();

  constructor(columns: readonly AnyColumn[]) {
    this.key = new Key(columns);
  }

  get isEmpty(): boolean {
    return this.buckets.size === 0;
  }

  find({ points }: Spot, predicate: Predicate): Entry<T> | undefined {
    const bucket = this.at(this.key.ofPoints(points));
    return bucket && entryIn(bucket, predicate);
  }

  add({ points }: Spot, entry: Entry<T>): void {
    const key = this.key.ofPoints(points);
    this.buckets.set(key, withEntry(this.at(key), entry));
  }

  delete({ points }: Spot, entry: Entry<T>): void {
    const key = this.key.ofPoints(points);
    const bucket = this.at(key);
    if (bucket && !withoutEntry(bucket, entry)) this.buckets.delete(key);
  }

  candidates(row: Tuple, visit: (bucket: Bucket<T>) => void): void {
    const { key } = this;
    const bucket = this.buckets.get(key.bytes, 0, key.readRow(row));
    if (bucket) visit(bucket);
  }

  private at(key: Buffer): Bucket<T> | undefined {
    return this.buckets.get(key, 0, key.length);
  }
}

class RangeGroup<T> implements Group<T> {
  private readonly key: Key;
  private readonly column: ReadColumn;
  private readonly roots = new ByteMap<number>();
  private readonly intervals: Intervals<Bucket<T>>;

  constructor(columns: readonly AnyColumn[], column: ReadColumn) {
    this.key = new Key(columns);
    this.column = column;
    this.intervals = new Intervals(column);
  }

  get isEmpty(): boolean {
    return this.roots.size === 0;
  }

  find({ points, range }: Spot, predicate: Predicate): Entry<T> | undefined {
    const node = this.intervals.find(this.rootAt(this.key.ofPoints(points)), range!);
    return node === 0 ? undefined : entryIn(this.intervals.value(node), predicate);
  }

  add({ points, range }: Spot, entry: Entry<T>): void {
    const key = this.key.ofPoints(points);
    const root = this.rootAt(key);
    const node = this.intervals.find(root, range!);
    if (node !== 0) this.intervals.replace(node, withEntry(this.intervals.value(node), entry));
    else this.roots.set(key, this.intervals.insert(root, range!, withEntry(undefined, entry)));
  }

  delete({ points, range }: Spot, entry: Entry<T>): void {
    const key = this.key.ofPoints(points);
    const root = this.rootAt(key);
    const node = this.intervals.find(root, range!);
    if (node === 0 || withoutEntry(this.intervals.value(node), entry)) return;
    const after = this.intervals.remove(root, node);
    if (after === 0) this.roots.delete(key);
    else this.roots.set(key, after);
  }

  candidates(row: Tuple, visit: (bucket: Bucket<T>) => void): void {
    const { column, key } = this;
    if (isNull(row, column.position)) return;
    const root = this.roots.get(key.bytes, 0, key.readRow(row));
    if (root === undefined) return;
    const start = row.starts[column.position]!;
    this.intervals.stab(root, row.bytes, start, column.values.end(row.bytes, start, row.ends[column.position]!), visit);
  }

  private rootAt(key: Buffer): number {
    return this.roots.get(key, 0, key.length) ?? 0;
  }
}

// What begins a column's part of a key. A zero ends it, which no text of Postgres contains: no two lists of values have one key.
const VALUE = 1;
const NULL = 2;

/** The values of some columns as one run of bytes, of a predicate's points or of a row. Valid until the next. */
class Key {
  bytes: Buffer = Buffer.alloc(64);
  private readonly columns: readonly AnyColumn[];
  private length = 0;

  constructor(columns: readonly AnyColumn[]) {
    this.columns = columns;
  }

  ofPoints(points: readonly Point[]): Buffer {
    this.length = 0;
    for (const { value } of points) this.append(value ? VALUE : NULL, value ?? this.bytes, 0, value?.length ?? 0);
    return this.bytes.subarray(0, this.length);
  }

  /** How long it is, in `bytes`. */
  readRow(row: Tuple): number {
    this.length = 0;
    for (const column of this.columns) this.appendColumn(row, column);
    return this.length;
  }

  private appendColumn(row: Tuple, column: AnyColumn): void {
    const { position } = column;
    if (isNull(row, position)) return this.append(NULL, row.bytes, 0, 0);
    const start = row.starts[position]!;
    const end = row.ends[position]!;
    // A column that can only be asked whether it is NULL has no value that anybody looks for.
    if (isReadable(column)) this.append(VALUE, row.bytes, start, column.values.end(row.bytes, start, end));
    else this.append(VALUE, row.bytes, start, start);
  }

  private append(kind: number, from: Uint8Array, start: number, end: number): void {
    if (this.length + end - start + 2 > this.bytes.length) this.grow(end - start + 2);
    const { bytes } = this;
    let at = this.length;
    bytes[at++] = kind;
    for (let i = start; i < end; i++) bytes[at++] = from[i]!;
    bytes[at++] = 0;
    this.length = at;
  }

  private grow(more: number): void {
    const grown = Buffer.alloc((this.length + more) * 2);
    this.bytes.copy(grown, 0, 0, this.length);
    this.bytes = grown;
  }
}

function isNull(row: Tuple, position: number): boolean {
  const kind = row.kinds[position];
  if (kind === TEXT_VALUE) return false;
  assert(kind === NULL_VALUE && position < row.count, "a row carries every column that a predicate reads");
  return true;
}
