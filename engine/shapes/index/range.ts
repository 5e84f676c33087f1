/** A range of a column's values, in its type's order: each side may be open, and its bound may belong to it or not. */
import type { OrderOperator, ReadColumn } from "../where/column.ts";
import { isExact, rank } from "./rank.ts";

export interface Range {
  readonly column: ReadColumn;
  readonly low: Bound;
  readonly high: Bound;
}

/**
 * A place between values: at its value, just after it (the low bound of >), or just before it (the high one of <).
 * Its rank decides where it differs from another's; an open side has no value and an infinite rank.
 */
export interface Bound {
  readonly rank: number;
  /** No other value has this rank. */
  readonly isExact: boolean;
  readonly value: Buffer | undefined;
  readonly side: -1 | 0 | 1;
}

/** One value among the bytes of a row. */
export interface Probe {
  rank: number;
  isExact: boolean;
  bytes: Buffer;
  start: number;
  end: number;
}

const lowest: Bound = { rank: -Infinity, isExact: true, value: undefined, side: 0 };
const highest: Bound = { rank: Infinity, isExact: true, value: undefined, side: 0 };

export function rangeOf(column: ReadColumn, operator: OrderOperator, value: Buffer): Range {
  const side = operator === ">" ? 1 : operator === "<" ? -1 : 0;
  const bound: Bound = { ...rankedWhole(column, value), value, side };
  return operator === ">" || operator === ">="
    ? { column, low: bound, high: highest }
    : { column, low: lowest, high: bound };
}

/** All texts that begin so: from this one until the first that does not. No byte of UTF-8 is the highest. */
export function startingWith(column: ReadColumn, text: Buffer): Range {
  const after = Buffer.from(text);
  after[after.length - 1]!++;
  return intersection(rangeOf(column, ">=", text), rangeOf(column, "<", after));
}

function rankedWhole({ values }: ReadColumn, value: Buffer): Pick<Bound, "rank" | "isExact"> {
  return { rank: rank(values, value, 0, value.length), isExact: isExact(values, value, 0, value.length) };
}

export function intersection(a: Range, b: Range): Range {
  const { column } = a;
  const low = compareBounds(column, a.low, b.low) < 0 ? b.low : a.low;
  const high = compareBounds(column, a.high, b.high) > 0 ? b.high : a.high;
  return { column, low, high };
}

export function contains(range: Range, value: Buffer): boolean {
  return isInside(range, { ...rankedWhole(range.column, value), bytes: value, start: 0, end: value.length });
}

export function isInside({ column, low, high }: Range, probe: Probe): boolean {
  return compareToProbe(column, low, probe) <= 0 && compareToProbe(column, high, probe) >= 0;
}

export function isBounded({ low, high }: Range): boolean {
  return low.value !== undefined && high.value !== undefined;
}

export function compareRanges(a: Range, b: Range): number {
  return compareBounds(a.column, a.low, b.low) || compareBounds(a.column, a.high, b.high);
}

export function compareBounds({ values }: ReadColumn, a: Bound, b: Bound): number {
  if (a.rank !== b.rank) return a.rank < b.rank ? -1 : 1;
  if (!a.value || !b.value) return 0;
  return values.compare(a.value, 0, a.value.length, b.value, 0, b.value.length) || a.side - b.side;
}

export function compareToProbe({ values }: ReadColumn, bound: Bound, probe: Probe): number {
  if (bound.rank !== probe.rank) return bound.rank < probe.rank ? -1 : 1;
  // Only bounds with a value have a finite rank, and every probe's is.
  const { bytes, start, end } = probe;
  return values.compare(bound.value!, 0, bound.value!.length, bytes, start, end) || bound.side;
}
