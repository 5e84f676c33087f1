/**
 * What Postgres makes of a float in decimal notation: the fewest digits that name no other float, or a fixed number of
 * them. Computed with integers: what JavaScript and C print for a double differs where two are equally near.
 * https://github.com/postgres/postgres/blob/master/src/common/d2s.c
 */
import type { FloatType } from "./float.ts";

interface Format {
  /** Of its fraction, the hidden one among them. */
  readonly bits: number;
  /** The exponent of 2 that the last bit of the smallest ones has. */
  readonly least: number;
  /** From this power of ten on it is written with an exponent. */
  readonly fixedBelow: number;
  /** Digits that any of them keeps: DBL_DIG, FLT_DIG. */
  readonly digits: number;
}

const formats: Readonly<Record<FloatType, Format>> = {
  float4: { bits: 24, least: -149, fixedBelow: 6, digits: 6 },
  float8: { bits: 53, least: -1074, fixedBelow: 15, digits: 15 },
};

/** `digits` × 10 ^ `exponent`, without a sign. */
export interface Decimal {
  readonly digits: bigint;
  readonly exponent: number;
}

/** As Postgres prints it with extra_float_digits = 1. */
export function floatText(value: number, type: FloatType): string {
  if (Number.isNaN(value)) return "NaN";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  if (value === 0) return `${sign}0`;
  if (!Number.isFinite(value)) return `${sign}Infinity`;
  return sign + printed(shortest(Math.abs(value), formats[type]), formats[type].fixedBelow);
}

/** printf's %.15g, or of a float4 %.6g: of two that are equally near, the even one. */
export function roundedDecimal(value: number, type: FloatType): Decimal {
  const magnitude = Math.abs(value);
  const { digits } = formats[type];
  const { fraction, power } = binary(magnitude, formats.float8);
  const exponent = orderOf(magnitude) - digits + 1;
  // The order was taken from a text, which may have been rounded up.
  const [up, down] = scales(power, exponent);
  const isOneMore = fraction * up < 10n ** BigInt(digits - 1) * down;
  const own = isOneMore ? exponent - 1 : exponent;
  return withoutZeros(nearest(fraction, power, own), own);
}

/** Between the two points halfway to its neighbours, and not on them. */
function shortest(value: number, format: Format): Decimal {
  const { fraction, power } = binary(value, format);
  // In quarters of the last bit: below a power of two the neighbour is half as far away.
  const isPower = fraction === 1n << BigInt(format.bits - 1) && power > format.least;
  const [low, middle, high] = [4n * fraction - (isPower ? 1n : 2n), 4n * fraction, 4n * fraction + 2n];
  const order = orderOf(value);
  for (let exponent = order + 1; ; exponent--) {
    const [up, down] = scales(power - 2, exponent);
    const below = (middle * up) / down;
    const inside = [below, below + 1n].filter((digits) => digits * down > low * up && digits * down < high * up);
    if (inside.length === 0) continue;
    const digits = inside.length === 1 ? inside[0]! : nearest(middle, power - 2, exponent);
    return withoutZeros(digits, exponent);
  }
}

/** Of `fraction` × 2 ^ `power`, how many times 10 ^ `exponent`. */
function nearest(fraction: bigint, power: number, exponent: number): bigint {
  const [up, down] = scales(power, exponent);
  const below = (fraction * up) / down;
  const rest = 2n * (fraction * up - below * down);
  const isUp = rest > down || (rest === down && below % 2n === 1n);
  return isUp ? below + 1n : below;
}

/** 2 ^ `power` / 10 ^ `exponent`, as a fraction. */
function scales(power: number, exponent: number): [up: bigint, down: bigint] {
  const [two, ten] = [2n ** BigInt(Math.abs(power)), 10n ** BigInt(Math.abs(exponent))];
  return [(power > 0 ? two : 1n) * (exponent < 0 ? ten : 1n), (power > 0 ? 1n : two) * (exponent < 0 ? 1n : ten)];
}

/** The value as an integer of `bits` bits × 2 ^ power; fewer bits where it is one of the smallest. */
function binary(value: number, { bits, least }: Format): { fraction: bigint; power: number } {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const raw = view.getBigUint64(0);
  const biased = Number(raw >> 52n);
  const stored = raw & ((1n << 52n) - 1n);
  const [fraction, power] = biased === 0 ? [stored, -1074] : [stored | (1n << 52n), biased - 1075];
  const shift = Math.max(53 - bits, least - power);
  return { fraction: fraction >> BigInt(shift), power: power + shift };
}

/** The power of ten of its first digit, or one more. */
function orderOf(value: number): number {
  const text = value.toExponential();
  return Number(text.slice(text.indexOf("e") + 1));
}

function withoutZeros(digits: bigint, exponent: number): Decimal {
  return digits !== 0n && digits % 10n === 0n ? withoutZeros(digits / 10n, exponent + 1) : { digits, exponent };
}

function printed({ digits, exponent }: Decimal, fixedBelow: number): string {
  const text = String(digits);
  const order = text.length - 1 + exponent;
  if (order < -4 || order >= fixedBelow) {
    const fraction = text.length > 1 ? `.${text.slice(1)}` : "";
    return `${text[0]}${fraction}e${order < 0 ? "-" : "+"}${String(Math.abs(order)).padStart(2, "0")}`;
  }
  if (exponent >= 0) return text + "0".repeat(exponent);
  const padded = text.padStart(1 - exponent, "0");
  return `${padded.slice(0, exponent)}.${padded.slice(exponent)}`;
}
