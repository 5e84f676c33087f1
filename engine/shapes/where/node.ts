/**
 * The normalised tree of a predicate. Every node is built by a function here, which keeps it normal: AND and OR are
 * flat, sorted and without repetition; NOT is pushed down until it is gone; equality and IN are one node with sorted
 * values. A node carries its own SQL, so equal trees have equal SQL, and that SQL means the same under any search_path.
 * NULL is a value like the others: three-valued logic holds for every rewriting done here.
 */
import assert from "node:assert/strict";
import type { Tuple } from "../../changes/tuple.ts";
import {
  type AnyColumn,
  byBytesSql,
  equalitySql,
  inSql,
  literal,
  type Operator,
  orderedSql,
  type OrderOperator,
  qualified,
  type ReadColumn,
  sameCollation,
} from "./column.ts";
import type { Prefix } from "./prefix.ts";

export type Node = {
  readonly sql: string;
  /** Evaluating it may fail for a row. Then the order in which parts are asked counts, and is the written one. */
  readonly mayFail?: true;
} & (
  | { readonly kind: "constant"; readonly value: boolean | null }
  | { readonly kind: "and" | "or"; readonly parts: readonly Node[] }
  /** `=` or `<>` where there is one value. Values are canonical text in UTF-8, sorted, at least one. */
  | { readonly kind: "in"; readonly column: ReadColumn; readonly values: readonly Buffer[]; readonly negated: boolean }
  | { readonly kind: "order"; readonly column: ReadColumn; readonly operator: OrderOperator; readonly value: Buffer }
  | { readonly kind: "columns"; readonly left: ReadColumn; readonly operator: Operator; readonly right: ReadColumn }
  | { readonly kind: "null"; readonly column: AnyColumn; readonly negated: boolean }
  /** IS [NOT] TRUE, FALSE or, for null, UNKNOWN. */
  | { readonly kind: "truth"; readonly part: Node; readonly truth: boolean | null; readonly negated: boolean }
  /** Over something computed. */
  | ({ readonly kind: "test"; readonly negation: string } & Test)
  /** `where` counts only for rows that pass `rule`. */
  | { readonly kind: "guarded"; readonly rule: Node; readonly where: Node }
);

/** What gives an answer for a row by a closure of its own. */
export interface Test {
  /** Positions of the columns that it reads. */
  readonly columns: readonly number[];
  readonly answer: (row: Tuple) => boolean | null;
  readonly prefix?: Prefix | undefined;
}

export function constant(value: boolean | null): Node {
  return { kind: "constant", value, sql: value === null ? "NULL::pg_catalog.bool" : String(value) };
}

export function and(parts: readonly Node[]): Node {
  return joined("and", parts);
}

export function or(parts: readonly Node[]): Node {
  return joined("or", parts);
}

export function not(node: Node): Node {
  switch (node.kind) {
    case "constant":
      return constant(node.value === null ? null : !node.value);
    case "and":
      return or(node.parts.map(not));
    case "or":
      return and(node.parts.map(not));
    case "in":
      return inValues(node.column, node.values, !node.negated);
    case "order":
      return order(node.column, opposites[node.operator], node.value);
    case "columns":
      return columns(node.left, opposites[node.operator], node.right);
    case "null":
      return isNull(node.column, !node.negated);
    case "truth":
      return isTruth(node.part, node.truth, !node.negated);
    case "test":
      return test(
        { ...node, mayFail: node.mayFail === true, answer: negated(node.answer), prefix: undefined },
        node.negation,
        node.sql,
      );
    case "guarded":
      return assert.fail("a guarded predicate stands alone");
  }
}

export function inValues(column: ReadColumn, values: readonly Buffer[], negated: boolean): Node {
  if (values.length === 0) return constant(negated);
  // A boolean has one other value, so <> says the same as = and is written so.
  if (column.values.name === "boolean" && negated && values.length === 1)
    return inValues(column, [otherBoolean(values[0]!)], false);
  const sorted = sortedUnique(values);
  return { kind: "in", column, values: sorted, negated, sql: inSql(column, sorted, negated) };
}

export function order(column: ReadColumn, operator: OrderOperator, value: Buffer): Node {
  assert(column.values.ordered, "an order is compared only where the type offers one");
  return {
    kind: "order",
    column,
    operator,
    value,
    sql: `${orderedSql(column)} ${qualified(operator)} ${literal(column, value)}`,
  };
}

export function columns(left: ReadColumn, operator: Operator, right: ReadColumn): Node {
  if (left.position > right.position) return columns(right, mirrored[operator], left);
  const side =
    left.values.collatable && !sameCollation(left, right)
      ? byBytesSql
      : operator === "=" || operator === "<>"
        ? equalitySql
        : orderedSql;
  return { kind: "columns", left, operator, right, sql: `${side(left)} ${qualified(operator)} ${side(right)}` };
}

export function isNull(column: AnyColumn, negated: boolean): Node {
  return { kind: "null", column, negated, sql: `${column.sql} IS ${negated ? "NOT " : ""}NULL` };
}

