/** The map from keys that grows in small steps, held against a Map. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { hashOf, KeyMap } from "../../engine/shapes/index/key-map.ts";
import type { Words } from "../../engine/shapes/index/key-table.ts";

/** Short ones lie in a slot, longer ones beside the slots. */
function keyOf(n: number): Words {
  const count = 2 + (n % 9);
  const words = Int32Array.from({ length: count }, (_, i) => (i === 0 ? count : n));
  return { words, count, hash: hashOf(words, count) };
}

/** More than one table holds, so that tables are divided, several times over. */
const keys = 20_000;

test("what was added to it is in it, and nothing else, while it grows and while keys go and come back", () => {
  const map = new KeyMap<number>();
  const expected = new Map<number, number>();
  const check = (): void => {
    assert.equal(map.size, expected.size);
    for (let n = 0; n < keys + 100; n++) assert.equal(map.get(keyOf(n)), expected.get(n), String(n));
  };
  const set = (n: number, value: number): void => {
    map.set(keyOf(n), value);
    expected.set(n, value);
  };
  const remove = (n: number): void => {
    map.delete(keyOf(n));
    expected.delete(n);
  };
  for (let n = 0; n < keys; n++) {
    set(n, n);
    if (n % 3 === 0) remove(n >> 1);
    if (n % 5000 === 0) check();
  }
  check();
  for (let n = 0; n < keys; n += 2) remove(n);
  check();
  for (let n = 0; n < keys; n++) set(n, -n);
  check();
  for (let n = 0; n < keys; n++) remove(n);
  check();
});
