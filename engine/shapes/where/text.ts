/**
 * Functions over text as UTF-8, with Postgres' results and errors. A character is a code point; case is that of ASCII, as
 * in the collation "C": what other letters become depends on the library and the version that Postgres was built with.
 * https://www.postgresql.org/docs/current/functions-matching.html#FUNCTIONS-LIKE
 */
import { EvaluationFailed } from "./numeric.ts";

export function concatenated(a: Buffer, b: Buffer): Buffer {
  return Buffer.concat([a, b]);
}

export function charactersIn(text: Buffer): number {
  let count = 0;
  for (const byte of text) if (!isContinuation(byte)) count++;
  return count;
}

export function lower(text: Buffer): Buffer {
  return mapped(text, (byte) => (byte >= UPPER_A && byte <= UPPER_Z ? byte + caseDistance : byte));
}

export function upper(text: Buffer): Buffer {
  return mapped(text, (byte) => (byte >= LOWER_A && byte <= LOWER_Z ? byte - caseDistance : byte));
}

export function startsWith(text: Buffer, start: Buffer): boolean {
  return text.length >= start.length && start.compare(text, 0, start.length) === 0;
}

// ── LIKE ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * % stands for any characters, _ for one, and a backslash for nothing but that the next one stands for itself. Where there
 * is no next one that is an error, but only if the text leads there.
 */
export function isLike(text: Buffer, pattern: Buffer): boolean {
  let [at, place] = [0, 0];
  // Only the last % has to be tried at more places: what is before it was found as far to the left as it can be.
  let [triedAt, afterAny] = [0, -1];
  while (at < text.length) {
    if (pattern[place] === PERCENT) {
      for (place++; pattern[place] === PERCENT || pattern[place] === UNDERSCORE; place++) {
        if (pattern[place] === PERCENT) continue;
        if (at === text.length) return false;
        at = nextCharacter(text, at);
      }
      if (place === pattern.length) return true;
      literalAt(pattern, place);
      [triedAt, afterAny] = [at, place];
    } else if (pattern[place] === UNDERSCORE) {
      at = nextCharacter(text, at);
      place++;
    } else {
      const literal = place < pattern.length ? literalAt(pattern, place) : -1;
      if (literal >= 0 && pattern[literal] === text[at]) {
        at++;
        place = literal + 1;
      } else {
        if (afterAny < 0) return false;
        at = triedAt = nextCharacter(text, triedAt);
        place = afterAny;
      }
    }
  }
  while (pattern[place] === PERCENT) place++;
  return place === pattern.length;
}

/** What a text that is like the pattern begins with, and whether that is all that the pattern asks. It must not end in an escape. */
export function literalStart(pattern: Buffer): { text: Buffer; isAll: boolean } {
  const bytes: number[] = [];
  let at = 0;
  for (; at < pattern.length && pattern[at] !== PERCENT && pattern[at] !== UNDERSCORE; at++) {
    if (pattern[at] === BACKSLASH) at++;
    bytes.push(pattern[at]!);
  }
  const rest = pattern.subarray(at);
  return { text: Buffer.from(bytes), isAll: rest.length > 0 && rest.every((byte) => byte === PERCENT) };
}

/** Whether a pattern ends with a backslash that has nothing to stand before. */
export function endsInEscape(pattern: Buffer): boolean {
  let first = pattern.length;
  while (pattern[first - 1] === BACKSLASH) first--;
  return (pattern.length - first) % 2 === 1;
}

/** LIKE … ESCAPE: the same pattern with backslashes. Without an escape character, nothing has another meaning than % and _. */
export function withEscape(pattern: Buffer, escape: Buffer): Buffer {
  if (charactersIn(escape) > 1) throw new EvaluationFailed("invalid escape string");
  if (escape[0] === BACKSLASH) return pattern;
  const bytes: number[] = [];
  let isEscaped = false;
  for (let at = 0; at < pattern.length;) {
    const next = nextCharacter(pattern, at);
    if (escape.length > 0 && !isEscaped && pattern.subarray(at, next).equals(escape)) {
      bytes.push(BACKSLASH);
      isEscaped = true;
    } else {
      if (pattern[at] === BACKSLASH && !isEscaped) bytes.push(BACKSLASH);
      bytes.push(...pattern.subarray(at, next));
      isEscaped = false;
    }
    at = next;
  }
  return Buffer.from(bytes);
}

function literalAt(pattern: Buffer, place: number): number {
  if (pattern[place] !== BACKSLASH) return place;
  if (place + 1 === pattern.length) throw new EvaluationFailed("LIKE pattern must not end with escape character");
  return place + 1;
}

function nextCharacter(text: Buffer, at: number): number {
  let next = at + 1;
  while (next < text.length && isContinuation(text[next]!)) next++;
  return next;
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

function mapped(text: Buffer, change: (byte: number) => number): Buffer {
  const result = Buffer.from(text);
  for (let i = 0; i < result.length; i++) result[i] = change(result[i]!);
  return result;
}

const PERCENT = 0x25;
const UNDERSCORE = 0x5f;
const BACKSLASH = 0x5c;
const UPPER_A = 0x41;
const UPPER_Z = 0x5a;
const LOWER_A = 0x61;
const LOWER_Z = 0x7a;
const caseDistance = LOWER_A - UPPER_A;
