/**
 * Casts between types, where the result does not depend on a setting nor on the library that Postgres was built with. What
 * is not here is refused. https://www.postgresql.org/docs/current/sql-createcast.html
 */
import assert from "node:assert/strict";
import type { FloatType } from "./float.ts";
import { floatText, roundedDecimal } from "./float-text.ts";
import {
  asNumeric,
  compareValues,
  EvaluationFailed,
  inRange,
  type Numeric,
  numericFrom,
  numericOf,
  roundedInteger,
  textOf,
} from "./numeric.ts";
import { integerTypes } from "./arithmetic.ts";
import { decimalParts, parseNumeric } from "./number.ts";
import { isBytes, isTrueText, type Scalar, truthText, type Value } from "./scalar.ts";
import { canonicalText, type SqlType, type TypeName } from "./type.ts";

type Present = Exclude<Value, null>;

export interface Cast {
  readonly mayFail: boolean;
  readonly evaluate: (value: Present) => Present;
}

export function castOf(from: SqlType, to: SqlType): Cast | undefined {
  if (from.sql === to.sql || (from.type === "text" && to.type === "text")) return unchanged;
  if (to.type === "text") return toText(from);
  if (from.type === "text") return fromText(to);
  return between[`${kindOf(from)} ${kindOf(to)}`]?.(from, to);
}

export function castScalar(scalar: Scalar, to: SqlType, { mayFail, evaluate }: Cast): Scalar {
  return {
    type: to,
    sql: `CAST(${scalar.sql} AS ${to.sql})`,
    columns: scalar.columns,
    mayFail: mayFail || scalar.mayFail,
    collation: to.type === "text" ? scalar.collation : undefined,
    evaluate: (row) => {
      const value = scalar.evaluate(row);
      return value === null ? null : evaluate(value);
    },
  };
}

const unchanged: Cast = { mayFail: false, evaluate: (value) => value };

function kindOf({ type, sql }: SqlType): string {
  return type !== "number" ? type : sql === "pg_catalog.numeric" ? "numeric" : "integer";
}

const between: Readonly<Record<string, (from: SqlType, to: SqlType) => Cast | undefined>> = {
  "integer integer": (_from, to) => ({ mayFail: true, evaluate: (value) => inRange(value as bigint, rangeOf(to)) }),
  "integer numeric": () => ({ mayFail: false, evaluate: (value) => asNumeric(value as bigint) }),
  "numeric integer": (_from, to) => ({
    mayFail: true,
    evaluate: (value) => inRange(roundedInteger(numericIn(value)), rangeOf(to)),
  }),
  "integer float8": () => ({ mayFail: false, evaluate: (value) => Number(value) }),
  "numeric float8": () => ({ mayFail: true, evaluate: (value) => doubleOf(numericIn(value)) }),
  "float4 numeric": () => ({ mayFail: false, evaluate: (value) => numericOfFloat(value as number, "float4") }),
  "float8 numeric": () => ({ mayFail: false, evaluate: (value) => numericOfFloat(value as number, "float8") }),
  "integer float4": () => ({ mayFail: false, evaluate: (value) => roundedOnce(numericIn(value), Number(value)) }),
  "numeric float4": () => ({ mayFail: true, evaluate: (value) => singleOfNumeric(numericIn(value)) }),
  "float4 float8": () => unchanged,
  "float8 float4": () => ({ mayFail: true, evaluate: (value) => singleOf(value as number) }),
  "float4 integer": (_from, to) => integerOfFloat(to),
  "float8 integer": (_from, to) => integerOfFloat(to),
  "boolean integer": (_from, to) =>
    to.sql === "pg_catalog.int4" ? { mayFail: false, evaluate: (value) => (isTrueText(value) ? 1n : 0n) } : undefined,
  "integer boolean": ({ sql }) =>
    sql === "pg_catalog.int4" ? { mayFail: false, evaluate: (value) => truthText(value !== 0n) } : undefined,
  "date timestamp": () => ({ mayFail: true, evaluate: (value) => startOfDay(textIn(value)) }),
  "timestamp date": () => ({ mayFail: false, evaluate: (value) => Buffer.from(dayOf(textIn(value))) }),
  // Days begin where they do in UTC: every connection of ours has that time zone.
  "date timestamptz": () => ({ mayFail: true, evaluate: (value) => withZone(startOfDay(textIn(value)).toString()) }),
  "timestamptz date": () => ({ mayFail: false, evaluate: (value) => Buffer.from(dayOf(textIn(value))) }),
  "timestamp timestamptz": () => ({ mayFail: false, evaluate: (value) => withZone(textIn(value)) }),
  "timestamptz timestamp": () => ({
    mayFail: false,
    evaluate: (value) => Buffer.from(textIn(value).replace("+00", "")),
  }),
};

function rangeOf({ sql }: SqlType): (typeof integerTypes)[number] {
  return integerTypes.find(({ name }) => sql === `pg_catalog.${name}`)!;
}

/** What became numeric beside others may be an integer here. */
function numericIn(value: Present): Numeric {
  assert(!isBytes(value) && typeof value !== "number", "a numeric is a number of its kind");
  return asNumeric(value);
}

function textIn(value: Present): string {
  assert(isBytes(value), "what is read as text is text");
  return value.toString();
}

// ── Floats ───────────────────────────────────────────────────────────────────────────────────────────────────────────

function doubleOf(value: Numeric): number {
  const double = Number(textOf(value));
  const isLost = value.rank === 0 && (!Number.isFinite(double) || (double === 0 && value.digits !== 0n));
  if (isLost) throw outOfRange("float8");
  return double;
}

