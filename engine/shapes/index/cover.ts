/**
 * Which rows a predicate can hold for, as far as an index can tell: a list of places, each an AND of values that some
 * columns have and of ranges that others lie in. A row for which the predicate holds, or fails, is in one of its places; where
 * a place is exact, the predicate holds for every row in it. The same node always has the same places: deleting relies on it.
 */
import type { AnyColumn, ReadColumn } from "../where/column.ts";
import { and, type Node } from "../where/node.ts";
import type { Prefix } from "../where/prefix.ts";
import { guarded } from "../where/selecting.ts";
import { type Range, contains, intersection, rangeOf, startingWith } from "./range.ts";

export interface Place {
  /** By column, ascending, each column once. */
  readonly points: readonly Point[];
  /** The same; none of a column that has a point. */
  readonly ranges: readonly Range[];
  readonly isExact: boolean;
  /** False where it says less than could be said. */
  readonly isWhole: boolean;
}

/** The column IS NULL, or equals a value's canonical bytes. */
export interface Point {
  readonly column: AnyColumn | ReadColumn;
  readonly value: Buffer | null;
}

/** An AND of two ORs multiplies their places. Beyond this it is filed under the first and checked for the rest. */
const productMax = 64;

const anywhere: Place = { points: [], ranges: [], isExact: true, isWhole: true };
const unknown: Place = { ...anywhere, isExact: false };

export function placesOf(node: Node): readonly Place[] {
  if (node.mayFail && node.kind !== "guarded") return [unknown];
  switch (node.kind) {
    case "constant":
      return node.value === true ? [anywhere] : [];
    case "in":
      return node.negated ? [unknown] : node.values.map((value) => atPoint({ column: node.column, value }));
    case "null":
      return node.negated ? [unknown] : [atPoint({ column: node.column, value: null })];
    case "order":
      return [{ ...anywhere, ranges: [rangeOf(node.column, node.operator, node.value)] }];
    case "and":
      return all(node.parts);
    case "guarded":
      return node.rule.mayFail ? placesOf(node.rule) : all([node.rule, node.where]);
    case "or":
      return either(node.parts);
    case "test":
      return [node.prefix ? within(node.prefix) : unknown];
    case "truth":
      return node.truth === true && !node.negated ? placesOf(node.part) : [unknown];
    default:
      return [unknown];
  }
}

/** What still has to hold for a row that is in one of the places, where they are whole; undefined: nothing. */
export function restOf(node: Node): Node | undefined {
  if (node.kind === "guarded" && !node.rule.mayFail) {
    const [rule, where] = [restOf(node.rule), restOf(node.where)];
    return rule && where ? guarded(rule, where) : (rule ?? where);
  }
  if (node.kind !== "and" || node.mayFail) return isCovered(node) ? undefined : node;
  const rest = node.parts.filter((part) => !isCovered(part));
  return rest.length === 0 ? undefined : and(rest);
}

function isCovered(node: Node): boolean {
  return placesOf(node).every(({ isExact }) => isExact);
}

/** It says nothing: a row can be anywhere. */
export function isAnywhere({ points, ranges }: Place): boolean {
  return points.length === 0 && ranges.length === 0;
}

function atPoint(point: Point): Place {
  return { ...anywhere, points: [point] };
}

function within({ column, text, isAll }: Prefix): Place {
  return { ...anywhere, ranges: [startingWith(column, text)], isExact: isAll };
}

function either(parts: readonly Node[]): readonly Place[] {
  const places = parts.flatMap(placesOf);
  return places.find(isAnywhere) ? [unknown] : places;
}

function all(parts: readonly Node[]): readonly Place[] {
  const lists = parts.map(placesOf).sort((a, b) => a.length - b.length);
  return lists.reduce(product);
}

function product(a: readonly Place[], b: readonly Place[]): readonly Place[] {
  if (a.length > 1 && a.length * b.length > productMax)
    return a.map((place) => ({ ...place, isExact: false, isWhole: false }));
  return a.flatMap((left) => b.map((right) => bothOf(left, right))).filter((place) => place !== undefined);
}

/** undefined where no row is in both. */
function bothOf(a: Place, b: Place): Place | undefined {
  const points = bothPoints(a.points, b.points);
  const ranges = points && bothRanges(a.ranges, b.ranges);
  if (!ranges || !points.every((point) => ranges.every((range) => agree(point, range)))) return undefined;
  const open = ranges.filter(({ column }) => !points.some((point) => point.column.position === column.position));
  return { points, ranges: open, isExact: a.isExact && b.isExact, isWhole: a.isWhole && b.isWhole };
}

function agree({ column, value }: Point, range: Range): boolean {
  return column.position !== range.column.position || (value !== null && contains(range, value));
}

function bothPoints(a: readonly Point[], b: readonly Point[]): readonly Point[] | undefined {
  const points = [...a];
  for (const point of b) {
    const same = a.find(({ column }) => column.position === point.column.position);
    if (!same) points.push(point);
    else if (!isSameValue(same.value, point.value)) return undefined;
  }
  return points.sort(byPosition);
}

function isSameValue(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

function bothRanges(a: readonly Range[], b: readonly Range[]): readonly Range[] {
  const ranges = new Map(a.map((range) => [range.column.position, range]));
  for (const range of b) {
    const same = ranges.get(range.column.position);
    ranges.set(range.column.position, same ? intersection(same, range) : range);
  }
  return [...ranges.values()].sort(byPosition);
}

function byPosition(a: { readonly column: AnyColumn }, b: { readonly column: AnyColumn }): number {
  return a.column.position - b.column.position;
}
