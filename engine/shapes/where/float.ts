/**
 * float4 and float8 as JavaScript's own numbers, a float4 as the double that it is. The texts that Postgres prints, and
 * those in decimal notation that it accepts, name one such number each.
 * https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-FLOAT
 */
import { WalcastError } from "../../errors.ts";
import { EvaluationFailed } from "./numeric.ts";

export type FloatType = "float4" | "float8";

const decimal = /^[ \t\n\v\f\r]*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[ \t\n\v\f\r]*$/;
const special = /^[ \t\n\v\f\r]*(?:(nan)|([+-]?)inf(?:inity)?)[ \t\n\v\f\r]*$/i;

/** A constant in the form that is the same for equal values; undefined where the type does not accept it. */
export function parseFloatText(text: string, type: FloatType): string | undefined {
  const value = floatIn(text, type);
  // Adding 0 makes one zero of the two.
  return value === undefined ? undefined : String(value + 0);
}

/** undefined where the text is none, or is out of range. */
export function floatIn(text: string, type: FloatType): number | undefined {
  const word = special.exec(text);
  if (word) return word[1] ? NaN : word[2] === "-" ? -Infinity : Infinity;
  const digits = decimal.exec(text)?.[1];
  if (digits === undefined) return undefined;
  const double = Number(digits);
  const value = type === "float4" ? single(double, digits) : double;
  const isLost = !Number.isFinite(value) || (value === 0 && /[1-9]/.test(digits.replace(/[eE].*/, "")));
  return isLost ? undefined : value;
}

/** Half way between two of them, it would count on which side of it the text was; a short integer is no other double. */
function single(double: number, digits: string): number {
  const value = Math.fround(double);
  const other = 2 * double - value;
  const isHalfWay = value !== double && Number.isFinite(value) && Math.fround(other) === other;
  if (isHalfWay && !/^[+-]?\d{1,15}$/.test(digits))
    throw new WalcastError("where_unsupported", "read a constant of type float4: expected fewer digits");
  return value;
}

/** What Postgres prints. */
export function floatOf(text: string, type: FloatType): number {
  return type === "float4" ? Math.fround(Number(text)) : Number(text);
}

/** NaN equals itself and is greater than everything else; there is one zero. */
export function compareFloats(a: number, b: number): number {
  if (a === b) return 0;
  if (a < b) return -1;
  if (a > b) return 1;
  return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
}

/** Of two texts. */
export function compareFloatTexts(type: FloatType) {
  return (a: Buffer, aStart: number, aEnd: number, b: Buffer, bStart: number, bEnd: number): number =>
    compareFloats(floatOf(a.toString("latin1", aStart, aEnd), type), floatOf(b.toString("latin1", bStart, bEnd), type));
}

// ── Arithmetic ───────────────────────────────────────────────────────────────────────────────────────────────────────

type Compute = (a: number, b: number) => number;

/** A result that is infinite, or that has become 0, although nothing was that it came from. */
function checked(result: number, isInfinite: boolean, isZero: boolean): number {
  if (Math.abs(result) === Infinity && !isInfinite) throw new EvaluationFailed("value out of range: overflow");
  if (result === 0 && !isZero) throw new EvaluationFailed("value out of range: underflow");
  return result;
}

function isInfinite(value: number): boolean {
  return Math.abs(value) === Infinity;
}

export function floatArithmetic(type: FloatType): Readonly<Record<"+" | "-" | "*" | "/", Compute>> {
  const round = type === "float4" ? Math.fround : (value: number): number => value;
  const sum: Compute = (a, b) => checked(round(a + b), isInfinite(a) || isInfinite(b), true);
  return {
    "+": sum,
    "-": (a, b) => sum(a, -b),
    "*": (a, b) => checked(round(a * b), isInfinite(a) || isInfinite(b), a === 0 || b === 0),
    "/": (a, b) => {
      if (b === 0 && !Number.isNaN(a)) throw new EvaluationFailed("division by zero");
      return checked(round(a / b), isInfinite(a), a === 0 || isInfinite(b));
    },
  };
}
