/**
 * The normalised tree of a predicate. Every node is built by a function here, which keeps it normal: AND and OR are
 * flat, sorted and without repetition; NOT is pushed down until it is gone; equality and IN are one node with sorted
 * values. A node carries its own SQL, so equal trees have equal SQL, and that SQL means the same under any search_path.
 * NULL is a value like the others: three-valued logic holds for every rewriting done here.
 */
import assert from "node:assert/strict";
import type { Column } from "../../changes/table.ts";
import { quoteIdentifier, quoteLiteral } from "../name.ts";
import { fitsInteger, sqlTypeOfColumn, valueTypes, type SqlType, type ValueType } from "./type.ts";

export type OrderOperator = "<" | "<=" | ">" | ">=";
export type Operator = OrderOperator | "=" | "<>";

export type Node = { readonly sql: string } & (
  | { readonly kind: "constant"; readonly value: boolean | null }
  | { readonly kind: "and" | "or"; readonly parts: readonly Node[] }
  /** `=` or `<>` where there is one value. Values are canonical text in UTF-8, sorted, at least one. */
  | { readonly kind: "in"; readonly column: ReadColumn; readonly values: readonly Buffer[]; readonly negated: boolean }
  | { readonly kind: "order"; readonly column: ReadColumn; readonly operator: OrderOperator; readonly value: Buffer }
  | { readonly kind: "columns"; readonly left: ReadColumn; readonly operator: Operator; readonly right: ReadColumn }
  | { readonly kind: "null"; readonly column: AnyColumn; readonly negated: boolean }
  /** IS [NOT] TRUE, FALSE or, for null, UNKNOWN. */
  | { readonly kind: "truth"; readonly part: Node; readonly truth: boolean | null; readonly negated: boolean }
  /** `where` counts only for rows that pass `rule`. */
  | { readonly kind: "guarded"; readonly rule: Node; readonly where: Node }
);

/** A column in IS NULL, whatever its type. */
export interface AnyColumn {
  readonly position: number;
  readonly column: Column;
  readonly sql: string;
}

/** A column whose values can be compared. */
export interface ReadColumn extends AnyColumn {
  readonly sqlType: SqlType;
  readonly values: ValueType;
}

export function anyColumn(column: Column, position: number): AnyColumn | ReadColumn {
  const any = { position, column, sql: quoteIdentifier(column.name) };
  const sqlType = sqlTypeOfColumn(column);
  return sqlType ? { ...any, sqlType, values: valueTypes[sqlType.type] } : any;
}

export function isReadable(column: AnyColumn): column is ReadColumn {
  return "sqlType" in column;
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
  return { kind: "truth", part, truth, negated, sql: `(${part.sql}) IS ${negated ? "NOT " : ""}${word}` };
}

/**
 * The rule stands before the CASE too: that changes nothing about which rows pass, and lets Postgres find them by an
 * index, which it cannot look for inside a CASE.
 */
export function guarded(rule: Node, where: Node): Node {
  return {
    kind: "guarded",
    rule,
    where,
    sql: `(${rule.sql} AND CASE WHEN ${rule.sql} THEN ${where.sql} ELSE false END)`,
  };
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
const opposites: Readonly<Record<Operator, Operator>> & Readonly<Record<OrderOperator, OrderOperator>> = {
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
  const parts = sortedBySql(mergedLists(rest, kind === "and"));
  if (parts.length === 0) return constant(!absorbing);
  if (parts.length === 1) return parts[0]!;
  return { kind, parts, sql: `(${parts.map((part) => part.sql).join(kind === "and" ? " AND " : " OR ")})` };
}

/** a = 1 OR a IN (2, 3) is a IN (1, 2, 3); a <> 1 AND a <> 2 is a NOT IN (1, 2). */
function mergedLists(parts: readonly Node[], negated: boolean): Node[] {
  const lists = new Map<ReadColumn, Buffer[]>();
  const rest: Node[] = [];
  for (const part of parts) {
    if (part.kind !== "in" || part.negated !== negated) rest.push(part);
    else appendTo(lists, part.column, part.values);
  }
  for (const [column, values] of lists) rest.push(inValues(column, values, negated));
  return rest;
}

function appendTo(lists: Map<ReadColumn, Buffer[]>, column: ReadColumn, values: readonly Buffer[]): void {
  const list = lists.get(column) ?? [];
  for (const value of values) list.push(value);
  lists.set(column, list);
}

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

// ── SQL ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

function inSql(column: ReadColumn, values: readonly Buffer[], negated: boolean): string {
  const operator = qualified(negated ? "<>" : "=");
  if (values.length === 1) return `${equalitySql(column)} ${operator} ${literal(column, values[0]!)}`;
  const list = values.map((value) => quoteLiteral(value.toString())).join(", ");
  return `${equalitySql(column)} ${operator} ${negated ? "ALL" : "ANY"} (ARRAY[${list}]::${constantType(column, values)}[])`;
}

function qualified(operator: Operator): string {
  return `OPERATOR(pg_catalog.${operator})`;
}

function literal(column: ReadColumn, value: Buffer): string {
  return `${quoteLiteral(value.toString())}::${constantType(column, [value])}`;
}

/** The narrowest type of the column's family that holds the values: an index on the column stays usable. */
function constantType(column: ReadColumn, values: readonly Buffer[]): string {
  const own = column.sqlType.sql;
  if (own === "pg_catalog.varchar") return "pg_catalog.text";
  if (column.values.name !== "number" || own === "pg_catalog.numeric") return own;
  return (
    [own, "pg_catalog.int8"].find((type) => values.every((value) => fitsInteger(value.toString(), type))) ??
    "pg_catalog.numeric"
  );
}

function equalitySql(column: ReadColumn): string {
  return column.values.collatable && column.column.collation?.deterministic !== true ? byBytesSql(column) : column.sql;
}

function orderedSql(column: ReadColumn): string {
  return column.values.collatable && column.column.collation?.isC !== true ? byBytesSql(column) : column.sql;
}

function byBytesSql({ sql }: ReadColumn): string {
  return `${sql} COLLATE pg_catalog."C"`;
}

export function sameCollation(a: ReadColumn, b: ReadColumn): boolean {
  return (
    a.column.collation?.schema === b.column.collation?.schema && a.column.collation?.name === b.column.collation?.name
  );
}
