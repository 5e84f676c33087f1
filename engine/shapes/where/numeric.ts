/**
 * Arithmetic over integers and `numeric` with Postgres' results, to the last digit of a division's scale, and Postgres'
 * errors. A Numeric knows how many digits are shown after its point: division decides by them how far it goes.
 * https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/numeric.c
 */

/** Evaluating failed for a row, as it would in Postgres. The message is Postgres' own, and has no values in it. */
export class EvaluationFailed extends Error {
  /** It was the rule that failed: nobody knows whether the row may be read. */
  ofRule = false;
}

export interface Numeric {
  /** Without the point; 0n where `rank` is not 0. */
  readonly digits: bigint;
  /** How many of them stand after the point. */
  readonly scale: number;
  /** -Infinity is -1, Infinity 1, NaN 2, and everything else 0. */
  readonly rank: -1 | 0 | 1 | 2;
}

/** An integer's value, or a numeric's. */
export type NumberValue = bigint | Numeric;

const nan: Numeric = { digits: 0n, scale: 0, rank: 2 };
const infinity: Numeric = { digits: 0n, scale: 0, rank: 1 };
const minusInfinity: Numeric = { digits: 0n, scale: 0, rank: -1 };

/** What Postgres prints, or the canonical form of a constant. */
export function numericOf(text: string): Numeric {
  if (text === "NaN") return nan;
  if (text === "Infinity") return infinity;
  if (text === "-Infinity") return minusInfinity;
  const point = text.indexOf(".");
  if (point < 0) return finite(BigInt(text), 0);
  return finite(BigInt(text.slice(0, point) + text.slice(point + 1)), text.length - point - 1);
}

/** As large and as long as Postgres allows; undefined beyond. */
export function numericFrom(digits: bigint, scale: number): Numeric | undefined {
  if (scale > scaleMax || digits.toString().length > wholeDigitsMax + scale + 1) return undefined;
  return scale >= 0 ? bounded(digits, scale) : bounded(digits * tenTo(-scale), 0);
}

/** The value as it is printed with its scale. */
export function textOf(value: NumberValue): string {
  if (typeof value === "bigint") return String(value);
  if (value.rank !== 0) return value.rank === 2 ? "NaN" : value.rank === 1 ? "Infinity" : "-Infinity";
  const digits = magnitude(value.digits)
    .toString()
    .padStart(value.scale + 1, "0");
  const point = digits.length - value.scale;
  const fraction = value.scale > 0 ? `.${digits.slice(point)}` : "";
  return `${value.digits < 0n ? "-" : ""}${digits.slice(0, point)}${fraction}`;
}

export function withScale(value: Numeric, scale: number): Numeric {
  return value.rank === 0 && scale > value.scale ? { ...value, digits: scaled(value, scale), scale } : value;
}

/** NaN equals itself and is greater than everything else. */
export function compareValues(a: NumberValue, b: NumberValue): number {
  if (typeof a === "bigint" && typeof b === "bigint") return order(a, b);
  const [x, y] = [asNumeric(a), asNumeric(b)];
  if (x.rank !== 0 || y.rank !== 0) return x.rank - y.rank;
  const scale = Math.max(x.scale, y.scale);
  return order(scaled(x, scale), scaled(y, scale));
}

// ── Integers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface IntegerType {
  readonly bits: number;
  readonly outOfRange: string;
}

/** The result, where the type holds it. */
export function inRange(value: bigint, { bits, outOfRange }: IntegerType): bigint {
  if (BigInt.asIntN(bits, value) !== value) throw new EvaluationFailed(outOfRange);
  return value;
}

export function dividedInteger(a: bigint, b: bigint): bigint {
  if (b === 0n) throw new EvaluationFailed("division by zero");
  return a / b;
}

export function remainderInteger(a: bigint, b: bigint): bigint {
  if (b === 0n) throw new EvaluationFailed("division by zero");
  return a % b;
}

/** Half away from zero. */
export function roundedInteger({ digits, scale, rank }: Numeric): bigint {
  if (rank !== 0) throw new EvaluationFailed(`cannot convert ${rank === 2 ? "NaN" : "infinity"} to an integer`);
  return rounded(digits, tenTo(scale));
}

export function magnitude(value: bigint): bigint {
  return value < 0n ? -value : value;
}

// ── Numerics ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export function asNumeric(value: NumberValue): Numeric {
  return typeof value === "bigint" ? finite(value, 0) : value;
}

export function add(a: Numeric, b: Numeric): Numeric {
  if (a.rank !== 0 || b.rank !== 0) return addSpecial(a, b);
  const scale = Math.max(a.scale, b.scale);
  return bounded(scaled(a, scale) + scaled(b, scale), scale);
}

export function subtract(a: Numeric, b: Numeric): Numeric {
  return add(a, negate(b));
}

