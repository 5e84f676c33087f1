/**
 * Values of type jsonb, as the text that Postgres prints: one form for each value, but for the zeros at the end of a
 * number. So a part of a value is a part of its text, and nothing is parsed that nobody asks for.
 * https://www.postgresql.org/docs/current/functions-json.html
 */
import { equalBytes } from "./bytes.ts";
import { numberEnd } from "./number.ts";
import { EvaluationFailed } from "./numeric.ts";

/** The member of an object; null where there is none. */
export function memberOf(value: Buffer, key: Buffer): Buffer | null {
  return value[0] === OPEN_OBJECT ? quotedMember(value, quoted(key)) : null;
}

/** Counted from the end where the index is negative. A scalar is as good as an array of it. */
export function itemAt(value: Buffer, index: bigint): Buffer | null {
  if (value[0] === OPEN_OBJECT) return null;
  const items = value[0] === OPEN_ARRAY ? itemsOf(value) : [value];
  return items.at(Number(index)) ?? null;
}

/** What a path of keys and indexes leads to. */
export function followed(value: Buffer, path: readonly (Buffer | null)[]): Buffer | null {
  let found: Buffer | null = path.includes(null) ? null : value;
  for (const step of path) found = found && step && stepped(found, step);
  return found;
}

/** A string's content; JSON's null is SQL's. */
export function textIn(value: Buffer): Buffer | null {
  if (value[0] === LETTER_N) return null;
  if (value[0] !== QUOTE) return value;
  return value.includes(BACKSLASH)
    ? Buffer.from(JSON.parse(value.toString()) as string)
    : value.subarray(1, value.length - 1);
}

/** A key of an object, or a string in an array. */
export function hasKey(value: Buffer, key: Buffer): boolean {
  const wanted = quoted(key);
  if (value[0] === OPEN_OBJECT) return quotedMember(value, wanted) !== null;
  return (value[0] === OPEN_ARRAY ? itemsOf(value) : [value]).some((item) => item.equals(wanted));
}

/** Numbers are equal by their value, everything else by its text. */
export function equalJsonb(a: Buffer, b: Buffer): boolean {
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    const [aEnd, bEnd] = [tokenEnd(a, i), tokenEnd(b, j)];
    const [aLast, bLast] = isInNumber(a[i]!) ? [numberEnd(a, i, aEnd), numberEnd(b, j, bEnd)] : [aEnd, bEnd];
    if (!equalBytes(a, i, aLast, b.subarray(j, bLast))) return false;
    [i, j] = [aEnd, bEnd];
  }
  return i === a.length && j === b.length;
}

/** The shortest text that is equal. */
export function withoutLastZeros(value: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < value.length;) {
    const end = tokenEnd(value, at);
    parts.push(value.subarray(at, isInNumber(value[at]!) ? numberEnd(value, at, end) : end));
    at = end;
  }
  return Buffer.concat(parts);
}

/** An array contains a scalar that is one of its items, but only at the top. */
export function containsJsonb(whole: Buffer, part: Buffer): boolean {
  if (isScalar(whole)) return isScalar(part) && equalJsonb(whole, part);
  if (isScalar(part)) return whole[0] === OPEN_ARRAY && itemsOf(whole).some((item) => equalJsonb(item, part));
  return containsDeep(whole, part, 0);
}

/** Postgres' own limit is as deep as its stack, and ours is not deeper. */
const depthMax = 1000;

function containsDeep(whole: Buffer, part: Buffer, depth: number): boolean {
  if (depth > depthMax) throw new EvaluationFailed("stack depth limit exceeded");
  if (isScalar(part)) return equalJsonb(whole, part);
  if (whole[0] !== part[0]) return false;
  if (part[0] === OPEN_OBJECT)
    return everyMember(part, (key, value) => {
      const found = quotedMember(whole, key);
      return found !== null && containsDeep(found, value, depth + 1);
    });
  const items = itemsOf(whole);
  return itemsOf(part).every((wanted) => items.some((item) => containsDeep(item, wanted, depth + 1)));
}

// ── Parts of a text ──────────────────────────────────────────────────────────────────────────────────────────────────

function stepped(value: Buffer, step: Buffer): Buffer | null {
  if (value[0] === OPEN_OBJECT) return memberOf(value, step);
  const text = step.toString("latin1");
  if (value[0] !== OPEN_ARRAY || !/^[ \t\n\v\f\r]*[+-]?\d+$/.test(text)) return null;
  return itemsOf(value).at(Number(text)) ?? null;
}

function quotedMember(object: Buffer, key: Buffer): Buffer | null {
  let found: Buffer | null = null;
  everyMember(object, (name, value) => {
    if (name.equals(key)) found = value;
    return found === null;
  });
  return found;
}

/** Ends at the first one for which the answer is no. */
function everyMember(object: Buffer, holds: (key: Buffer, value: Buffer) => boolean): boolean {
  // After a key stands ": ", after a value ", ".
  for (let at = 1; object[at] === QUOTE;) {
    const keyEnd = stringEnd(object, at);
    const end = valueEnd(object, keyEnd + 2);
    if (!holds(object.subarray(at, keyEnd), object.subarray(keyEnd + 2, end))) return false;
    at = end + 2;
  }
  return true;
}

function itemsOf(array: Buffer): readonly Buffer[] {
  const items: Buffer[] = [];
  for (let at = 1; at < array.length - 1;) {
    const end = valueEnd(array, at);
    items.push(array.subarray(at, end));
    at = end + 2;
  }
  return items;
}

/** The first byte after the string, the number or the character that begins here. */
function tokenEnd(text: Buffer, start: number): number {
  if (text[start] === QUOTE) return stringEnd(text, start);
  return isInNumber(text[start]!) ? scalarEnd(text, start) : start + 1;
}

/** The first byte after the value that begins here. */
function valueEnd(text: Buffer, start: number): number {
  if (text[start] === QUOTE) return stringEnd(text, start);
  const isNested = text[start] === OPEN_OBJECT || text[start] === OPEN_ARRAY;
  return isNested ? nestedEnd(text, start) : scalarEnd(text, start);
}

function nestedEnd(text: Buffer, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    const byte = text[at];
    if (byte === QUOTE) at = stringEnd(text, at) - 1;
    else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth++;
    else if ((byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) && --depth === 0) return at + 1;
  }
  return text.length;
}

function scalarEnd(text: Buffer, start: number): number {
  let at = start;
  while (at < text.length && text[at] !== COMMA && text[at] !== CLOSE_OBJECT && text[at] !== CLOSE_ARRAY) at++;
  return at;
}

function stringEnd(text: Buffer, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== QUOTE) at += text[at] === BACKSLASH ? 2 : 1;
  return at + 1;
}

function isScalar(value: Buffer): boolean {
  return value[0] !== OPEN_OBJECT && value[0] !== OPEN_ARRAY;
}

function isInNumber(byte: number): boolean {
  return byte === MINUS || (byte >= ZERO && byte <= NINE);
}

/** As a string stands in JSON. */
function quoted(text: Buffer): Buffer {
  return Buffer.from(JSON.stringify(text.toString()));
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const LETTER_N = 0x6e;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
