import assert from "node:assert/strict";
import { test } from "node:test";
import { WalcastError } from "../../engine/errors.ts";
import { parseTableName, qualifiedName, quoteIdentifier, quoteLiteral } from "../../engine/shapes/name.ts";

const accepted: [text: string, schema: string, name: string][] = [
  ["orders", "public", "orders"],
  ["Orders", "public", "orders"],
  ["sales.orders", "sales", "orders"],
  ["SALES.Order_Items$2", "sales", "order_items$2"],
  ['"Orders"', "public", "Orders"],
  ['"My Schema"."Ta""ble"', "My Schema", 'Ta"ble'],
  ['"a.b".c', "a.b", "c"],
  ['sales."select"', "sales", "select"],
  ["ÄRGER", "public", "Ärger"],
  ["İzmir", "public", "İzmir"],
  ['"😀"', "public", "😀"],
  ["😀", "public", "😀"],
  ["__proto__", "public", "__proto__"],
  ["constructor.__proto__", "constructor", "__proto__"],
  ['"\n"', "public", "\n"],
  [`"${"ä".repeat(31)}"`, "public", "ä".repeat(31)],
];

for (const [text, schema, name] of accepted) {
  test(`the table name ${JSON.stringify(text)} is read as SQL reads it`, () => {
    assert.deepEqual(parseTableName(text), { schema, name });
  });
}

const refused = [
  "",
  " ",
  "orders ",
  "a b",
  ".orders",
  "orders.",
  "a.b.c",
  "1orders",
  "$orders",
  '"',
  '""',
  '"a"b',
  '"a""',
  '"a"".b',
  "a-b",
  "orders;drop table orders",
  "orders--",
  "orders\n",
  'U&"x"',
  '"a\0b"',
  '"\ud800"',
  "\ud800",
  "a".repeat(64),
  `"${"ä".repeat(32)}"`,
];

for (const text of refused) {
  test(`the table name ${JSON.stringify(text.slice(0, 30))} is refused`, () => {
    assert.throws(
      () => parseTableName(text),
      (error) => error instanceof WalcastError && error.code === "unknown_table",
    );
  });
}

test("a quoted name is read back as the same name", () => {
  for (const [, schema, name] of accepted)
    assert.deepEqual(parseTableName(qualifiedName(schema, name)), { schema, name });
});

test("a very long name is refused quickly and not repeated in the error", () => {
  assert.throws(() => parseTableName(`"${'""'.repeat(100_000)}x`), { code: "unknown_table" });
  assert.throws(
    () => parseTableName("a".repeat(1_000_000)),
    (error: Error) => error.message.length < 500,
  );
});

test("an identifier's double quotes are doubled", () => {
  assert.equal(quoteIdentifier('Ta"ble'), '"Ta""ble"');
});

test("a literal keeps its meaning whatever standard_conforming_strings says", () => {
  assert.equal(quoteLiteral("it's"), "'it''s'");
  assert.equal(quoteLiteral("\\'; DROP TABLE t; --"), "E'\\\\''; DROP TABLE t; --'");
});

test("a zero byte in a literal or identifier is our own bug", () => {
  assert.throws(() => quoteLiteral("a\0b"), assert.AssertionError);
  assert.throws(() => quoteIdentifier(""), assert.AssertionError);
});
