/**
 * The types a predicate can read, by what their values' text needs: where the part that decides equality ends, how two
 * values compare, and the canonical text of a constant. Equal values have equal bytes up to that end; the index over
 * predicates relies on it. What is not here is refused, except in IS [NOT] NULL.
 */
import type { Column } from "../../changes/table.ts";
import { canStandInSql } from "../name.ts";
import { compareDateTimes, parseDateTime } from "./datetime.ts";
import { compareNumbers, numberEnd, parseInteger, parseNumeric } from "./number.ts";

export type TypeName =
  | "number"
  | "text"
  | "bpchar"
  | "boolean"
  | "uuid"
  | "enum"
  | "date"
  | "timestamp"
  | "timestamptz";

export interface ValueType {
  readonly name: TypeName;
  /** False where <, <=, >, >= are not offered. */
  readonly ordered: boolean;
  /** Equality and order depend on a collation. */
  readonly collatable: boolean;
  /** First byte after what decides equality. */
  readonly end: (bytes: Buffer, start: number, end: number) => number;
  readonly compare: (a: Buffer, aStart: number, aEnd: number, b: Buffer, bStart: number, bEnd: number) => number;
}

const wholeValue = (_bytes: Buffer, _start: number, end: number): number => end;
const byBytes: ValueType["compare"] = (a, aStart, aEnd, b, bStart, bEnd) => a.compare(b, bStart, bEnd, aStart, aEnd);
const plain = { ordered: true, collatable: false, end: wholeValue, compare: byBytes };

export const valueTypes: Readonly<Record<TypeName, ValueType>> = {
  number: { ...plain, name: "number", end: numberEnd, compare: compareNumbers },
  text: { ...plain, name: "text", collatable: true },
  bpchar: { ...plain, name: "bpchar", collatable: true, end: withoutPadding },
  // 'f' and 't', hexadecimal in lower case: their bytes are in the types' order.
  boolean: { ...plain, name: "boolean" },
  uuid: { ...plain, name: "uuid" },
  enum: { ...plain, name: "enum", ordered: false },
  date: { ...plain, name: "date", compare: compareDateTimes },
  timestamp: { ...plain, name: "timestamp", compare: compareDateTimes },
  timestamptz: { ...plain, name: "timestamptz", compare: compareDateTimes },
};

/** A type as SQL names it: which values it has and which of them fit. */
export interface SqlType {
  readonly type: TypeName;
  /** The name in pg_catalog; an enum's own qualified name. */
  readonly sql: string;
  /** An enum's own. */
  readonly oid?: number;
  readonly labels?: readonly string[];
}

const builtins: readonly (readonly [oid: number, name: string, type: TypeName])[] = [
  [16, "bool", "boolean"],
  [20, "int8", "number"],
  [21, "int2", "number"],
  [23, "int4", "number"],
  [25, "text", "text"],
  [1042, "bpchar", "bpchar"],
  [1043, "varchar", "text"],
  [1082, "date", "date"],
  [1114, "timestamp", "timestamp"],
  [1184, "timestamptz", "timestamptz"],
  [1700, "numeric", "number"],
  [2950, "uuid", "uuid"],
];
// One object per type: they are told apart by identity.
const byName: ReadonlyMap<string, SqlType> = new Map(
  builtins.map(([, name, type]) => [name, { type, sql: `pg_catalog.${name}` }]),
);
const byOid: ReadonlyMap<number, SqlType> = new Map(builtins.map(([oid, name]) => [oid, byName.get(name)!]));

/** undefined where the column's type cannot be read exactly. */
export function sqlTypeOfColumn(column: Column): SqlType | undefined {
  if (column.baseTypeKind !== "e") return byOid.get(column.baseTypeOid);
  // Postgres finds no operators for a domain over an enum.
  if (column.typeOid !== column.baseTypeOid) return undefined;
  return { type: "enum", sql: column.type, oid: column.baseTypeOid, labels: column.enumLabels ?? [] };
}

export function sqlTypeNamed(name: string): SqlType | undefined {
  return byName.get(name);
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
    case "date":
    case "timestamp":
    case "timestamptz":
      return parseDateTime(text, type.type);
  }
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
