/**
 * The types a predicate can read, by what their values' text needs: where the part that decides equality ends, how two
 * values compare, and the canonical text of a constant. Equal values have equal bytes up to that end; the index over
 * predicates relies on it. What is not here is refused, except in IS [NOT] NULL.
 */
import assert from "node:assert/strict";
import type { Column } from "../../changes/table.ts";
import { canStandInSql } from "../name.ts";
import { parseArray, printArray } from "./array-literal.ts";
import { equalArrays } from "./array-value.ts";
import { parseBytea } from "./bytea.ts";
import { compareDateTimes, parseDateTime } from "./datetime.ts";
import { compareFloatTexts, parseFloatText } from "./float.ts";
import { compareIntervals, parseInterval } from "./interval.ts";
import { parseJsonb } from "./jsonb-input.ts";
import { equalJsonb } from "./jsonb.ts";
import { compareNumbers, numberEnd, parseInteger, parseNumeric } from "./number.ts";
import { compareZoned, parseTime } from "./time.ts";

export type TypeName =
  | "number"
  | "text"
  | "bpchar"
  | "boolean"
  | "uuid"
  | "enum"
  | "float4"
  | "float8"
  | "bytea"
  | "interval"
  | "time"
  | "timetz"
  | "date"
  | "timestamp"
  | "timestamptz"
  | "jsonb"
  | "array";

export interface ValueType {
  readonly name: TypeName;
  /** False where <, <=, >, >= are not offered. */
  readonly ordered: boolean;
  /** Equality and order depend on a collation. */
  readonly collatable: boolean;
  /** Equal values have equal bytes. Where they need not, = is <= and >=, or, without an order, computed. */
  readonly equalInBytes: boolean;
  /** First byte after what decides equality. */
  readonly end: (bytes: Buffer, start: number, end: number) => number;
  readonly compare: (a: Buffer, aStart: number, aEnd: number, b: Buffer, bStart: number, bEnd: number) => number;
}

const wholeValue = (_bytes: Buffer, _start: number, end: number): number => end;
const byBytes: ValueType["compare"] = (a, aStart, aEnd, b, bStart, bEnd) => a.compare(b, bStart, bEnd, aStart, aEnd);
const plain = { ordered: true, collatable: false, equalInBytes: true, end: wholeValue, compare: byBytes };
const unordered = { ...plain, ordered: false, equalInBytes: false };

const valueTypes: Readonly<Record<Exclude<TypeName, "array">, ValueType>> = {
  number: { ...plain, name: "number", end: numberEnd, compare: compareNumbers },
  text: { ...plain, name: "text", collatable: true },
  bpchar: { ...plain, name: "bpchar", collatable: true, end: withoutPadding },
  // 'f' and 't', hexadecimal in lower case: their bytes are in the types' order.
  boolean: { ...plain, name: "boolean" },
  uuid: { ...plain, name: "uuid" },
  // In the order of its labels: see valuesOf.
  enum: { ...plain, name: "enum" },
  float4: { ...plain, name: "float4", equalInBytes: false, compare: compareFloatTexts("float4") },
  float8: { ...plain, name: "float8", equalInBytes: false, compare: compareFloatTexts("float8") },
  bytea: { ...plain, name: "bytea" },
  interval: { ...plain, name: "interval", equalInBytes: false, compare: compareIntervals },
  time: { ...plain, name: "time" },
  timetz: { ...plain, name: "timetz", compare: compareZoned },
  date: { ...plain, name: "date", compare: compareDateTimes },
  timestamp: { ...plain, name: "timestamp", compare: compareDateTimes },
  timestamptz: { ...plain, name: "timestamptz", compare: compareDateTimes },
  jsonb: { ...unordered, name: "jsonb", compare: unequalBy(equalJsonb) },
};

/** With an enum's own order. */
export function valuesOf(type: SqlType): ValueType {
  if (type.type !== "array" && !type.labels) return valueTypes[type.type];
  const known = ownValues.get(type);
  if (known) return known;
  const values = type.labels ? { ...valueTypes.enum, compare: inOrderOf(type.labels) } : arrayValues(type);
  ownValues.set(type, values);
  return values;
}

