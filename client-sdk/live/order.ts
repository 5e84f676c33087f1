/**
 * The order of rows by values in Postgres' text form: exactly the replica's own for the types that are here, so that a row
 * can be put in its place without asking Postgres. Every other type makes a query run again.
 */
import { type RowBytes, valueOf } from "../rows.ts";
import { readText } from "../wire.ts";

export interface OrderColumn {
  /** Of the result, from 0. */
  readonly column: number;
  readonly compare: CompareValues;
  readonly descending: boolean;
  readonly nullsFirst: boolean;
}

export type CompareValues = (a: Uint8Array, b: Uint8Array) => number;

/** By the type that the sort operator takes (pg_operator.oprleft). Text is here for collations that compare bytes. */
const comparisons = new Map<number, CompareValues>([
  [16, compareBytes], // bool: f, t
  [17, compareBytes], // bytea: hexadecimal digits
  [19, compareBytes], // name
  [20, compareDecimals],
  [21, compareNumbers],
  [23, compareNumbers],
  [25, compareBytes], // text
  [26, compareNumbers],
  [700, compareNumbers],
  [701, compareNumbers],
  [1042, comparePadded], // character(n)
  [1082, compareDates],
  [1083, compareBytes], // time
  [1114, compareDates],
  [1184, compareDates],
  [1700, compareDecimals],
  [2950, compareBytes], // uuid
]);

export function comparisonOf(typeOid: number): CompareValues | undefined {
  return comparisons.get(typeOid);
}

export function compareRows(a: RowBytes, b: RowBytes, order: readonly OrderColumn[]): number {
  for (const one of order) {
    const result = compareColumn(valueOf(a, one.column), valueOf(b, one.column), one);
    if (result !== 0) return result;
  }
  return 0;
}

function compareColumn(a: Uint8Array | undefined, b: Uint8Array | undefined, one: OrderColumn): number {
  // As nearly always, where a row is compared with what it was.
  if (a && b && compareBytes(a, b) === 0) return 0;
  if (a && b) return one.descending ? -one.compare(a, b) : one.compare(a, b);
  if (a === b) return 0;
  return (a === undefined) === one.nullsFirst ? -1 : 1;
}

// ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────────────

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

function comparePadded(a: Uint8Array, b: Uint8Array): number {
  return compareBytes(trimmed(a), trimmed(b));
}

function trimmed(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0x20) end--;
  return bytes.subarray(0, end);
}

/** NaN is above everything, and equal to itself. https://www.postgresql.org/docs/current/datatype-numeric.html */
function compareNumbers(a: Uint8Array, b: Uint8Array): number {
  const [left, right] = [Number(textOf(a)), Number(textOf(b))];
  if (Number.isNaN(left) || Number.isNaN(right)) return Number(Number.isNaN(left)) - Number(Number.isNaN(right));
  return left < right ? -1 : left > right ? 1 : 0;
}

const decimalPattern = /^(-?)(\d+)(?:\.(\d+))?$/;

function compareDecimals(a: Uint8Array, b: Uint8Array): number {
  const [left, right] = [decimalPattern.exec(textOf(a)), decimalPattern.exec(textOf(b))];
  // NaN and the infinities stand to each other, and to numbers, as floating point does it.
  if (!left || !right) return compareNumbers(left ? zero : a, right ? zero : b);
  const signs = [signOf(left), signOf(right)] as const;
  return signs[0] === signs[1] ? signs[0] * compareMagnitudes(left, right) : signs[0] - signs[1];
}

const zero = Uint8Array.of(0x30);

function signOf([text, minus]: readonly string[]): number {
  return /[1-9]/.test(text!) ? (minus === "-" ? -1 : 1) : 0;
}

function compareMagnitudes(
  [, , a = "", aRest = ""]: readonly string[],
  [, , b = "", bRest = ""]: readonly string[],
): number {
  if (a.length !== b.length) return a.length - b.length;
  if (a !== b) return a < b ? -1 : 1;
  const length = Math.max(aRest.length, bRest.length);
  const [left, right] = [aRest.padEnd(length, "0"), bRest.padEnd(length, "0")];
  return left === right ? 0 : left < right ? -1 : 1;
}

/** As ISO text: year-month-day, the time, a zone that is always the same, BC at the end. Fractions have no trailing zeros. */
function compareDates(a: Uint8Array, b: Uint8Array): number {
  const [left, right] = [textOf(a), textOf(b)];
  if (left === right) return 0;
  const years = [yearOf(left), yearOf(right)] as const;
  if (years[0] !== years[1]) return years[0] < years[1] ? -1 : 1;
  // A fraction begins with a dot, which comes after the plus of a zone and after nothing at all.
  return left.slice(left.indexOf("-")) < right.slice(right.indexOf("-")) ? -1 : 1;
}

function yearOf(text: string): number {
  if (text.endsWith("infinity")) return text.startsWith("-") ? -Infinity : Infinity;
  const year = Number.parseInt(text, 10);
  return text.endsWith("BC") ? 1 - year : year;
}

function textOf(bytes: Uint8Array): string {
  return readText(bytes, 0, bytes.length);
}
