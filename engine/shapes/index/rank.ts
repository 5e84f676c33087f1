/**
 * A number for each value, in the type's order: of two values the greater one never has the smaller rank. Most
 * comparisons in the index are then of two numbers that lie in the tree itself; where ranks are equal, the values are
 * compared. Always finite.
 */
import type { ValueType } from "../where/type.ts";

export function rank(values: ValueType, bytes: Uint8Array, start: number, end: number): number {
  switch (values.name) {
    case "number":
      return rankOfNumber(bytes, start, end);
    case "text":
    case "bpchar":
    case "uuid":
    case "bytea":
    case "time":
    case "boolean":
      return rankOfBytes(bytes, start, end);
    case "date":
    case "timestamp":
    case "timestamptz":
      return rankOfDate(bytes, start, end);
    default:
      return 0;
  }
}

/** Whether no other value of the type has this one's rank. */
export function isExact(values: ValueType, bytes: Uint8Array, start: number, end: number): boolean {
  switch (values.name) {
    case "number":
      return end - start <= digitsMax && bytes[end - 1]! <= NINE;
    case "text":
    case "bpchar":
      return end - start <= rankedBytes;
    default:
      return false;
  }
}

const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
/** A double holds any number of so many digits. */
const digitsMax = 15;

/** Infinity and NaN are above, -Infinity is below. */
function rankOfNumber(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[start] === MINUS) return -rankOfMagnitude(bytes, start + 1, end);
  return rankOfMagnitude(bytes, start, end);
}

/** Its first digits as a number: what is cut off makes it smaller, but not below any smaller number's first digits. */
function rankOfMagnitude(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[start]! > NINE) return Number.MAX_VALUE;
  let digits = 0;
  let at = start;
  for (; at < end && bytes[at] !== DOT && at - start < digitsMax; at++) digits = digits * 10 + bytes[at]! - ZERO;
  if (at === end) return digits;
  const whole = at - start;
  if (bytes[at] !== DOT) return digits * powerOfTen(wholeEnd(bytes, at, end) - at);
  const last = Math.min(end, start + digitsMax + 1);
  for (at++; at < last; at++) digits = digits * 10 + bytes[at]! - ZERO;
  return digits / powersOfTen[Math.max(0, last - start - whole - 1)]!;
}

function wholeEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== DOT) at++;
  return at;
}

/** These are exact, so multiplying and dividing by them is rounded once and keeps the order. */
const powersOfTen = Array.from({ length: 23 }, (_, exponent) => Number(`1e${exponent}`));

function powerOfTen(exponent: number): number {
  return powersOfTen[exponent] ?? Number.MAX_VALUE / 1e15;
}

/** So many fit into the whole numbers that a double holds. No value has a zero, so that a shorter one is like no other. */
const rankedBytes = 6;

function rankOfBytes(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let at = start; at < start + rankedBytes; at++) value = value * 256 + (at < end ? bytes[at]! : 0);
  return value;
}

const LETTER_C = 0x43;
const DASH = 0x2d;

/** The digits up to the second. Years before Christ and beyond 9999 are not told apart. */
function rankOfDate(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[start] === DASH) return -2;
  if (bytes[end - 1] === LETTER_C) return -1;
  if (bytes[start]! > NINE || bytes[start + 4] !== DASH) return bytes[start]! > NINE ? 2e14 : 1e14;
  let digits = 0;
  for (let i = 0; i < dateDigits.length; i++) {
    const at = start + dateDigits[i]!;
    digits = digits * 10 + (at < end ? bytes[at]! - ZERO : 0);
  }
  return digits;
}

/** Where they are in `2026-11-21 12:30:00`. */
const dateDigits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
