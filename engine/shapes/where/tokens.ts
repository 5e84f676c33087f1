/**
 * Cuts the text of a condition into tokens where Postgres' scanner does, in one pass over it and without allocating anything. What
 * they mean is the parser's to say, also of a text that cannot be cut: here it just ends.
 * https://www.postgresql.org/docs/current/sql-syntax-lexical.html
 */
import assert from "node:assert/strict";

export type TokenKind = "word" | "quoted" | "string" | "number" | "parameter" | "operator" | "end";

/** Stands on one token. Positions are in UTF-16 code units. */
export class Tokens {
  kind: TokenKind = "end";
  start = 0;
  end = 0;
  private readonly text: string;
  /** Of the signs that were looked through last: the end, the end of what is neither + nor -, and of what lets an operator end in them. */
  private signsEnd = 0;
  private plainEnd = 0;
  private spelledEnd = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** False at the end, and where the scanner refuses the text. */
  next(): boolean {
    this.start = afterSpace(this.text, this.end);
    this.end = this.start < this.text.length ? this.read(this.start) : -1;
    if (this.end >= 0) return true;
    this.kind = "end";
    this.start = this.end = this.text.length;
    return false;
  }

  /** Whether it is this one character. */
  isSign(code: number): boolean {
    return this.kind === "operator" && this.end - this.start === 1 && this.text.charCodeAt(this.start) === code;
  }

  /** Whether it is this word, written in capitals, in any case and without quotes. */
  isWord(word: string): boolean {
    if (this.kind !== "word" || this.end - this.start !== word.length) return false;
    for (let i = 0; i < word.length; i++)
      if ((this.text.charCodeAt(this.start + i) & ~LOWER) !== word.charCodeAt(i)) return false;
    return true;
  }

  /** The token's end, -1 where it has none. */
  private read(at: number): number {
    const { text } = this;
    const code = text.charCodeAt(at);
    const next = text.charCodeAt(at + 1);
    if (code === QUOTE) return this.is("string", afterString(text, at + 1, true, false));
    if (code === DOUBLE_QUOTE) return this.is("quoted", afterName(text, at + 1));
    if (isWordStart(code)) return this.readWord(at, code, next);
    if (isDigit(code) || (code === POINT && isDigit(next))) return this.is("number", afterNumber(text, at));
    if (code === DOLLAR) return this.readDollar(at, next);
    return this.is("operator", isOperator(code) ? this.afterOperator(at) : afterSign(at, code, next));
  }

  /** Ends where a comment begins, and, so that `=-1` is two, not in + or -, unless it has a sign that SQL itself does not use. */
  private afterOperator(start: number): number {
    if (start >= this.signsEnd) this.lookThroughSigns(start);
    return start < this.spelledEnd ? this.signsEnd : Math.max(start + 1, this.plainEnd);
  }

  /** Once, however many operators they are. */
  private lookThroughSigns(start: number): void {
    const { text } = this;
    let end = start;
    for (; isOperator(text.charCodeAt(end)) && !isComment(text, end); end++) {
      const code = text.charCodeAt(end);
      if (!isPlusOrMinus(code)) this.plainEnd = end + 1;
      if (has(code, spelled)) this.spelledEnd = end + 1;
    }
    this.signsEnd = end;
  }

  private is(kind: TokenKind, end: number): number {
    assert(end < 0 || end > this.start, "every token takes us further");
    this.kind = kind;
    return end;
  }

  /** Some letters say what kind of string follows. An N is a word of its own. */
  private readWord(at: number, code: number, next: number): number {
    const letter = code & ~LOWER;
    if (next === QUOTE && letter === E) return this.is("string", afterString(this.text, at + 2, true, true));
    if (next === QUOTE && (letter === B || letter === X))
      return this.is("string", afterString(this.text, at + 2, false, false));
    if (letter === U && next === AMPERSAND) {
      const quote = this.text.charCodeAt(at + 2);
      if (quote === QUOTE) return this.is("string", afterString(this.text, at + 3, true, false));
      if (quote === DOUBLE_QUOTE) return this.is("quoted", afterName(this.text, at + 3));
    }
    return this.is("word", afterAll(this.text, at, isWordPart));
  }

