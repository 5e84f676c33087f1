/**
 * Constants against the real Postgres: texts put together from the pieces that matter to each type. What we accept,
 * Postgres accepts and prints in the same bytes; what it refuses, we never accept. (We may refuse more.)
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { WalcastError } from "../../engine/errors.ts";
import { canonicalText, sqlTypeNamed } from "../../engine/shapes/where/type.ts";
import { testDatabase } from "../support/postgres.ts";
import { Random } from "./generate.ts";

const moments = [
  "2024-02-29",
  "1900-02-29",
  "2000-12-31",
  "0001-01-01",
  "0000-01-01",
  "10000-01-01",
  "4714-11-24",
  "4714-11-23",
  "294276-12-31",
  "294277-01-01",
  "5874897-12-31",
  "5874898-01-01",
  " ",
  "T",
  "00:00",
  "23:59:59.999999",
  "24:00:00",
  "24:00:01",
  "12:30:60",
  "12:30:45.5",
  "Z",
  "+05",
  "-05:30",
  "+15:59",
  "+16",
  "-0800",
  "+01:02:03",
  " BC",
  "infinity",
  "-infinity",
];

const pieces: Readonly<Record<string, readonly string[]>> = {
  numeric: ["1", "0", "9", ".", "-", "+", "e", "E", "_", "0x", "f", " ", "NaN", "inf", "Infinity", "00", "5", "\t"],
  int2: ["1", "0", "32767", "32768", "-", " ", "_"],
  int4: ["1", "0", "9", "-", "+", "_", "0x", "0b", "0o", "7", "f", " ", "2147483647", "."],
  int8: ["9223372036854775807", "9223372036854775808", "-", "0", "_", "1", " "],
  bool: ["t", "r", "u", "e", "true", "f", "false", "on", "of", "yes", "n", "1", "0", " ", "T"],
  uuid: ["a0eebc99", "9c0b", "4ef8", "bb6d6bb9bd380a11", "-", "{", "}", "A0EE", "bc99", "a0eebc99-9c0b-4ef8"],
  date: moments,
  timestamp: moments,
  timestamptz: moments,
  jsonb: [
    ...[
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      " ",
      "\n",
      "\u00a0",
      '"',
      "\\",
      "[1,",
      "{}",
      '{"b":',
      ',"aa":',
      ',"a":',
      '{"":[]}',
    ],
    ...[
      '"a"',
      '"\\u0041"',
      '"\\ud83d\\ude00"',
      '"\\ud83d"',
      '"\\u0000"',
      '"\\n\\/\\u001F"',
      '"\u007f\u2028"',
      '"\n"',
      '"\\x"',
    ],
    ...["1", "-0", "-0.0", "1.50", "1e3", "12E-2", "01", ".5", "1.", "null", "true", "True", "NaN"],
  ],
  "text[]": [
    ...["{", "}", "{a,", ",b}", ",", "a", " ", "\t", "\v", "\u00a0", '"', "\\", "\\}", '"b c"', '""', '"\\\\\\""'],
    ...[
      "NULL",
      "null",
      '"NULL"',
      "nULL",
      "[0:1]=",
      "[1:2]",
      "[-1:-1]=",
      "[2147483646:2147483646]={a}",
      "{}",
      "{a}",
      "{{a},{b}}",
    ],
  ],
  "int4[]": [
    "{",
    "}",
    ",",
    "1",
    " 2 ",
    "-3",
    "0x1F",
    "1_0",
    '"4"',
    "NULL",
    "2147483648",
    "[5:6]=",
    "{1,2}",
    "{{1},{2}}",
    "{{1},{2,3}}",
  ],
};

// Postgres' answer to a text that it refuses is NULL.
const printed = `
  create function printed(value text, type text) returns text language plpgsql set timezone = 'UTC' set datestyle = 'ISO' as $$
  declare result text;
  begin
    execute format('select %L::%s::text', value, type) into result;
    return result;
  exception when others then
    return null;
  end $$`;

for (const [type, parts] of Object.entries(pieces)) {
  test(`a constant of type ${type} is read as Postgres reads it`, async () => {
    const database = await testDatabase();
    await database.query(printed);
    const random = new Random(7);
    const texts = Array.from({ length: 4000 }, () => random.some(parts, 6).join(""));
    const { rows } = await database.query(
      "select printed(value, $2) as text from unnest($1::text[]) with ordinality as given(value, at) order by at",
      [texts, type],
    );
    const accepted = texts.filter((text, i) => agrees(text, type, (rows[i] as { text: string | null }).text));
    assert(accepted.length > 50, `only ${accepted.length} texts were accepted`);
  });
}

/** Whether we accept the text; then Postgres prints what we made of it. */
function agrees(text: string, type: string, theirs: string | null): boolean {
  const ours = canonical(text, type);
  if (ours !== undefined) assert.equal(ours, theirs && withoutScale(theirs, type), JSON.stringify(text));
  return ours !== undefined;
}

function canonical(text: string, type: string): string | undefined {
  try {
    return canonicalText(text, sqlTypeNamed(type)!);
  } catch (error) {
    assert(error instanceof WalcastError && error.code === "where_unsupported");
    return undefined;
  }
}

/** A boolean cast to text says true, where its output is t; a numeric's last zeros are no part of its value. */
function withoutScale(text: string, type: string): string {
  if (type === "bool") return text.slice(0, 1);
  return type === "numeric" && text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
