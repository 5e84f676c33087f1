/**
 * What has a value for each row and is neither a column nor a constant as it stands: `price * quantity`, say. A Scalar
 * carries its type, its own SQL, which means the same under any search_path, and a closure that gives its value. The
 * closure throws EvaluationFailed where Postgres would raise an error, and evaluates what Postgres would.
 */
import assert from "node:assert/strict";
import { NULL_VALUE, TEXT_VALUE, Tuple } from "../../changes/tuple.ts";
import { quoteLiteral } from "../name.ts";
import { constantArray, elementsRead } from "./array-value.ts";
import type { ReadColumn } from "./column.ts";
import { compareFloats, floatOf } from "./float.ts";
import type { Prefix } from "./prefix.ts";
import { withoutLastZeros } from "./jsonb.ts";
import { compareValues, numericOf, type NumberValue, textOf, withScale } from "./numeric.ts";
import { type SqlType, valuesOf } from "./type.ts";

/** Numbers as such, floats as numbers of JavaScript; of every other type the canonical text in UTF-8, which may be a view of the row's bytes. */
export type Value = null | NumberValue | number | Buffer;
export type Evaluate = (row: Tuple) => Value;

export function isBytes(value: Value): value is Buffer {
  return Buffer.isBuffer(value);
}

export interface Scalar {
  readonly type: SqlType;
  readonly sql: string;
  /** Positions in the table's columns. */
  readonly columns: readonly number[];
  readonly mayFail: boolean;
  /** Of text, what it is compared by; undefined where nothing says it, and any other decides. */
  readonly collation: Collation | undefined;
  readonly evaluate: Evaluate;
  /** Of a truth: what some text begins with wherever it holds. */
  readonly prefix?: Prefix | undefined;
}

/** A boolean as a value. */
export function truthText(value: boolean): Buffer {
  return value ? trueText : falseText;
}

export function isTrueText(value: Exclude<Value, null>): boolean {
  return isBytes(value) && trueText.equals(value);
}

const [trueText, falseText] = [Buffer.from("t"), Buffer.from("f")];

/** The value of what reads no column; undefined where a row decides. */
export function constantOf({ columns, evaluate }: Scalar): Value | undefined {
  return columns.length === 0 ? evaluate(noRow) : undefined;
}

const noRow = new Tuple();

export interface Collation {
  readonly name: string;
  readonly isExplicit: boolean;
  readonly isC: boolean;
  readonly deterministic: boolean;
}

export const explicitC: Collation = { name: "pg_catalog.C", isExplicit: true, isC: true, deterministic: true };
/** Two columns' collations differ: nothing that depends on one can be asked. */
const conflict: Collation = { name: "", isExplicit: false, isC: false, deterministic: false };
const defaultName = "pg_catalog.default";

export function columnScalar(column: ReadColumn, isC: boolean): Scalar {
  return {
    type: column.sqlType,
    sql: isC ? `${column.sql} COLLATE pg_catalog."C"` : column.sql,
    columns: [column.position],
    mayFail: false,
    collation: isC ? explicitC : collationOf(column),
    evaluate: valueIn(column),
  };
}

/** `scale`: digits after the point that are shown, beyond those that matter. */
export function constantScalar(text: string | null, type: SqlType, isC: boolean, scale = 0): Scalar {
  const value = text === null ? null : valueOf(text, type, scale);
  const isExact = value !== null && !isBytes(value) && typeof value !== "number";
  const literal = value === null ? "NULL" : quoteLiteral(isExact ? textOf(value) : text!);
  const sql = `${literal}::${type.type === "text" ? "pg_catalog.text" : type.sql}`;
  return {
    type,
    sql: isC ? `${sql} COLLATE pg_catalog."C"` : sql,
    columns: [],
    mayFail: false,
    collation: isC ? explicitC : undefined,
    evaluate: () => value,
  };
}

/** Where only its value counts: a constant in the form that all equal ones have. */
export function asCompared(scalar: Scalar): Scalar {
  const value = scalar.type.type === "jsonb" ? constantOf(scalar) : undefined;
  if (!value || !isBytes(value)) return scalar;
  return constantScalar(withoutLastZeros(value).toString(), scalar.type, false);
}

