/**
 * Which predicates may hold for a row, at a cost that follows the number of those that do and not of those that exist.
 * A predicate is filed under one or more of its equalities: AND under one of its sides, OR under every side. What has no
 * equality to file it under is kept in a list that is tried for each row.
 *
 * The caller's obligations: a value has one predicate at a time, and a row carries, as text or NULL, every column that
 * any predicate in here reads. Then each value whose predicate holds is visited exactly once; others may be visited too,
 * and then `needsCheck` is true.
 */
import assert from "node:assert/strict";
import { NULL_VALUE, TEXT_VALUE, type Tuple } from "../changes/tuple.ts";
import { ByteMap } from "./where/bytes.ts";
import type { Node, ReadColumn } from "./where/node.ts";
import type { Predicate } from "./where.ts";

export type Visit<T> = (value: T, needsCheck: boolean) => void;

export class PredicateIndex<T> {
  /** Few: as many as the table has columns that somebody compares with =. */
  private columns: readonly ColumnIndex<T>[] = [];
  private readonly residue = new Map<T, Entry<T>>();
  private visits = 0;

  /** How many are tried for every row. */
  get unindexed(): number {
    return this.residue.size;
  }

  add(predicate: Predicate, value: T): void {
    const files = filesOf(predicate.node);
    if (!files) return this.addUnindexed(predicate.node, value);
    const entry = new Entry(value, !files.isExact);
    for (const { column, bytes } of files.keys) this.columnIndex(column).add(bytes, entry);
  }

  delete(predicate: Predicate, value: T): void {
    const files = filesOf(predicate.node);
    if (!files) return void this.residue.delete(value);
    for (const { column, bytes } of files.keys) this.deleteFrom(column, bytes, value);
  }

  /** `visit` must not change the index nor ask it. */
  candidates(row: Tuple, visit: Visit<T>): void {
    this.visits++;
    for (const index of this.columns) index.candidates(row, this.visits, visit);
    for (const { value, needsCheck } of this.residue.values()) visit(value, needsCheck);
  }

  private addUnindexed(node: Node, value: T): void {
    assert(!this.residue.has(value), "a value has one predicate at a time");
    this.residue.set(value, new Entry(value, node.kind !== "constant"));
  }

  private columnIndex(column: ReadColumn): ColumnIndex<T> {
    const known = this.columns.find((index) => index.column === column);
    if (known) return known;
    const made = new ColumnIndex<T>(column);
    this.columns = [...this.columns, made];
    return made;
  }

  private deleteFrom(column: ReadColumn, bytes: Buffer, value: T): void {
    const index = this.columnIndex(column);
    index.delete(bytes, value);
    // An empty one would still hash every row's value.
    if (index.isEmpty) this.columns = this.columns.filter((other) => other !== index);
  }
}

class Entry<T> {
  readonly value: T;
  readonly needsCheck: boolean;
  /** The last visit that reached it: a row may lead to it by several columns. */
  seen = 0;

  constructor(value: T, needsCheck: boolean) {
    this.value = value;
    this.needsCheck = needsCheck;
  }
}

/** Most values have one subscriber's shape, and a Map for each would be the larger part of the index. */
type Bucket<T> = Entry<T> | Map<T, Entry<T>>;

/** The predicates filed under equalities on one column. */
class ColumnIndex<T> {
  readonly column: ReadColumn;
  private readonly buckets = new ByteMap<Bucket<T>>();

  constructor(column: ReadColumn) {
    this.column = column;
  }

  get isEmpty(): boolean {
    return this.buckets.size === 0;
  }

  add(key: Buffer, entry: Entry<T>): void {
    const bucket = this.buckets.get(key, 0, key.length);
    if (bucket === undefined) this.buckets.set(key, entry);
    else if (bucket instanceof Entry) this.addSecond(key, bucket, entry);
    else addTo(bucket, entry);
  }

  delete(key: Buffer, value: T): void {
    const bucket = this.buckets.get(key, 0, key.length);
    if (bucket instanceof Map) bucket.delete(value);
    const isLast = bucket instanceof Entry ? bucket.value === value : bucket?.size === 0;
    if (isLast) this.buckets.delete(key);
  }

  candidates(row: Tuple, visits: number, visit: Visit<T>): void {
    const { position, values } = this.column;
    if (row.kinds[position] === NULL_VALUE) return;
    assert(row.kinds[position] === TEXT_VALUE, "a row carries every column that a predicate reads");
    const start = row.starts[position]!;
    const bucket = this.buckets.get(row.bytes, start, values.end(row.bytes, start, row.ends[position]!));
    if (bucket instanceof Entry) visitOnce(bucket, visits, visit);
    else if (bucket) for (const entry of bucket.values()) visitOnce(entry, visits, visit);
  }

  private addSecond(key: Buffer, first: Entry<T>, entry: Entry<T>): void {
    if (first === entry) return;
    const both = new Map([[first.value, first]]);
    addTo(both, entry);
    this.buckets.set(key, both);
  }
}

/** An OR may come to one key from two of its sides. */
function addTo<T>(bucket: Map<T, Entry<T>>, entry: Entry<T>): void {
  const present = bucket.get(entry.value);
  assert(!present || present === entry, "a value has one predicate at a time");
  bucket.set(entry.value, entry);
}

function visitOnce<T>(entry: Entry<T>, visits: number, visit: Visit<T>): void {
  if (entry.seen === visits) return;
  entry.seen = visits;
  visit(entry.value, entry.needsCheck);
}

// ── Where a predicate is filed ───────────────────────────────────────────────────────────────────────────────────────

interface Files {
  /** It can hold only for rows that have one of these values. */
  readonly keys: readonly { readonly column: ReadColumn; readonly bytes: Buffer }[];
  /** And it does hold for all of those rows. */
  readonly isExact: boolean;
}

/** undefined where no set of equalities covers it. The same node always gives the same answer: deleting relies on it. */
function filesOf(node: Node): Files | undefined {
  switch (node.kind) {
    case "constant":
      return node.value === true ? undefined : { keys: [], isExact: true };
    case "in":
      return node.negated
        ? undefined
        : { keys: node.values.map((bytes) => ({ column: node.column, bytes })), isExact: true };
    case "and":
      return narrowest(node.parts);
    case "guarded":
      return narrowest([node.rule, node.where]);
    case "or":
      return together(node.parts);
    case "truth":
      return node.truth === true && !node.negated ? filesOf(node.part) : undefined;
    default:
      return undefined;
  }
}

/** One side of an AND is enough; the one with the fewest keys promises the fewest false candidates. */
function narrowest(parts: readonly Node[]): Files | undefined {
  let best: Files | undefined;
  for (const part of parts) {
    const files = filesOf(part);
    if (files && (!best || breadth(files) < breadth(best))) best = files;
  }
  return best && { keys: best.keys, isExact: false };
}

/** One in two rows has the value of a boolean; an enum's labels are few too. */
function breadth({ keys }: Files): number {
  const weights = { boolean: 1_000_000, enum: 1_000 } as const;
  return keys.reduce(
    (sum, { column }) =>
      sum + (column.values.name === "boolean" || column.values.name === "enum" ? weights[column.values.name] : 1),
    0,
  );
}

function together(parts: readonly Node[]): Files | undefined {
  const sides = parts.map(filesOf);
  if (!sides.every((side) => side !== undefined)) return undefined;
  return { keys: sides.flatMap((side) => side.keys), isExact: sides.every((side) => side.isExact) };
}
