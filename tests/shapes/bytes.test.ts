import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteMap } from "../../engine/shapes/where/bytes.ts";
import { Random } from "./generate.ts";

for (const seed of [1, 2, 3]) {
  test(`a map of bytes holds what a Map of their text holds, after any sets and deletes (seed ${seed})`, () => {
    const random = new Random(seed);
    const map = new ByteMap<number>();
    const model = new Map<string, number>();
    for (let step = 0; step < 20_000; step++) {
      const key = keyOf(random);
      // Growing first, then shrinking: gaps are closed in long runs of slots and in short ones.
      if (random.chance(step < 10_000 ? 70 : 20)) set(map, model, key, step);
      else remove(map, model, key);
      assert.equal(get(map, key), model.get(key));
    }
    assert.equal(map.size, model.size);
    for (const [key, value] of model) assert.equal(get(map, key), value);
  });
}

function keyOf(random: Random): string {
  return String(random.below(3000)).repeat(random.below(4));
}

function set(map: ByteMap<number>, model: Map<string, number>, key: string, value: number): void {
  map.set(Buffer.from(key), value);
  model.set(key, value);
}

function remove(map: ByteMap<number>, model: Map<string, number>, key: string): void {
  map.delete(Buffer.from(key));
  model.delete(key);
}

function get(map: ByteMap<number>, key: string): number | undefined {
  const bytes = Buffer.from(`<${key}>`);
  return map.get(bytes, 1, bytes.length - 1);
}

test("a key is kept as it was when it was set", () => {
  const map = new ByteMap<string>();
  const key = Buffer.from("abc");
  map.set(key, "value");
  key.fill("x");
  assert.equal(map.get(Buffer.from("abc"), 0, 3), "value");
});