/** Of two values of one type; numbers of any two types. */
export function compareScalars(type: SqlType, a: Exclude<Value, null>, b: Exclude<Value, null>): number {
  if (isBytes(a) || isBytes(b)) {
    assert(isBytes(a) && isBytes(b), "values of one type are compared");
    return valuesOf(type).compare(a, 0, a.length, b, 0, b.length);
  }
  if (typeof a !== "number" && typeof b !== "number") return compareValues(a, b);
  assert(typeof a === "number" && typeof b === "number", "floats are compared with floats");
  return compareFloats(a, b);
}

export function elementsOf(array: Exclude<Value, null>, { element }: SqlType): readonly Value[] {
  assert(isBytes(array) && element, "an array has elements of a type");
  const read = elementReaders.get(element) ?? elementReader(element);
  return elementsRead(array, read);
}

// One for each type, so that what it has read can be kept.
const elementReaders = new Map<SqlType, (element: Buffer) => Exclude<Value, null>>();

function elementReader(type: SqlType): (element: Buffer) => Exclude<Value, null> {
  const { name, end } = valuesOf(type);
  const read = (element: Buffer): Exclude<Value, null> => {
    const last = end(element, 0, element.length);
    return name === "number" ? valueOf(element.toString("latin1", 0, last), type) : element.subarray(0, last);
  };
  elementReaders.set(type, read);
  return read;
}

/** What an operator or a function goes by whose arguments are these. The explicit one counts, then the one that is not the default. */
export function commonCollation(scalars: readonly Scalar[]): Collation | undefined {
  return scalars.map(({ collation }) => collation).reduce(stronger, undefined);
}

function stronger(a: Collation | undefined, b: Collation | undefined): Collation | undefined {
  if (!a || !b) return a ?? b;
  if (a.isExplicit || b.isExplicit) return a.isExplicit ? a : b;
  if (a.name === b.name || b.name === defaultName) return a;
  return a.name === defaultName ? b : conflict;
}

export function columnsOf(scalars: readonly Scalar[]): readonly number[] {
  return [...new Set(scalars.flatMap(({ columns }) => columns))];
}

function collationOf({ column: { collation } }: ReadColumn): Collation | undefined {
  return collation && { ...collation, name: `${collation.schema}.${collation.name}`, isExplicit: false };
}

/** `text` is canonical. */
function valueOf(text: string, { type, sql }: SqlType, scale = 0): Exclude<Value, null> {
  if (type === "array") return constantArray(Buffer.from(text));
  if (type === "float4" || type === "float8") return floatOf(text, type);
  if (type !== "number") return Buffer.from(text);
  return sql === "pg_catalog.numeric" ? withScale(numericOf(text), scale) : BigInt(text);
}

function valueIn(column: ReadColumn): Evaluate {
  const { name } = column.values;
  if (name === "float4" || name === "float8") return textIn(column, (text) => floatOf(text, name));
  return name === "number" ? numberIn(column) : bytesIn(column);
}

function numberIn(column: ReadColumn): Evaluate {
  return textIn(column, column.sqlType.sql === "pg_catalog.numeric" ? numericOf : BigInt);
}

function textIn({ position }: ReadColumn, read: (text: string) => Value): Evaluate {
  return (row) =>
    isNull(row, position) ? null : read(row.bytes.toString("latin1", row.starts[position], row.ends[position]));
}

function bytesIn({ position, values }: ReadColumn): Evaluate {
  return (row) => {
    if (isNull(row, position)) return null;
    const start = row.starts[position]!;
    return row.bytes.subarray(start, values.end(row.bytes, start, row.ends[position]!));
  };
}

function isNull(row: Tuple, position: number): boolean {
  const kind = row.kinds[position];
  assert(kind === TEXT_VALUE || kind === NULL_VALUE, "a predicate reads only columns that the row carries as text");
  return kind === NULL_VALUE;
}