const ownValues = new WeakMap<SqlType, ValueType>();

function inOrderOf(labels: readonly string[]): ValueType["compare"] {
  const places = new Map(labels.map((label, i) => [label, i]));
  return (a, aStart, aEnd, b, bStart, bEnd) =>
    places.get(a.toString("utf8", aStart, aEnd))! - places.get(b.toString("utf8", bStart, bEnd))!;
}

function arrayValues({ element }: SqlType): ValueType {
  const values = elementValues(element);
  const compare = unequalBy((a, b) => equalArrays(a, b, values));
  return { ...unordered, name: "array", collatable: values.collatable, compare };
}

/** Of an array's elements. */
export function elementValues(element: SqlType | undefined): ValueType {
  assert(element, "an array's type says what its elements are");
  return valuesOf(element);
}

/** Of values that have no order, any two that are not equal differ by 1. */
function unequalBy(equal: (a: Buffer, b: Buffer) => boolean): ValueType["compare"] {
  return (a, aStart, aEnd, b, bStart, bEnd) => {
    const isWhole = aStart === 0 && aEnd === a.length && bStart === 0 && bEnd === b.length;
    return equal(isWhole ? a : a.subarray(aStart, aEnd), isWhole ? b : b.subarray(bStart, bEnd)) ? 0 : 1;
  };
}

/** A type as SQL names it: which values it has and which of them fit. */
export interface SqlType {
  readonly type: TypeName;
  /** The name in pg_catalog; an enum's own qualified name. */
  readonly sql: string;
  /** An enum's own. */
  readonly oid?: number;
  readonly labels?: readonly string[];
  /** An array's. */
  readonly element?: SqlType;
}

const builtins: readonly (readonly [oid: number, name: string, type: TypeName])[] = [
  [16, "bool", "boolean"],
  [17, "bytea", "bytea"],
  [20, "int8", "number"],
  [21, "int2", "number"],
  [23, "int4", "number"],
  [25, "text", "text"],
  [700, "float4", "float4"],
  [701, "float8", "float8"],
  [1042, "bpchar", "bpchar"],
  [1043, "varchar", "text"],
  [1082, "date", "date"],
  [1083, "time", "time"],
  [1114, "timestamp", "timestamp"],
  [1184, "timestamptz", "timestamptz"],
  [1186, "interval", "interval"],
  [1266, "timetz", "timetz"],
  [1700, "numeric", "number"],
  [2950, "uuid", "uuid"],
  [3802, "jsonb", "jsonb"],
];
// Of types whose elements are equal where their bytes are.
const builtinArrays: readonly (readonly [oid: number, element: string])[] = [
  [1000, "bool"],
  [1005, "int2"],
  [1007, "int4"],
  [1009, "text"],
  [1014, "bpchar"],
  [1015, "varchar"],
  [1016, "int8"],
  [1115, "timestamp"],
  [1182, "date"],
  [1185, "timestamptz"],
  [1231, "numeric"],
  [2951, "uuid"],
];
// One object per type: they are told apart by identity.
const byName = new Map<string, SqlType>(builtins.map(([, name, type]) => [name, { type, sql: `pg_catalog.${name}` }]));
for (const [, name] of builtinArrays)
  byName.set(`${name}[]`, { type: "array", sql: `pg_catalog.${name}[]`, element: byName.get(name)! });
/** All but enums, which have names of their own. */
export const typeNames: readonly string[] = [...byName.keys()];
export const arrayTypeNames: readonly string[] = builtinArrays.map(([, name]) => `${name}[]`);
const byOid: ReadonlyMap<number, SqlType> = new Map([
  ...builtins.map(([oid, name]) => [oid, byName.get(name)!] as const),
  ...builtinArrays.map(([oid, name]) => [oid, byName.get(`${name}[]`)!] as const),
]);

