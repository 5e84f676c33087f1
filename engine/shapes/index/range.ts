/** A range of a column's values, in its type's order: each side may be open, and its bound may belong to it or not. */
import type { OrderOperator, ReadColumn } from "../where/column.ts";
import type { ValueType } from "../where/type.ts";
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
  /** Only where the rank does not say all. */
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
  const { rank, isExact } = rankedWhole(column, value);
  const bound: Bound = { rank, isExact, value: isExact ? undefined : value, side };
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
  return low.rank !== -Infinity && high.rank !== Infinity;
}

export function compareRanges(a: Range, b: Range): number {
  return compareBounds(a.column, a.low, b.low) || compareBounds(a.column, a.high, b.high);
}

export function compareBounds({ values }: ReadColumn, a: Bound, b: Bound): number {
  if (a.rank !== b.rank) return a.rank < b.rank ? -1 : 1;
  if (a.isExact !== b.isExact) return a.isExact ? -beyond(values, b.value!, 0) : beyond(values, a.value!, 0);
  const order = a.isExact ? 0 : values.compare(a.value!, 0, a.value!.length, b.value!, 0, b.value!.length);
  return order || a.side - b.side;
}

export function compareToProbe({ values }: ReadColumn, bound: Bound, probe: Probe): number {
  if (bound.rank !== probe.rank) return bound.rank < probe.rank ? -1 : 1;
  const { bytes, start, end } = probe;
  if (bound.isExact) return probe.isExact ? bound.side : -beyond(values, bytes, start);
  if (probe.isExact) return beyond(values, bound.value!, 0);
  return values.compare(bound.value!, 0, bound.value!.length, bytes, start, end) || bound.side;
}

/** Where a value lies whose rank is not exact, seen from the one that has this rank exactly: what was left out took it away from zero. */
function beyond({ name }: ValueType, bytes: Buffer, start: number): 1 | -1 {
  return name === "number" && bytes[start] === MINUS ? -1 : 1;
}

const MINUS = 0x2d;
