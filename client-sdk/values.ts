/**
 * Between Postgres' text and JavaScript values, for what an application reads and passes in. The defaults are those of
 * PGlite's own `query`: int2, int4, oid and floats are numbers, int8 is a number where that is exact and a bigint where
 * it is not, numeric stays text, bool is a boolean, json and jsonb are parsed, date, timestamp and timestamptz are
 * Dates (milliseconds: cast to text for all six digits), bytea is a Uint8Array, arrays are arrays, everything else is
 * text. Nothing that is synchronised passes through here: between server and replica, values stay text.
 */
import { type ArrayTypes, type DecodeValue, oids } from "./decoders.ts";
import { readText } from "./wire.ts";

/** The same straight from the bytes of a row, where a string on the way can be saved. */
export function decodeField(
  bytes: Uint8Array,
  start: number,
  end: number,
  typeOid: number,
  decode: DecodeValue | undefined,
): unknown {
  if (typeOid === oids.int4 && end - start <= 9) return decodeSmallInteger(bytes, start, end);
  const text = readText(bytes, start, end);
  return decode ? decode(text) : text;
}

function decodeSmallInteger(bytes: Uint8Array, start: number, end: number): number {
  const negative = bytes[start] === 0x2d;
  let value = 0;
  for (let i = negative ? start + 1 : start; i < end; i++) value = value * 10 + bytes[i]! - 0x30;
  return negative ? -value : value;
}

// ── Parameters ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** A parameter's text for the type that Postgres inferred for it. `undefined` counts as NULL. */
export function encodeParameter(value: unknown, typeOid: number, arrayTypes: ArrayTypes): string | null {
  if (value === null || value === undefined) return null;
  if (typeOid === oids.json || typeOid === oids.jsonb)
    return typeof value === "string" ? value : JSON.stringify(value, bigintAsText);
  if (Array.isArray(value)) return encodeArray(value, arrayTypes.get(typeOid) ?? 0, arrayTypes);
  return encodeScalar(value);
}

function encodeScalar(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return value ? "t" : "f";
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array)
    return `\\x${Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  if (typeof value === "number" || typeof value === "bigint") return value.toString();
  return JSON.stringify(value, bigintAsText);
}

function encodeArray(values: readonly unknown[], elementOid: number, arrayTypes: ArrayTypes): string {
  const parts = values.map((value) => {
    if (Array.isArray(value)) return encodeArray(value, elementOid, arrayTypes);
    const text = encodeParameter(value, elementOid, arrayTypes);
    return text === null ? "NULL" : quoteElement(text);
  });
  return `{${parts.join(",")}}`;
}

/** A text[] of values as they are: what set-based statements take. */
export function encodeTextArray(values: readonly (string | null)[]): string {
  let text = "{";
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (i > 0) text += ",";
    text += value === null ? "NULL" : quoteElement(value);
  }
  return `${text}}`;
}

function quoteElement(text: string): string {
  return `"${/["\\]/.test(text) ? text.replace(/["\\]/g, "\\$&") : text}"`;
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}