  /** A parameter, a string between tags, or just this sign. */
  private readDollar(at: number, next: number): number {
    if (isDigit(next)) return this.is("parameter", afterAll(this.text, at + 1, isDigit));
    const tag = isWordStart(next) ? afterAll(this.text, at + 1, isTagPart) : at + 1;
    if (this.text.charCodeAt(tag) !== DOLLAR) return this.is("operator", at + 1);
    const close = this.text.indexOf(this.text.slice(at, tag + 1), tag + 1);
    return this.is("string", close < 0 ? -1 : close + tag + 1 - at);
  }
}

const LOWER = 0x20;
const [TAB, NEWLINE, RETURN, SPACE, DOUBLE_QUOTE] = [0x09, 0x0a, 0x0d, 0x20, 0x22];
const [DOLLAR, AMPERSAND, QUOTE, STAR, PLUS, MINUS, POINT, SLASH] = [0x24, 0x26, 0x27, 0x2a, 0x2b, 0x2d, 0x2e, 0x2f];
const [COLON, EQUALS, BACKSLASH, UNDERSCORE] = [0x3a, 0x3d, 0x5c, 0x5f];
const [B, E, O, U, X] = [0x42, 0x45, 0x4f, 0x55, 0x58];

// ── Characters: all beyond ASCII are letters ─────────────────────────────────────────────────────────────────────────

const [letter, digit, operator, spelled] = [1, 2, 4, 8];
const classes = new Uint8Array(128);
for (const char of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") classes[char.charCodeAt(0)]! |= letter;
for (const char of "0123456789") classes[char.charCodeAt(0)]! |= digit;
for (const char of "~!@#^&|`?+-*/%<>=") classes[char.charCodeAt(0)]! |= operator;
// An operator with one of these may end in + or -.
for (const char of "~!@#^&|`?%") classes[char.charCodeAt(0)]! |= spelled;

/** `code` may be NaN, behind the end. */
function has(code: number, set: number): boolean {
  return code < 128 && (classes[code]! & set) !== 0;
}

function isWordStart(code: number): boolean {
  return code >= 128 || has(code, letter);
}

function isTagPart(code: number): boolean {
  return code >= 128 || has(code, letter | digit);
}

function isWordPart(code: number): boolean {
  return isTagPart(code) || code === DOLLAR;
}

function isDigit(code: number): boolean {
  return has(code, digit);
}

function isOperator(code: number): boolean {
  return has(code, operator);
}

function isSpace(code: number): boolean {
  return code === SPACE || (code >= TAB && code <= RETURN);
}

function isNewline(code: number): boolean {
  return code === NEWLINE || code === RETURN;
}

// ── Between tokens ───────────────────────────────────────────────────────────────────────────────────────────────────

function afterSpace(text: string, start: number): number {
  let at = start;
  for (;;) {
    const code = text.charCodeAt(at);
    if (isSpace(code)) at++;
    else if (code === MINUS && text.charCodeAt(at + 1) === MINUS) at = lineEnd(text, at);
    else if (code === SLASH && text.charCodeAt(at + 1) === STAR) at = afterComment(text, at);
    else return at;
  }
}

function lineEnd(text: string, start: number): number {
  let at = start;
  while (at < text.length && !isNewline(text.charCodeAt(at))) at++;
  return at;
}

/** They nest. One that does not end takes the rest. */
function afterComment(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    const next = text.charCodeAt(at + 1);
    if (code === SLASH && next === STAR) depth++;
    else if (code === STAR && next === SLASH) depth--;
    else continue;
    at++;
    if (depth === 0) return at + 1;
  }
  return text.length;
}

// ── Each kind: the offset after it, -1 where it does not end ─────────────────────────────────────────────────────────

