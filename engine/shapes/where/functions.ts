/**
 * The operators and functions that give a value, one row for each with the types it is there for. What is not in this
 * list is refused. All of them give NULL where an argument is NULL, and evaluate every argument first, as Postgres does.
 *
 * One more is a row here, one in docs/shapes.md, and a place in tests/shapes/generate.ts: the comparison with Postgres in
 * where.pg.test.ts does the rest. A type that is not in type.ts yet comes there first. What gives a truth is a row with the result `bool`; where the
 * index shall serve it, it becomes a node of its own in node.ts, and places in index/cover.ts.
 */
import assert from "node:assert/strict";
import { arithmetic } from "./arithmetic.ts";
import { arrayOperations } from "./array-operations.ts";
import { jsonbOperations } from "./jsonb-operations.ts";
import { columnsOf, commonCollation, type Evaluate, type Scalar, type Value } from "./scalar.ts";
import { textOperations } from "./text-operations.ts";
import { type SqlType, sqlTypeNamed } from "./type.ts";

export type Present = Exclude<Value, null>;

export interface Operation {
  readonly kind: "operator" | "function";
  readonly name: string;
  /** Names in pg_catalog. Numbers are taken by the first row that holds all arguments' types. */
  readonly args: readonly string[];
  readonly result: string;
  readonly mayFail: boolean | ((args: readonly Scalar[]) => boolean);
  /** Its arguments may change places. */
  readonly isCommutative: boolean;
  /** The operator that says the same with its sides exchanged; it is written as that one. */
  readonly mirrored?: string;
  /** Of the collation that its arguments have in common. */
  readonly needs: "nothing" | "determinism" | "C";
  readonly evaluate: (a: Present, b: Present) => Value;
}

export const operations: readonly Operation[] = [
  ...arithmetic,
  ...textOperations,
  ...arrayOperations,
  ...jsonbOperations,
];

/** The row for arguments of these types, where undefined is a literal that takes the type it is given. */
export function operationFor(
  kind: Operation["kind"],
  name: string,
  types: readonly (SqlType | undefined)[],
): Operation | undefined {
  return operations.find((row) => row.kind === kind && row.name === name && takes(row, types));
}

export function isKnown(kind: Operation["kind"], name: string): boolean {
  return operations.some((row) => row.kind === kind && row.name === name);
}

/** A literal is of the type that the others decide. Where nothing does, it can only be text. */
function takes({ args }: Operation, types: readonly (SqlType | undefined)[]): boolean {
  if (args.length !== types.length) return false;
  const isDecided = args.every((arg) => arg === args[0]) ? types.some((type) => type !== undefined) : types[0];
  if (!isDecided && args.some((arg) => arg !== "text")) return false;
  return args.every((arg, i) => types[i] === undefined || holds(arg, types[i]));
}

const widths = ["int2", "int4", "int8", "numeric"].map((name) => `pg_catalog.${name}`);

function holds(arg: string, type: SqlType): boolean {
  const wanted = typeNamed(arg);
  if (wanted.type === "array") return wanted === type;
  // The others become one.
  if (arg === "float8") return isNumber(type);
  return (
    wanted.type === type.type && (type.type !== "number" || widths.indexOf(type.sql) <= widths.indexOf(wanted.sql))
  );
}

/** Of any kind. */
export function isNumber({ type }: SqlType): boolean {
  return type === "number" || type === "float4" || type === "float8";
}

/** Postgres compares them as float8. */
export function mixesNumbers(a: SqlType, b: SqlType): boolean {
  return isNumber(a) && isNumber(b) && a.type !== b.type;
}

/** Postgres has operators for each two of them. */
export function mixesMoments(a: SqlType, b: SqlType): boolean {
  return isMoment(a) && isMoment(b) && a.type !== b.type;
}

function isMoment({ type }: SqlType): boolean {
  return type === "date" || type === "timestamp" || type === "timestamptz";
}

/** The one that Postgres makes of both; another type stays. */
export function widestMoment(a: SqlType, b: SqlType): SqlType {
  return mixesMoments(a, b) && (b.type === "timestamptz" || a.type === "date") ? b : a;
}

/** The one of two number types that holds the values of both. */
export function widest(a: SqlType, b: SqlType): SqlType {
  return widths.indexOf(a.sql) >= widths.indexOf(b.sql) ? a : b;
}

export function typeNamed(name: string): SqlType {
  const type = sqlTypeNamed(name);
  assert(type, `${name} is one of the types that can be read`);
  return type;
}

export function applied(operation: Operation, given: readonly Scalar[]): Scalar {
  const args = operation.isCommutative ? given.toSorted((a, b) => (a.sql < b.sql ? -1 : 1)) : given;
  return {
    type: typeNamed(operation.result),
    sql: operation.mirrored
      ? callSql({ ...operation, name: operation.mirrored }, args.toReversed())
      : callSql(operation, args),
    columns: columnsOf(args),
    mayFail: fails(operation, args) || args.some(({ mayFail }) => mayFail),
    collation: typeNamed(operation.result).type === "text" ? commonCollation(args) : undefined,
    evaluate: args.length === 1 ? strictOne(operation, args[0]!) : strictTwo(operation, args[0]!, args[1]!),
  };
}

function fails({ mayFail }: Operation, args: readonly Scalar[]): boolean {
  return typeof mayFail === "boolean" ? mayFail : mayFail(args);
}

function callSql({ kind, name }: Operation, args: readonly Scalar[]): string {
  const [first, second] = args.map(({ sql }) => sql);
  if (kind === "function") return `pg_catalog.${name}(${args.map(({ sql }) => sql).join(", ")})`;
  return second === undefined
    ? `(OPERATOR(pg_catalog.${name}) ${first})`
    : `(${first} OPERATOR(pg_catalog.${name}) ${second})`;
}

function strictOne({ evaluate }: Operation, argument: Scalar): Evaluate {
  return (row) => {
    const value = argument.evaluate(row);
    return value === null ? null : evaluate(value, value);
  };
}

/** The second argument is evaluated even where the first is NULL: it may fail. */
function strictTwo({ evaluate }: Operation, first: Scalar, second: Scalar): Evaluate {
  return (row) => {
    const a = first.evaluate(row);
    const b = second.evaluate(row);
    return a === null || b === null ? null : evaluate(a, b);
  };
}
