import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { applyPatch, differenceOf, patchOf } from "../../client-sdk/remote/patch.ts";

type Row = { readonly id: number; readonly version: number };

/** Rows before and now; those with one id and one version are the same object in both, as in a live query. */
const pair = fc
  .tuple(fc.uniqueArray(fc.nat(12)), fc.uniqueArray(fc.nat(12)), fc.uniqueArray(fc.nat(12)))
  .map(([before, now, updated]) => {
    const rows = Array.from({ length: 13 }, (_, id): Row => ({ id, version: 0 }));
    const newer = rows.map((row) => (updated.includes(row.id) ? { ...row, version: 1 } : row));
    return { before: before.map((id) => rows[id]!), now: now.map((id) => newer[id]!) };
  });

function changesOf({ before, now }: { before: readonly Row[]; now: readonly Row[] }) {
  const was = new Map(before.map((row) => [row.id, row]));
  const is = new Set(now.map(({ id }) => id));
  return {
    inserted: now.filter(({ id }) => !was.has(id)),
    updated: now.filter((row) => was.has(row.id) && was.get(row.id) !== row),
    deleted: before.filter(({ id }) => !is.has(id)),
  };
}

test("a patch makes the rows and the changes that it was made from, and moves no row that stays", () => {
  fc.assert(
    fc.property(pair, ({ before, now }) => {
      const changes = changesOf({ before, now });
      const patch = patchOf(before, now, changes);
      const applied = applyPatch(before, patch);
      assert.deepEqual(applied, { rows: now, changes });
      applied.rows.forEach((row, i) => assert.ok(row === now[i]));

      const sent = applyPatch(before, structuredClone(patch));
      const stayed = new Set(now.filter((row) => before.includes(row)));
      assert.deepEqual(sent.rows, now);
      sent.rows.forEach((row, i) => assert.equal(row === now[i], stayed.has(now[i]!)));
    }),
  );
});

test("what differs between two hosts is found by value, and equal rows stay the objects they were", () => {
  fc.assert(
    fc.property(pair, ({ before, now }) => {
      const difference = differenceOf(before, structuredClone(now));
      if (!difference) return assert.deepEqual(now, before);
      assert.deepEqual(difference.rows, now);
      now.forEach((row, i) => assert.equal(difference.rows[i] === row, before.includes(row)));
      const { inserted, deleted } = difference.changes;
      assert.deepEqual(
        inserted,
        now.filter((row) => !before.includes(row)),
      );
      assert.deepEqual(new Set(deleted), new Set(before.filter((row) => !now.includes(row))));
    }),
  );
});
