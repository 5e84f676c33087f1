/** What is remembered of the keys that readers of a stream were told: enough, or it says that it is not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Lsn } from "../../engine/protocol.ts";
import { ToldKeys } from "../../engine/watch/told-keys.ts";

const at = (position: number): Lsn => BigInt(position) as Lsn;

test("a key is remembered while a reader that it covers may have it, also once its row is gone", () => {
  const memory = new ToldKeys(1e6).of("orders", "everybody");
  memory.tellAll(["1", "2"], at(10));
  memory.untell("1", at(20));
  assert.deepEqual(memory.keys().toSorted(), ["1", "2"]);
  assert.ok(memory.covers(at(10)));
  memory.tell("1");
  assert.deepEqual(memory.keys().toSorted(), ["1", "2"]);
});

test("of rows that are gone the older half is forgotten, and with it readers that have not come past those", () => {
  const memory = new ToldKeys(1e6).of("orders", "everybody");
  for (let i = 1; i <= 1_001; i++) {
    memory.tell(String(i));
    memory.untell(String(i), at(i));
  }
  assert.equal(memory.keys().length, 500);
  assert.ok(!memory.covers(at(500)));
  assert.ok(memory.covers(at(501)));
  assert.ok(memory.keys().includes("502"));
});

test("only who asks for the same rows under the same rule is told keys", () => {
  const told = new ToldKeys(1e6);
  const { id } = told.of("orders", "ada");
  assert.ok(told.find(id, "ada"));
  assert.equal(told.find(id, "eve"), undefined);
  assert.equal(told.find(undefined, "ada"), undefined);
});

test("a reader that is not known is covered once all was told between two of its positions", () => {
  const memory = new ToldKeys(1e6).of("orders", "everybody");
  assert.ok(!memory.takesIn(at(5), at(15)), "nothing was told");
  memory.tellAll(["1"], at(10));
  assert.ok(memory.takesIn(at(5), at(15)));
  assert.ok(!memory.takesIn(at(5), at(9)), "it may have rows that were gone when all was told");
  assert.ok(!memory.takesIn(at(11), at(15)), "it may have rows that came after all was told");
});

test("the memories together keep to their bound: what was not asked for longest goes, and one that is too large by itself goes alone", () => {
  const told = new ToldKeys(1_000);
  const [a, b, c] = ["a", "b", "c"].map((name) => told.of(name, "everybody")) as [Memory, Memory, Memory];
  for (const [memory, keys] of [
    [a, 5],
    [b, 3],
  ] as const)
    for (let i = 0; i < keys; i++) memory.tell(String(i));
  told.of("a", "everybody");
  for (let i = 0; i < 5; i++) c.tell(String(i));
  assert.deepEqual(
    [a, b, c].map((memory) => memory.covers(at(1))),
    [true, false, true],
  );
  for (let i = 0; i < 10; i++) c.tell(String(i));
  assert.deepEqual(
    [a, c].map((memory) => memory.covers(at(1))),
    [true, false],
  );
  assert.deepEqual(c.keys(), []);
});

type Memory = ReturnType<ToldKeys["of"]>;
