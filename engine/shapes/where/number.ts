/**
 * Numbers as decimal text: integers and `numeric` of any precision, never a JavaScript number. The canonical form has
 * no leading zero, no plus sign and no zero at the end of the fraction, so equal values have equal bytes; it is what
 * Postgres prints, minus those last zeros.
 * https://www.postgresql.org/docs/current/datatype-numeric.html
 */
import { WalcastError } from "../../errors.ts";

const space = "[ \\t\\n\\v\\f\\r]*";
const radixDigits = "0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+";
const digits = "\\d+(?:_\\d+)*";
const integerInput = new RegExp(`^${space}([+-]?)(${radixDigits}|${digits})${space}$`);
const decimalInput = new RegExp(
  `^${space}([+-]?)(?:(${digits})(?:\\.(${digits})?)?|\\.(${digits}))(?:[eE]([+-]?${digits}))?${space}$`,
);
const specialInput = new RegExp(`^${space}(nan|[+-]?inf(?:inity)?)${space}$`, "i");

/** What an integer type accepts as input, in canonical form; undefined where it would refuse the text. */
export function parseInteger(text: string): string | undefined {
  const parts = integerInput.exec(text);
  if (!parts) return undefined;
  const plain = parts[2]!.replaceAll("_", "");
  const magnitude = /^0[xob]/i.test(plain) ? BigInt(plain.toLowerCase()).toString() : withoutLeadingZeros(plain);
  return signed(parts[1] === "-", magnitude);
}

/** What `numeric` accepts as input, in canonical form; undefined where it would refuse the text. */
export function parseNumeric(text: string): string | undefined {
  const special = specialInput.exec(text);
  if (special) return canonicalSpecial(special[1]!.toLowerCase());
  const parts = decimalInput.exec(text);
  if (!parts) return parseInteger(text);
  const [, sign, whole, fraction, onlyFraction, exponent] = parts;
  return signed(sign === "-", shifted(plain(whole), plain(fraction ?? onlyFraction), Number(plain(exponent))));
}

/** What a number in decimal notation is made of, for whoever computes with it. */
export function decimalParts(
  text: string,
): { readonly sign: string; readonly whole: string; readonly fraction: string; readonly exponent: number } | undefined {
  const parts = decimalInput.exec(text);
  if (!parts) return undefined;
  const [, sign = "", whole, fraction, onlyFraction, exponent] = parts;
  return { sign, whole: plain(whole), fraction: plain(fraction ?? onlyFraction), exponent: Number(plain(exponent)) };
}

/** How many digits after the point Postgres shows of what `numeric` was given. */
export function numericScale(text: string): number {
  const [, , , fraction, onlyFraction, exponent] = decimalInput.exec(text) ?? [];
  return Math.max(plain(fraction ?? onlyFraction).length - Number(plain(exponent)), 0);
}

/** Where a printed number's canonical form ends: before the last zeros of its fraction. */
export function numberEnd(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[end - 1] !== ZERO || wholeDigits(bytes, start, end) === end - start) return end;
  let last = end - 1;
  while (bytes[last] === ZERO) last--;
  return bytes[last] === DOT ? last : last + 1;
}

/** Compares two canonical numbers. NaN equals itself and is greater than everything else, as in Postgres. */
export function compareNumbers(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const rank = rankOf(a, aStart) - rankOf(b, bStart);
  if (rank !== 0) return rank;
  if (a[aStart] !== MINUS) return compareMagnitudes(a, aStart, aEnd, b, bStart, bEnd);
  return compareMagnitudes(b, bStart + 1, bEnd, a, aStart + 1, aEnd);
}

const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const LETTER_I = 0x49;
const LETTER_N = 0x4e;

/** -Infinity, negative, zero or positive, Infinity, NaN. */
function rankOf(bytes: Uint8Array, start: number): number {
  const first = bytes[start];
  if (first === MINUS) return bytes[start + 1] === LETTER_I ? 0 : 1;
  if (first === LETTER_N) return 4;
  return first === LETTER_I ? 3 : 2;
}

/** More digits before the dot are more; with equally many, the bytes decide, and the dots are at the same place. */
function compareMagnitudes(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const whole = wholeDigits(a, aStart, aEnd) - wholeDigits(b, bStart, bEnd);
  if (whole !== 0) return whole;
  const length = Math.min(aEnd - aStart, bEnd - bStart);
  for (let i = 0; i < length; i++) {
    const difference = a[aStart + i]! - b[bStart + i]!;
    if (difference !== 0) return difference;
  }
  return aEnd - aStart - (bEnd - bStart);
}

function wholeDigits(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== DOT) at++;
  return at - start;
}

// Postgres keeps 131,072 digits before the dot and 16,383 after it; a constant written as 1e99999 would make every
// shape that uses it that large, for nothing anybody asks.
const exponentDigitsMax = 1000;
const fractionDigitsMax = 16_383;

function shifted(whole: string, fraction: string, exponent: number): string {
  if (Math.abs(exponent) > exponentDigitsMax) throw tooLong();
  const point = whole.length + exponent;
  const all = whole + fraction;
  const wholePart = point > 0 ? all.slice(0, point).padEnd(point, "0") : "";
  const fractionPart = point > 0 ? all.slice(point) : all.padStart(all.length - point, "0");
  const kept = withoutTrailingZeros(fractionPart);
  if (kept.length > fractionDigitsMax) throw tooLong();
  return withoutLeadingZeros(wholePart) + (kept === "" ? "" : `.${kept}`);
}

function tooLong(): WalcastError {
  return new WalcastError(
    "where_unsupported",
    `read a numeric constant: expected an exponent up to ${exponentDigitsMax} and at most ${fractionDigitsMax} digits after the point`,
  );
}

function withoutLeadingZeros(text: string): string {
  return text.replace(/^0+/, "") || "0";
}

function withoutTrailingZeros(text: string): string {
  let end = text.length;
  while (end > 0 && text[end - 1] === "0") end--;
  return text.slice(0, end);
}

function signed(negative: boolean, magnitude: string): string {
  return negative && magnitude !== "0" ? `-${magnitude}` : magnitude;
}

function canonicalSpecial(text: string): string {
  if (text === "nan") return "NaN";
  return text.startsWith("-") ? "-Infinity" : "Infinity";
}

function plain(text: string | undefined): string {
  return text?.replaceAll("_", "") ?? "";
}