function afterString(text: string, start: number, doubles: boolean, escapes: boolean): number {
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (escapes && code === BACKSLASH) at++;
    if (code !== QUOTE) continue;
    if (doubles && text.charCodeAt(at + 1) === QUOTE) {
      at++;
      continue;
    }
    const more = continuation(text, at + 1);
    if (more < 0) return at + 1;
    at = more - 1;
  }
  return -1;
}

/** A string goes on after a line's end; not, other than in Postgres, behind a comment. Gives where, -1 where it does not. */
function continuation(text: string, start: number): number {
  let isNextLine = false;
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (isNewline(code)) isNextLine = true;
    else if (code === QUOTE) return isNextLine ? at + 1 : -1;
    else if (!isSpace(code)) return -1;
  }
  return -1;
}

function afterName(text: string, start: number): number {
  for (let at = start; at < text.length; at++) {
    if (text.charCodeAt(at) !== DOUBLE_QUOTE) continue;
    if (text.charCodeAt(at + 1) !== DOUBLE_QUOTE) return at === start ? -1 : at + 1;
    at++;
  }
  return -1;
}

function afterAll(text: string, start: number, isPart: (code: number) => boolean): number {
  let at = start;
  while (isPart(text.charCodeAt(at))) at++;
  return at;
}

/** Of what stands for itself. */
function afterSign(at: number, code: number, next: number): number {
  const isDouble = (code === COLON && (next === COLON || next === EQUALS)) || (code === POINT && next === POINT);
  return at + (isDouble ? 2 : 1);
}

function isComment(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  const next = text.charCodeAt(at + 1);
  return (code === MINUS && next === MINUS) || (code === SLASH && next === STAR);
}

function isPlusOrMinus(code: number): boolean {
  return code === PLUS || code === MINUS;
}

// ── Numbers: a letter or digit right behind one is an error ───────────────────────────────────────────────────────────────────

function afterNumber(text: string, start: number): number {
  const end = text.charCodeAt(start) === ZERO ? afterBased(text, start) : -1;
  const number = end < 0 ? afterDecimal(text, start) : end;
  return isTagPart(text.charCodeAt(number)) ? -1 : number;
}

const ZERO = 0x30;

/** 0x1F, 0o17, 0b11; -1 where it is none. */
function afterBased(text: string, start: number): number {
  const base = text.charCodeAt(start + 1) & ~LOWER;
  const isPart = base === X ? isHexadecimal : base === O ? isOctal : base === B ? isBinary : undefined;
  if (!isPart) return -1;
  const end = afterDigits(text, start + 2, isPart);
  return end === start + 2 ? -1 : end;
}

function afterDecimal(text: string, start: number): number {
  let at = afterDigits(text, start, isDigit);
  // In `1..2` there are two integers.
  if (text.charCodeAt(at) === POINT && text.charCodeAt(at + 1) !== POINT) at = afterFraction(text, at + 1);
  if ((text.charCodeAt(at) & ~LOWER) !== E) return at;
  const exponent = isPlusOrMinus(text.charCodeAt(at + 1)) ? at + 2 : at + 1;
  return isDigit(text.charCodeAt(exponent)) ? afterDigits(text, exponent, isDigit) : at;
}

function afterFraction(text: string, start: number): number {
  return isDigit(text.charCodeAt(start)) ? afterDigits(text, start, isDigit) : start;
}

/** With single underscores between, where a digit follows. */
function afterDigits(text: string, start: number, isPart: (code: number) => boolean): number {
  let at = start;
  for (;;) {
    if (isPart(text.charCodeAt(at))) at++;
    else if (text.charCodeAt(at) === UNDERSCORE && isPart(text.charCodeAt(at + 1))) at += 2;
    else return at;
  }
}

function isHexadecimal(code: number): boolean {
  const upper = code & ~LOWER;
  return isDigit(code) || (upper >= 0x41 && upper <= 0x46);
}

function isOctal(code: number): boolean {
  return code >= ZERO && code <= 0x37;
}

function isBinary(code: number): boolean {
  return code === ZERO || code === 0x31;
}
