/**
 * Normalised tree → closure over a row's bytes, with SQL's three values: true, false and, for unknown, null. Nothing is
 * copied and no string is made; a column is looked at only when the answer may depend on it. (Generated code was
 * measured too: compiling it costs more than it saves until a predicate has seen many thousand rows.)
 */
import assert from "node:assert/strict";
import { NULL_VALUE, TEXT_VALUE, type Tuple } from "../../changes/tuple.ts";
import { ByteMap, equalBytes } from "./bytes.ts";
import { EvaluationFailed } from "./numeric.ts";
import type { AnyColumn, Operator, ReadColumn } from "./column.ts";
import type { Node } from "./node.ts";

export type Matches = (row: Tuple) => boolean | null;

export function compile(node: Node): Matches {
  switch (node.kind) {
    case "constant":
      return () => node.value;
    case "and":
      return compileJoined(node.parts.map(compile), false);
    case "or":
      return compileJoined(node.parts.map(compile), true);
    case "in":
      return node.values.length === 1
        ? compileEqual(node.column, node.values[0]!, node.negated)
        : compileIn(node.column, node.values, node.negated);
    case "order":
      return compileOrder(node.column, node.operator, node.value);
    case "columns":
      return compileColumns(node.left, node.operator, node.right);
    case "null":
      return compileNull(node.column, node.negated);
    case "test":
      return node.answer;
    case "truth":
      return compileTruth(compile(node.part), node.truth, node.negated);
    case "guarded":
      return compileGuarded(node.rule.mayFail ? blamed(compile(node.rule)) : compile(node.rule), compile(node.where));
  }
}

/** AND stops at false, OR at true; otherwise one unknown part makes the whole unknown. */
function compileJoined(parts: readonly Matches[], stop: boolean): Matches {
  if (parts.length === 2) return compilePair(parts[0]!, parts[1]!, stop);
  return (row) => {
    let result: boolean | null = !stop;
    for (const part of parts) {
      const value = part(row);
      if (value === stop) return stop;
      if (value === null) result = null;
    }
    return result;
  };
}

/** The most frequent form, without a list to go through. */
function compilePair(first: Matches, second: Matches, stop: boolean): Matches {
  return (row) => {
    const a = first(row);
    if (a === stop) return stop;
    const b = second(row);
    return b === stop || a !== null ? b : null;
  };
}

function compileEqual({ position, values }: ReadColumn, value: Buffer, negated: boolean): Matches {
  return (row) => {
    if (isNullValue(row, position)) return null;
    const start = row.starts[position]!;
    const end = values.end(row.bytes, start, row.ends[position]!);
    return equalBytes(row.bytes, start, end, value) !== negated;
  };
}

function compileIn(column: ReadColumn, list: readonly Buffer[], negated: boolean): Matches {
  if (list.length > setMax) return compileInSorted(column, list, negated);
  const { position, values } = column;
  const set = new ByteMap<true>();
  for (const value of list) set.set(value, true);
  return (row) => {
    if (isNullValue(row, position)) return null;
    const start = row.starts[position]!;
    return (set.get(row.bytes, start, values.end(row.bytes, start, row.ends[position]!)) !== undefined) !== negated;
  };
}

/** Making a set of so many takes longer than looking for a few rows' values without one. */
const setMax = 256;

function compileInSorted({ position, values }: ReadColumn, list: readonly Buffer[], negated: boolean): Matches {
  return (row) => {
    if (isNullValue(row, position)) return null;
    const start = row.starts[position]!;
    const end = values.end(row.bytes, start, row.ends[position]!);
    return isAmong(list, row.bytes, start, end) !== negated;
  };
}

function isAmong(sorted: readonly Buffer[], bytes: Buffer, start: number, end: number): boolean {
  let from = 0;
  for (let to = sorted.length; from < to;) {
    const middle = (from + to) >>> 1;
    const order = sorted[middle]!.compare(bytes, start, end);
    if (order === 0) return true;
    if (order < 0) from = middle + 1;
    else to = middle;
  }
  return false;
}

function compileOrder({ position, values }: ReadColumn, operator: Operator, value: Buffer): Matches {
  const holds = holdsFor[operator];
  return (row) => {
    if (isNullValue(row, position)) return null;
    const start = row.starts[position]!;
    const end = values.end(row.bytes, start, row.ends[position]!);
    return holds(values.compare(row.bytes, start, end, value, 0, value.length));
  };
}

function compileColumns(left: ReadColumn, operator: Operator, right: ReadColumn): Matches {
  const holds = holdsFor[operator];
  return (row) =>
    isNullValue(row, left.position) || isNullValue(row, right.position)
      ? null
      : holds(compareColumns(row, left, right));
}

function compareColumns(row: Tuple, left: ReadColumn, right: ReadColumn): number {
  const a = row.starts[left.position]!;
  const b = row.starts[right.position]!;
  const aEnd = left.values.end(row.bytes, a, row.ends[left.position]!);
  const bEnd = right.values.end(row.bytes, b, row.ends[right.position]!);
  return left.values.compare(row.bytes, a, aEnd, row.bytes, b, bEnd);
}

function compileNull({ position }: AnyColumn, negated: boolean): Matches {
  return (row) => isNullValue(row, position) !== negated;
}

function compileTruth(part: Matches, truth: boolean | null, negated: boolean): Matches {
  return (row) => (part(row) === truth) !== negated;
}

function compileGuarded(rule: Matches, where: Matches): Matches {
  return (row) => (rule(row) === true ? where(row) : false);
}

/** Where a rule fails, nobody knows whether the row may be read. */
function blamed(rule: Matches): Matches {
  return (row) => {
    try {
      return rule(row);
    } catch (error) {
      if (error instanceof EvaluationFailed) error.ofRule = true;
      throw error;
    }
  };
}

export const holdsFor: Readonly<Record<Operator, (order: number) => boolean>> = {
  "=": (order) => order === 0,
  "<>": (order) => order !== 0,
  "<": (order) => order < 0,
  "<=": (order) => order <= 0,
  ">": (order) => order > 0,
  ">=": (order) => order >= 0,
};

function isNullValue(row: Tuple, position: number): boolean {
  const kind = row.kinds[position];
  if (kind === TEXT_VALUE) return false;
  assert(kind === NULL_VALUE && position < row.count, "a predicate reads only columns that the row carries as text");
  return true;
}
