import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { PGlite } from "@electric-sql/pglite";
import fc from "fast-check";

import { claim } from "../../client-sdk/claim.ts";
import { Database } from "../../client-sdk/database.ts";
import { encodeTextArray } from "../../client-sdk/values.ts";
import { emptyReplica } from "../support/replica.ts";

let pglite: PGlite;
let database: Database;

before(async () => {
  pglite = await emptyReplica();
  database = new Database(claim(pglite));
  await database.open();
});
after(() => pglite.close());

function one(sql: string, params: readonly unknown[] = []): unknown {
  return Object.values(database.rows(`SELECT ${sql}`, params)[0]!)[0];
}

const decoded: readonly (readonly [sql: string, value: unknown])[] = [
  ["NULL::int", null],
  ["1::int2", 1],
  ["(-2147483648)::int4", -2147483648],
  ["2147483647::int4", 2147483647],
  ["(-7)::int4", -7],
  ["9007199254740991::int8", 9007199254740991],
  ["9007199254740992::int8", 9007199254740992n],
  ["'-9223372036854775808'::int8", -9223372036854775808n],
  ["1.10::numeric", "1.10"],
  ["'NaN'::float8", NaN],
  ["'-0'::float8", -0],
  ["0.1::float4", 0.1],
  ["true", true],
  ["'false'::bool", false],
  ["''::text", ""],
  ["'größe 😀 and more than twenty-four bytes'::text", "größe 😀 and more than twenty-four bytes"],
  [`'{"a": [1, null]}'::jsonb`, { a: [1, null] }],
  ["'null'::json", null],
  ["'\\x00ff'::bytea", Uint8Array.of(0, 255)],
  ["''::bytea", new Uint8Array(0)],
  ["'2026-01-02'::date", new Date("2026-01-02T00:00:00Z")],
  ["'2026-01-02 03:04:05.678901+00'::timestamptz", new Date("2026-01-02T03:04:05.678Z")],
  ["'2026-01-02 03:04:05.6'::timestamp", new Date(2026, 0, 2, 3, 4, 5, 600)],
  ["'0044-03-15 BC'::date", new Date("-000043-03-15T00:00:00Z")],
  ["'0099-01-01'::date", new Date("0099-01-01T00:00:00Z")],
  ["'infinity'::timestamptz", Infinity],
  ["'-infinity'::date", -Infinity],
  ["'{1,2,NULL}'::int[]", [1, 2, null]],
  ["'{}'::int[]", []],
  ["'[-2:0]={1,2,3}'::int[]", [1, 2, 3]],
  [
    "'{{1,2},{3,4}}'::int8[]",
    [
      [1, 2],
      [3, 4],
    ],
  ],
  [`'{NULL,"NULL","a,b","\\"","\\\\","{}",""}'::text[]`, [null, "NULL", "a,b", '"', "\\", "{}", ""]],
  ["'{t,f}'::bool[]", [true, false]],
  ["'{(1,1),(0,0);(2,2),(0,0)}'::box[]", ["(1,1),(0,0)", "(2,2),(0,0)"]],
  ["'[1,5)'::int4range", "[1,5)"],
];

for (const [sql, value] of decoded) {
  test(`${sql} is read as ${typeof value === "bigint" ? `${value}n` : JSON.stringify(value)}`, () =>
    assert.deepEqual(one(sql), value));
}

const encoded: readonly (readonly [sql: string, param: unknown, text: string | null])[] = [
  ["$1::int", 7, "7"],
  ["$1::int8", 9007199254740993n, "9007199254740993"],
  ["$1::bool", true, "true"],
  ["$1::text", undefined, null],
  ["$1::timestamptz", new Date("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04:05.678+00"],
  ["$1::jsonb", { a: [1] }, '{"a": [1]}'],
  ["$1::jsonb", [1, "x"], '[1, "x"]'],
  ["$1::bytea", Uint8Array.of(0, 255), "\\x00ff"],
  ["$1::int[]", [1, null, 3], "{1,NULL,3}"],
  ["$1::text[]", ["a,b", 'c"d\\', null, "", "NULL"], '{"a,b","c\\"d\\\\",NULL,"","NULL"}'],
  [
    "$1::int[]",
    [
      [1, 2],
      [3, 4],
    ],
    "{{1,2},{3,4}}",
  ],
  ["$1::jsonb[]", [{ a: 1 }], '{"{\\"a\\": 1}"}'],
];

for (const [sql, param, text] of encoded) {
  test(`${typeof param === "bigint" ? `${param}n` : JSON.stringify(param)} is passed as ${sql}`, () =>
    assert.equal(one(`(${sql})::text`, [param]), text));
}

test("any texts survive as one text[]", () => {
  const anyText = fc.string({ unit: "grapheme" }).map((text) => text.replaceAll("\0", ""));
  fc.assert(
    fc.property(fc.array(fc.option(anyText)), (texts) => {
      assert.deepEqual(one("$1::text[]", [encodeTextArray(texts)]), texts);
    }),
    { numRuns: 100 },
  );
});

test("the wrong number of parameters is refused before Postgres is asked", () => {
  assert.throws(() => database.rows("SELECT $1::int", []), {
    code: "query_failed",
    message: /expected 1 parameters, found 0/,
  });
});