export function negate(value: Numeric): Numeric {
  if (value.rank === 0) return { ...value, digits: -value.digits };
  return value.rank === 2 ? nan : value.rank === 1 ? minusInfinity : infinity;
}

export function absolute(value: Numeric): Numeric {
  return value.rank === -1 || value.digits < 0n ? negate(value) : value;
}

export function multiply(a: Numeric, b: Numeric): Numeric {
  if (a.rank === 2 || b.rank === 2) return nan;
  if (a.rank !== 0 || b.rank !== 0) return infinite(sign(a) * sign(b));
  return bounded(a.digits * b.digits, a.scale + b.scale);
}

export function divide(a: Numeric, b: Numeric): Numeric {
  if (a.rank === 2 || b.rank === 2) return nan;
  if (b.rank !== 0) return a.rank === 0 ? zero : nan;
  if (b.digits === 0n) throw new EvaluationFailed("division by zero");
  if (a.rank !== 0) return infinite(a.rank * sign(b));
  const scale = quotientScale(a, b);
  const shift = scale + b.scale - a.scale;
  const [above, below] = shift >= 0 ? [a.digits * tenTo(shift), b.digits] : [a.digits, b.digits * tenTo(-shift)];
  return bounded(rounded(above, below), scale);
}

export function remainder(a: Numeric, b: Numeric): Numeric {
  if (a.rank === 2 || b.rank === 2) return nan;
  if (b.rank === 0 && b.digits === 0n) throw new EvaluationFailed("division by zero");
  if (a.rank !== 0) return nan;
  if (b.rank !== 0) return a;
  const scale = Math.max(a.scale, b.scale);
  return finite(scaled(a, scale) % scaled(b, scale), scale);
}

function addSpecial(a: Numeric, b: Numeric): Numeric {
  if (a.rank === 2 || b.rank === 2 || a.rank + b.rank === 0) return nan;
  return a.rank === 0 ? b : a;
}

/** Of an infinity's product: by zero it is not a number. */
function infinite(sign: number): Numeric {
  return sign === 0 ? nan : sign > 0 ? infinity : minusInfinity;
}

function sign({ digits, rank }: Numeric): number {
  return rank !== 0 ? rank : digits > 0n ? 1 : digits < 0n ? -1 : 0;
}

// Postgres computes in digits of base 10,000, and wants four of them (16 decimal ones) of a quotient to matter.
const quotientDigits = 16;
const quotientScaleMax = 1000;

/** The scale of a quotient follows from the scales, and from a guess at its size by the first digits of both. */
function quotientScale(a: Numeric, b: Numeric): number {
  const [dividend, divisor] = [leading(a), leading(b)];
  const weight = dividend.weight - divisor.weight - (dividend.digit <= divisor.digit ? 1 : 0);
  return Math.min(Math.max(quotientDigits - weight * 4, a.scale, b.scale, 0), quotientScaleMax);
}

/** The first digit in base 10,000 that is not zero, and its power. */
function leading({ digits, scale }: Numeric): { weight: number; digit: number } {
  if (digits === 0n) return { weight: 0, digit: 0 };
  const text = magnitude(digits).toString();
  const whole = text.length - scale;
  const weight = Math.ceil(whole / 4) - 1;
  return { weight, digit: Number(text.slice(0, whole - weight * 4).padEnd(whole - weight * 4, "0")) };
}

/** Half away from zero. */
function rounded(above: bigint, below: bigint): bigint {
  const isNegative = above < 0n !== below < 0n;
  const [n, d] = [magnitude(above), magnitude(below)];
  const quotient = (2n * n + d) / (2n * d);
  return isNegative ? -quotient : quotient;
}

const scaleMax = 16_383;
const wholeDigitsMax = 131_072;

/** As many digits after the point as a numeric can have, and an error where there are too many before it. */
function bounded(digits: bigint, scale: number): Numeric {
  if (scale > scaleMax) return bounded(rounded(digits, tenTo(scale - scaleMax)), scaleMax);
  // A hexadecimal digit is worth more than a decimal one: nothing short of this can be too long.
  if (digits.toString(16).length > 100_000 && magnitude(digits) >= tenTo(wholeDigitsMax + scale))
    throw new EvaluationFailed("value overflows numeric format");
  return finite(digits, scale);
}

function finite(digits: bigint, scale: number): Numeric {
  return { digits, scale, rank: 0 };
}

const zero = finite(0n, 0);

function scaled({ digits, scale }: Numeric, to: number): bigint {
  return to === scale ? digits : digits * tenTo(to - scale);
}

const powers = Array.from({ length: 64 }, (_, i) => 10n ** BigInt(i));

function tenTo(power: number): bigint {
  return powers[power] ?? 10n ** BigInt(power);
}

function order(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
