import assert from "node:assert/strict";
import { before, test } from "node:test";
import fc from "fast-check";
import { loadModule, scanSync, type ScanToken } from "libpg-query";
import { Tokens } from "../../engine/shapes/where/tokens.ts";
import { thorough } from "../support/thorough.ts";

before(() => loadModule());

interface Token {
  readonly start: number;
  readonly end: number;
  readonly isWord: boolean;
}

function ours(text: string): readonly Token[] {
  const tokens = new Tokens(text);
  const found: Token[] = [];
  while (tokens.next()) found.push({ start: tokens.start, end: tokens.end, isWord: tokens.kind === "word" });
  return found;
}

/** Postgres' own, comments left out; undefined where the scanner refuses the text: the parser does then, too. */
function scanned(text: string): readonly Token[] | undefined {
  const bytes = Buffer.from(text);
  const offset = (byte: number): number => bytes.toString("utf8", 0, byte).length;
  return scan(text)
    ?.filter(({ tokenName }) => tokenName !== "SQL_COMMENT" && tokenName !== "C_COMMENT")
    .map(({ start, end, keywordKind, tokenName }) => {
      const isQuoted = text[offset(end) - 1] === '"';
      return {
        start: offset(start),
        end: offset(end),
        isWord: keywordKind !== 0 || (tokenName === "IDENT" && !isQuoted),
      };
    });
}

function scan(text: string): readonly ScanToken[] | undefined {
  try {
    return scanSync(text).tokens;
  } catch {
    return undefined;
  }
}

const pieces = [
  ...Array.from("'\"$\\/*-+.,;:()[]{}?=<>!~@#%^&|`_ \t\n\r\v\f"),
  ...Array.from("abeEnNuUxXoO0123789"),
  ...Array.from("äß€😀\u00a0ſ"),
  ...["''", '""', "--", "/*", "*/", "$$", "$a$", "$b$", "$1", "$23", "::", "..", ":=", "=>", "<>", "->>", "@>"],
  ...["U&'", 'u&"', "E'", "b'", "X'", "n'", "\\'", "\\u0041", "\\x41", "' \n '", "' -- c\n '", '"a"', "'b'"],
  ...["0x", "0b1", "1_000", "1.5", ".5", "1e5", "1e-3", "and", "OR", "not", "select", "uescape"],
];

test("every text is cut into tokens where Postgres' scanner cuts it", () => {
  let accepted = 0;
  const soup = fc.array(fc.constantFrom(...pieces), { maxLength: 14 }).map((parts) => parts.join(""));
  const check = (text: string): void => {
    const expected = scanned(text);
    if (!expected) return;
    accepted++;
    assert.deepEqual(ours(text), expected);
  };
  fc.assert(fc.property(soup, check), { numRuns: thorough(20_000, 5_000) });
  assert(accepted > thorough(5_000, 1_250), `${accepted} of them could be cut`);
});

test("what no token ends is read once, however long", () => {
  for (const open of ["'", "e'\\", '"', "/*", "$a$", "$a", "'a'\n", "--", "+", "1_", "\\"])
    assert.ok(ours(open.repeat(20_000)).length <= 40_000);
});

test("words are told apart from what only looks like them", () => {
  const isAnd = (text: string): boolean => {
    const tokens = new Tokens(text);
    return tokens.next() && tokens.isWord("AND");
  };
  assert.deepEqual(["and", "AND", "aNd ", "/* or */ and"].map(isAnd), [true, true, true, true]);
  assert.deepEqual(['"and"', "'and'", "ands", "an", "\u0001ND"].map(isAnd), [false, false, false, false, false]);
});
