/** What the forms that are no functions give for a row: comparisons, COALESCE, NULLIF, GREATEST and LEAST, and truths as values. */
import type { Tuple } from "../../changes/tuple.ts";
import type { Operator } from "./column.ts";
import { holdsFor } from "./compile.ts";
import { type Node, opposites, test } from "./node.ts";
import {
  columnsOf,
  commonCollation,
  compareScalars,
  elementsOf,
  type Evaluate,
  isTrueText,
  type Scalar,
  truthText,
  type Value,
} from "./scalar.ts";
import type { SqlType } from "./type.ts";

export function comparison(type: SqlType, a: Scalar, operator: Operator, b: Scalar): Node {
  const holds = holdsFor[operator];
  const answer = (row: Tuple): boolean | null => {
    const [left, right] = [a.evaluate(row), b.evaluate(row)];
    return left === null || right === null ? null : holds(compareScalars(type, left, right));
  };
  const sql = (by: Operator): string => `${a.sql} OPERATOR(pg_catalog.${by}) ${b.sql}`;
  const { columns, mayFail } = joined(type, [a, b], "", a.evaluate);
  return test({ columns, mayFail, answer }, sql(operator), sql(opposites[operator]));
}

/** Compares with each element: true where `all` of them, or else any of them, compare so. */
export function elementsCompared(type: SqlType, value: Scalar, operator: Operator, array: Scalar, all: boolean): Node {
  const holds = holdsFor[operator];
  const compares: Holds = (left, right) => holds(compareScalars(type, left, right));
  return elementsTested(value, array, all, compares, [operator, opposites[operator]], value.mayFail || array.mayFail);
}

export type Holds = (value: Present, element: Present) => boolean;
type Present = Exclude<Value, null>;

/** `names`: the operator, and the one that says the opposite. One after the other is asked, until one decides. */
export function elementsTested(
  value: Scalar,
  array: Scalar,
  all: boolean,
  holds: Holds,
  [name, opposite]: readonly [string, string],
  mayFail = true,
): Node {
  const answer = (row: Tuple): boolean | null => {
    const [left, right] = [value.evaluate(row), array.evaluate(row)];
    if (right === null) return null;
    const elements = elementsOf(right, array.type);
    if (elements.length === 0) return all;
    if (left === null) return null;
    const isDecisive = (element: Value): boolean => element !== null && holds(left, element) !== all;
    return elements.some(isDecisive) ? !all : elements.includes(null) ? null : all;
  };
  const sql = (by: string, word: string): string => `${value.sql} OPERATOR(pg_catalog.${by}) ${word} (${array.sql})`;
  const [word, other] = all ? (["ALL", "ANY"] as const) : (["ANY", "ALL"] as const);
  return test({ columns: columnsOf([value, array]), mayFail, answer }, sql(name, word), sql(opposite, other));
}

export function joined(type: SqlType, scalars: readonly Scalar[], name: string, evaluate: Evaluate): Scalar {
  return {
    type,
    sql: `${name}(${scalars.map(({ sql }) => sql).join(", ")})`,
    columns: columnsOf(scalars),
    mayFail: scalars.some(({ mayFail }) => mayFail),
    collation: commonCollation(scalars),
    evaluate,
  };
}

export function firstPresent(scalars: readonly Scalar[]): Evaluate {
  return (row) => {
    for (const { evaluate } of scalars) {
      const value = evaluate(row);
      if (value !== null) return value;
    }
    return null;
  };
}

/** NULLs do not count; of equal values the first stays. */
export function furthest(type: SqlType, scalars: readonly Scalar[], sign: 1 | -1): Evaluate {
  return (row) => {
    let best: ReturnType<Evaluate> = null;
    for (const { evaluate } of scalars) {
      const value = evaluate(row);
      if (value !== null && (best === null || compareScalars(type, value, best) * sign > 0)) best = value;
    }
    return best;
  };
}

export function unlessEqual(type: SqlType, a: Scalar, b: Scalar): Evaluate {
  return (row) => {
    const [left, right] = [a.evaluate(row), b.evaluate(row)];
    return left !== null && right !== null && compareScalars(type, left, right) === 0 ? null : left;
  };
}

export function textOfTruth(value: boolean | null): Buffer | null {
  return value === null ? null : truthText(value);
}

export function truthOf(value: ReturnType<Evaluate>): boolean | null {
  return value === null ? null : isTrueText(value);
}