export function isTruth(part: Node, truth: boolean | null, negated: boolean): Node {
  if (part.kind === "constant") return constant((part.value === truth) !== negated);
  const word = truth === null ? "UNKNOWN" : String(truth).toUpperCase();
  const sql = `(${part.sql}) IS ${negated ? "NOT " : ""}${word}`;
  return failing(part.mayFail, { kind: "truth", part, truth, negated, sql });
}

/** Both forms of its SQL are three-valued, and each stands where an operand of AND can. */
export function test({ mayFail, ...how }: Test & { mayFail: boolean }, sql: string, negation: string): Node {
  const { columns, answer, prefix } = how;
  return failing(mayFail, { kind: "test", columns, answer, ...(prefix && { prefix }), sql, negation });
}

function negated(answer: Test["answer"]): Test["answer"] {
  return (row) => {
    const value = answer(row);
    return value === null ? null : !value;
  };
}

/** Only where it is so: nearly all nodes cannot fail, and are many. */
export function failing(mayFail: boolean | undefined, node: Node): Node {
  return mayFail ? { ...node, mayFail } : node;
}

/** Positions in the table's columns, ascending. */
export function columnsRead(node: Node): readonly number[] {
  const columns = new Set<number>();
  collectColumns(node, columns);
  return [...columns].sort((a, b) => a - b);
}

function collectColumns(node: Node, columns: Set<number>): void {
  switch (node.kind) {
    case "constant":
      return;
    case "and":
    case "or":
      return node.parts.forEach((part) => collectColumns(part, columns));
    case "in":
    case "order":
    case "null":
      return void columns.add(node.column.position);
    case "columns":
      return void columns.add(node.left.position).add(node.right.position);
    case "test":
      return node.columns.forEach((position) => columns.add(position));
    case "truth":
      return collectColumns(node.part, columns);
    case "guarded":
      return [node.rule, node.where].forEach((part) => collectColumns(part, columns));
  }
}

/** What an operator becomes when its sides change places. */
export const mirrored: Readonly<Record<Operator, Operator>> & Readonly<Record<OrderOperator, OrderOperator>> = {
  "=": "=",
  "<>": "<>",
  "<": ">",
  "<=": ">=",
  ">": "<",
  ">=": "<=",
};

/** NOT. Both are NULL when a side is. */
export const opposites: Readonly<Record<Operator, Operator>> & Readonly<Record<OrderOperator, OrderOperator>> = {
  "=": "<>",
  "<>": "=",
  "<": ">=",
  "<=": ">",
  ">": "<=",
  ">=": "<",
};

function joined(kind: "and" | "or", given: readonly Node[]): Node {
  const absorbing = kind === "or";
  const flat = given.flatMap((part) => (part.kind === kind ? part.parts : [part]));
  if (flat.some((part) => part.kind === "constant" && part.value === absorbing)) return constant(absorbing);
  const rest = flat.filter((part) => part.kind !== "constant" || part.value === null);
  const mayFail = rest.some((part) => part.mayFail) || undefined;
  const parts = mayFail ? inOrder(rest, kind === "and") : sortedBySql(mergedLists(rest, kind === "and"));
  if (parts.length === 0) return constant(!absorbing);
  if (parts.length === 1) return parts[0]!;
  const sql = `(${parts.map((part) => part.sql).join(kind === "and" ? " AND " : " OR ")})`;
  return failing(mayFail, { kind, parts, sql });
}

/** What may fail stays where it was written; between two of those, order does not count. The first of equal parts is enough. */
function inOrder(parts: readonly Node[], negated: boolean): Node[] {
  const ordered: Node[] = [];
  let run: Node[] = [];
  const endRun = (): void => {
    ordered.push(...sortedBySql(mergedLists(run, negated)));
    run = [];
  };
  for (const part of parts) {
    if (!part.mayFail) {
      run.push(part);
      continue;
    }
    endRun();
    ordered.push(part);
  }
  endRun();
  return [...new Map(ordered.map((part) => [part.sql, part])).values()];
}

/** a = 1 OR a IN (2, 3) is a IN (1, 2, 3); a <> 1 AND a <> 2 is a NOT IN (1, 2). */
function mergedLists(parts: readonly Node[], negated: boolean): Node[] {
  const lists = new Map<ReadColumn, List[]>();
  const rest: Node[] = [];
  for (const part of parts) {
    if (part.kind !== "in" || part.negated !== negated) rest.push(part);
    else if (!lists.get(part.column)?.push(part)) lists.set(part.column, [part]);
  }
  for (const [column, [first, ...others]] of lists)
    rest.push(
      others.length === 0
        ? first!
        : inValues(
            column,
            [first!, ...others].flatMap((list) => list.values),
            negated,
          ),
    );
  return rest;
}

type List = Node & { readonly kind: "in" };

function sortedBySql(parts: readonly Node[]): Node[] {
  const bySql = new Map(parts.map((part) => [part.sql, part]));
  return [...bySql.values()].sort((a, b) => (a.sql < b.sql ? -1 : 1));
}

function sortedUnique(values: readonly Buffer[]): Buffer[] {
  return values.toSorted((a, b) => a.compare(b)).filter((value, i, all) => i === 0 || !value.equals(all[i - 1]!));
}

function otherBoolean(value: Buffer): Buffer {
  return Buffer.from(value.toString() === "t" ? "f" : "t");
}
