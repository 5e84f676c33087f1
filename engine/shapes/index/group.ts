/**
 * All places in the index that look at the same columns: rows are told apart by the values of some of them, as one key, and
 * among those with that key by the range that another column lies in.
 */
import type { Tuple } from "../../changes/tuple.ts";
import type { AnyColumn, ReadColumn } from "../where/column.ts";
import type { Bucket, Item } from "./bucket.ts";
import type { Point } from "./cover.ts";
import { withOne, withoutOne } from "./few.ts";
import { isNull, Key } from "./key.ts";
import { KeyMap } from "./key-map.ts";
import { compareRanges, isInside, type Probe, type Range } from "./range.ts";
import { Ranges } from "./ranges.ts";
import { isExact, rank } from "./rank.ts";

/** Where one predicate lies: values of a group's columns, and a range where the group has one. */
export interface Spot {
  readonly points: readonly Point[];
  readonly range: Range | undefined;
}

export interface Group<T> {
  readonly isEmpty: boolean;
  add(spot: Spot, item: Item<T>): void;
  /** Nothing happens where it is not there. */
  delete(spot: Spot, item: Item<T>): void;
  /** The rows that `candidates` will be asked about next, each by its place among them. */
  expect(rows: readonly Tuple[], count: number): void;
  candidates(row: Tuple, place: number, visit: (bucket: Bucket<T>) => void): void;
}

export function groupFor<T>({ points, range }: Spot): Group<T> {
  const columns = points.map(({ column }) => column);
  return range ? new RangeGroup(columns, range.column) : new PointGroup(columns);
}

class PointGroup<T> implements Group<T> {
  private readonly key: Key;
  private readonly rows: RowKeys;
  private readonly buckets = new KeyMap<Bucket<T>>();

  constructor(columns: readonly AnyColumn[]) {
    this.key = new Key(columns);
    this.rows = new RowKeys(columns);
  }

  get isEmpty(): boolean {
    return this.buckets.size === 0;
  }

  add({ points }: Spot, item: Item<T>): void {
    const key = this.key.ofPoints(points);
    this.buckets.set(key, withOne(this.buckets.get(key), item)!);
  }

  delete({ points }: Spot, item: Item<T>): void {
    const key = this.key.ofPoints(points);
    const left = withoutOne(this.buckets.get(key), item);
    if (left === undefined) this.buckets.delete(key);
    else this.buckets.set(key, left);
  }

  expect(rows: readonly Tuple[], count: number): void {
    this.rows.lookUp(rows, count, this.buckets);
  }

  candidates(_row: Tuple, place: number, visit: (bucket: Bucket<T>) => void): void {
    const bucket = this.buckets.get(this.rows.at(place));
    if (bucket !== undefined) visit(bucket);
  }
}

class RangeGroup<T> implements Group<T> {
  private readonly key: Key;
  private readonly rows: RowKeys;
  private readonly column: ReadColumn;
  /** The root of each key's tree. One range alone has none: where keys are many, most have one. */
  private readonly places = new KeyMap<number | Span<Bucket<T>>>();
  private readonly ranges = new Ranges<Bucket<T>>();
  private readonly probe: Probe = { rank: 0, isExact: false, bytes: Buffer.alloc(0), start: 0, end: 0 };

  constructor(columns: readonly AnyColumn[], column: ReadColumn) {
    this.key = new Key(columns);
    this.rows = new RowKeys(columns);
    this.column = column;
  }

  get isEmpty(): boolean {
    return this.places.size === 0;
  }

  add({ points, range }: Spot, item: Item<T>): void {
    const key = this.key.ofPoints(points);
    const place = this.places.get(key);
    if (place === undefined) this.places.set(key, { range: range!, value: item });
    else if (typeof place === "number") this.places.set(key, this.addTo(place, range!, item));
    else if (compareRanges(place.range, range!) === 0) place.value = withOne(place.value, item)!;
    else this.places.set(key, this.addTo(this.ranges.plant(place.range, place.value), range!, item));
  }

  delete({ points, range }: Spot, item: Item<T>): void {
    const key = this.key.ofPoints(points);
    const place = this.places.get(key);
    if (place === undefined) return;
    const left = typeof place === "number" ? this.deleteFrom(place, range!, item) : withoutIn(place, range!, item);
    if (left === undefined) this.places.delete(key);
    else this.places.set(key, left);
  }

  expect(rows: readonly Tuple[], count: number): void {
    this.rows.lookUp(rows, count, this.places);
  }

  candidates(row: Tuple, place: number, visit: (bucket: Bucket<T>) => void): void {
    const { column, probe } = this;
    if (isNull(row, column.position)) return;
    const there = this.places.get(this.rows.at(place));
    if (there === undefined) return;
    this.probeAt(row);
    if (typeof there === "number") this.ranges.stab(there, probe, visit);
    else if (isInside(there.range, probe)) visit(there.value);
  }

  private probeAt({ bytes, ends, starts }: Tuple): void {
    const { probe, column } = this;
    probe.bytes = bytes;
    probe.start = starts[column.position]!;
    probe.end = column.values.end(bytes, probe.start, ends[column.position]!);
    probe.rank = rank(column.values, bytes, probe.start, probe.end);
    probe.isExact = isExact(column.values, bytes, probe.start, probe.end);
  }

  /** The new root. */
  private addTo(root: number, range: Range, item: Item<T>): number {
    const at = this.ranges.find(root, range);
    if (at < 0) return this.ranges.insert(root, range, item);
    this.ranges.replace(at, withOne(this.ranges.value(at), item)!);
    return root;
  }

  /** The new root; undefined where nothing is left. */
  private deleteFrom(root: number, range: Range, item: Item<T>): number | undefined {
    const at = this.ranges.find(root, range);
    if (at < 0) return root;
    const left = withoutOne(this.ranges.value(at), item);
    if (left !== undefined) this.ranges.replace(at, left);
    const after = left === undefined ? this.ranges.remove(root, range) : root;
    return after < 0 ? undefined : after;
  }
}

/** The keys of rows that are looked up together. */
class RowKeys {
  private readonly columns: readonly AnyColumn[];
  private readonly keys: Key[] = [];

  constructor(columns: readonly AnyColumn[]) {
    this.columns = columns;
  }

  lookUp(rows: readonly Tuple[], count: number, map: KeyMap<unknown>): void {
    const { columns, keys } = this;
    for (let i = 0; i < count; i++) (keys[i] ??= new Key(columns)).ofRow(rows[i]!);
    if (count > 1) map.fetch(keys, count);
  }

  at(place: number): Key {
    return this.keys[place]!;
  }
}

interface Span<V> {
  readonly range: Range;
  value: V;
}

function withoutIn<T>(span: Span<Bucket<T>>, range: Range, item: Item<T>): Span<Bucket<T>> | undefined {
  if (compareRanges(span.range, range) !== 0) return span;
  const left = withoutOne(span.value, item);
  if (left !== undefined) span.value = left;
  return left === undefined ? undefined : span;
}