/** undefined where the column's type cannot be read exactly. */
export function sqlTypeOfColumn(column: Column): SqlType | undefined {
  if (column.baseTypeKind !== "e") return byOid.get(column.baseTypeOid);
  // Postgres finds no operators for a domain over an enum.
  if (column.typeOid !== column.baseTypeOid) return undefined;
  return { type: "enum", sql: column.type, oid: column.baseTypeOid, labels: column.enumLabels ?? [] };
}

/** An array's has brackets behind it: `int4[]`. */
export function sqlTypeNamed(name: string): SqlType | undefined {
  return byName.get(name);
}

/** undefined where there is none whose elements are compared exactly. */
export function arrayOf({ sql }: SqlType): SqlType | undefined {
  return sql.startsWith("pg_catalog.") ? byName.get(`${sql.slice("pg_catalog.".length)}[]`) : undefined;
}

/** A constant's text in the form that equals the bytes in a row; undefined where the type does not accept it. */
export function canonicalText(text: string, type: SqlType): string | undefined {
  switch (type.type) {
    case "number":
      return type.sql === "pg_catalog.numeric" ? parseNumeric(text) : integerIn(text, type.sql);
    case "text":
      return canStandInSql(text) ? text : undefined;
    case "bpchar":
      return canStandInSql(text) ? text.replace(/ +$/, "") : undefined;
    case "boolean":
      return parseBoolean(text);
    case "uuid":
      return parseUuid(text);
    case "enum":
      return type.labels?.includes(text) ? text : undefined;
    case "float4":
    case "float8":
      return parseFloatText(text, type.type);
    case "bytea":
      return parseBytea(text);
    case "interval":
      return parseInterval(text);
    case "time":
    case "timetz":
      return parseTime(text, type.type);
    case "date":
    case "timestamp":
    case "timestamptz":
      return parseDateTime(text, type.type);
    case "jsonb":
      return parseJsonb(text);
    case "array":
      return canonicalArray(text, type.element!);
  }
}

function canonicalArray(text: string, type: SqlType): string | undefined {
  const array = canStandInSql(text) ? parseArray(Buffer.from(text)) : undefined;
  const texts = array?.elements.map((element) => element && canonicalText(element.toString(), type));
  if (!array || !texts || texts.includes(undefined)) return undefined;
  return printArray({
    bounds: array.bounds,
    elements: texts.map((element) => (typeof element === "string" ? Buffer.from(element) : null)),
  });
}

const integerBits: Readonly<Record<string, bigint>> = {
  "pg_catalog.int2": 15n,
  "pg_catalog.int4": 31n,
  "pg_catalog.int8": 63n,
};

/** Whether a canonical number is a value of this integer type. */
export function fitsInteger(text: string, sqlName: string): boolean {
  const bits = integerBits[sqlName];
  if (bits === undefined || text.length > 20 || !/^-?\d+$/.test(text)) return false;
  const value = BigInt(text);
  return value >= -(1n << bits) && value < 1n << bits;
}

function integerIn(text: string, sqlName: string): string | undefined {
  const value = parseInteger(text);
  return value !== undefined && fitsInteger(value, sqlName) ? value : undefined;
}

/** Unique prefixes of these words, in any case. https://www.postgresql.org/docs/current/datatype-boolean.html */
function parseBoolean(text: string): string | undefined {
  const word = text.replace(/^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$/g, "").toLowerCase();
  if (/^(t|tr|tru|true|y|ye|yes|on|1)$/.test(word)) return "t";
  return /^(f|fa|fal|fals|false|n|no|of|off|0)$/.test(word) ? "f" : undefined;
}

/** Hyphens are free after every fourth digit, braces around the whole. */
function parseUuid(text: string): string | undefined {
  const inner = text.startsWith("{") && text.endsWith("}") ? text.slice(1, -1) : text;
  if (!/^(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}$/.test(inner)) return undefined;
  return inner
    .replaceAll("-", "")
    .toLowerCase()
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

const SPACE = 0x20;

/** `character(n)` compares without its padding. */
function withoutPadding(bytes: Buffer, start: number, end: number): number {
  let last = end;
  while (last > start && bytes[last - 1] === SPACE) last--;
  return last;
}
