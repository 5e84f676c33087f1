import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import type { Row } from "../../client-sdk/row.ts";
import { type RawResult, rowDecoder } from "../../client-sdk/rows.ts";
import { compare, nothingShown, type Shown } from "../../client-sdk/delta.ts";

const columns = ["id", "value"].map((name, i) => ({ name, typeOid: 25, tableOid: 1, attribute: i + 1 }));
const decode = rowDecoder(columns, new Map());

function result(rows: readonly (readonly [string, string | null])[]): RawResult {
  return { bytes: Buffer.concat(rows.map(dataRow)), statement: { name: "", sql: "", parameterTypes: [], columns } };
}

function dataRow(values: readonly (string | null)[]): Buffer {
  const fields = values.flatMap((value) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(value === null ? -1 : Buffer.byteLength(value));
    return [length, Buffer.from(value ?? "")];
  });
  const body = Buffer.concat([Buffer.of(0, values.length), ...fields]);
  const head = Buffer.alloc(5, "D");
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

function shown(rows: readonly (readonly [string, string | null])[]): Shown {
  return compare(nothingShown(), result(rows), decode, [0])?.shown ?? nothingShown();
}

test("equal results are no difference, and rows that stay are the same objects", () => {
  const before = shown([
    ["1", "a"],
    ["2", "b"],
    ["3", null],
  ]);
  assert.equal(
    compare(
      before,
      result([
        ["1", "a"],
        ["2", "b"],
        ["3", null],
      ]),
      decode,
      [0],
    ),
    undefined,
  );
  const after = compare(
    before,
    result([
      ["3", null],
      ["1", "a"],
      ["2", "c"],
    ]),
    decode,
    [0],
  )!;
  assert.equal(after.shown.rows[0], before.rows[2]);
  assert.equal(after.shown.rows[1], before.rows[0]);
  assert.deepEqual(after.changes, { inserted: [], updated: [{ id: "2", value: "c" }], deleted: [] });
});

test("without a key, a changed row is one that left and one that came", () => {
  const after = compare(shown([["1", "a"]]), result([["1", "b"]]), decode, undefined)!;
  assert.deepEqual(after.changes, {
    inserted: [{ id: "1", value: "b" }],
    updated: [],
    deleted: [{ id: "1", value: "a" }],
  });
});

test("a key that is not unique in a result loses no row", () => {
  const after = compare(
    shown([
      ["1", "a"],
      ["1", "a"],
    ]),
    result([
      ["1", "a"],
      ["1", "b"],
      ["1", "a"],
    ]),
    decode,
    [0],
  )!;
  assert.deepEqual(
    after.shown.rows.map(({ value }) => value),
    ["a", "b", "a"],
  );
});

const row = fc.tuple(fc.nat(6).map(String), fc.option(fc.constantFrom("a", "b", "é"), { freq: 3 }));
const rows = fc.array(row, { maxLength: 12 });

for (const keyColumns of [[0], undefined]) {
  test(`what was shown and the difference give what is shown, ${keyColumns ? "by key" : "by whole rows"}`, () => {
    fc.assert(
      fc.property(rows, rows, (one, other) => {
        const before = shown(one);
        const after = compare(before, result(other), decode, keyColumns);
        const now = after?.shown ?? before;
        assert.deepEqual(
          now.rows.map((found) => [found.id, found.value]),
          other,
        );
        const { inserted, updated, deleted } = after?.changes ?? { inserted: [], updated: [], deleted: [] };
        assert.equal(before.rows.length - deleted.length + inserted.length, now.rows.length);
        const kept = new Set<Row>(before.rows);
        for (const gone of deleted) assert.ok(kept.delete(gone), "only what was shown can go");
        for (const fresh of [...inserted, ...updated]) assert.ok(!kept.has(fresh) && now.rows.includes(fresh));
      }),
    );
  });
}