function singleOfNumeric(value: Numeric): number {
  const single = roundedOnce(value, doubleOf(value));
  const isLost = value.rank === 0 && (!Number.isFinite(single) || (single === 0 && value.digits !== 0n));
  if (isLost) throw outOfRange("float4");
  return single;
}

/** The float4 next to a number: of its double, which may lie half way between two although the number does not, an odd neighbour. */
function roundedOnce(value: Numeric, double: number): number {
  if (value.rank !== 0) return double;
  const beyond = compareValues(value, exactly(double));
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, double);
  const bits = view.getBigInt64(0);
  if (beyond !== 0 && bits % 2n === 0n) view.setBigInt64(0, beyond > 0 === double > 0 ? bits + 1n : bits - 1n);
  return Math.fround(view.getFloat64(0));
}

/** All the digits of a double. */
function exactly(double: number): Numeric {
  let [scale, integer] = [0, double];
  while (!Number.isInteger(integer)) [scale, integer] = [scale + 1, integer * 2];
  return numericFrom(BigInt(integer) * 5n ** BigInt(scale), scale)!;
}

function singleOf(double: number): number {
  const single = Math.fround(double);
  if (Number.isFinite(double) && !Number.isFinite(single)) throw new EvaluationFailed("value out of range: overflow");
  if (single === 0 && double !== 0) throw new EvaluationFailed("value out of range: underflow");
  return single;
}

/** As many digits as any float of the type keeps. */
function numericOfFloat(value: number, type: FloatType): Numeric {
  if (!Number.isFinite(value) || value === 0) return numericOf(String(value));
  const { digits, exponent } = roundedDecimal(value, type);
  const finite = numericFrom(value < 0 ? -digits : digits, -exponent);
  assert(finite, "a numeric has room for every float");
  return finite;
}

function outOfRange(type: FloatType): EvaluationFailed {
  return new EvaluationFailed(`a number is out of range for type ${type}`);
}

function integerOfFloat(to: SqlType): Cast {
  const range = rangeOf(to);
  return {
    mayFail: true,
    evaluate: (value) => {
      if (!Number.isFinite(value)) throw new EvaluationFailed(range.outOfRange);
      return inRange(BigInt(toEven(value as number)), range);
    },
  };
}

/** Of two integers that are equally near, the even one. */
function toEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

// ── Dates ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const lastYear = 294_276;

function startOfDay(date: string): Buffer {
  if (date.endsWith("infinity")) return Buffer.from(date);
  const isBeforeChrist = date.endsWith(" BC");
  if (!isBeforeChrist && Number(date.slice(0, date.indexOf("-"))) > lastYear)
    throw new EvaluationFailed("date out of range for timestamp");
  return Buffer.from(isBeforeChrist ? date.replace(" BC", " 00:00:00 BC") : `${date} 00:00:00`);
}

function dayOf(timestamp: string): string {
  return timestamp.replace(/ \d\d:\d\d:[\d.]+(\+00)?/, "");
}

function withZone(timestamp: string): Buffer {
  return Buffer.from(timestamp.replace(/:[\d.]+(?= BC$|$)/, "$&+00"));
}

// ── Text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Of an interval and of a time of day with a zone, what is in memory here is not always what Postgres would print. */
const printedAlike: ReadonlySet<TypeName> = new Set([
  "bpchar",
  "uuid",
  "enum",
  "date",
  "timestamp",
  "timestamptz",
  "time",
  "bytea",
  "jsonb",
]);

function toText({ type }: SqlType): Cast | undefined {
  if (type === "number") return { mayFail: false, evaluate: (value) => Buffer.from(textOf(value as bigint | Numeric)) };
  if (type === "boolean")
    return { mayFail: false, evaluate: (value) => Buffer.from(isTrueText(value) ? "true" : "false") };
  if (type === "float4" || type === "float8")
    return { mayFail: false, evaluate: (value) => Buffer.from(floatText(value as number, type)) };
  return printedAlike.has(type) ? unchanged : undefined;
}

const readFromText: ReadonlySet<TypeName> = new Set(["number", "boolean", "uuid", "enum"]);

function fromText(to: SqlType): Cast | undefined {
  if (!readFromText.has(to.type)) return undefined;
  if (to.sql === "pg_catalog.numeric") return { mayFail: true, evaluate: (value) => numericFromText(textIn(value)) };
  return {
    mayFail: true,
    evaluate: (value) => {
      const text = canonicalText(textIn(value), to);
      if (text === undefined) throw new EvaluationFailed(`invalid input for type ${to.sql}`);
      return to.type === "number" ? BigInt(text) : Buffer.from(text);
    },
  };
}

/** Beyond, a number is too large or has too many digits, whichever it is, unless it is zero. */
const exponentMax = 200_000;

function numericFromText(text: string): Numeric {
  const parts = decimalParts(text);
  if (!parts) return numericOf(parseNumeric(text) ?? invalid());
  const { sign, whole, fraction, exponent } = parts;
  const digits = BigInt(sign + whole + fraction);
  const isLong = Math.abs(exponent) > exponentMax && (digits !== 0n || exponent < 0);
  const scale = fraction.length - exponent;
  const value = isLong ? undefined : numericFrom(digits, digits === 0n ? Math.max(scale, 0) : scale);
  return value ?? invalid();
}

function invalid(): never {
  throw new EvaluationFailed("invalid input for type pg_catalog.numeric");
}
