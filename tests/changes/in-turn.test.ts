import assert from "node:assert/strict";
import { test } from "node:test";
import { InTurn } from "../../engine/changes/in-turn.ts";

test("however many ask, one look-up runs at a time, and none is older than the question", async () => {
  const looks = new InTurn<number>();
  const ends: ((error?: Error) => void)[] = [];
  const ask = (key = "a"): Promise<number> =>
    looks.get(key, () => {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      const number = ends.length;
      ends.push((error) => (error ? reject(error) : resolve(number)));
      return promise;
    });
  const first = ask();
  const during = [ask(), ask(), ask()];
  assert.equal(ends.length, 1);
  const other = ask("b");
  assert.equal(ends.length, 2);
  ends[0]!(new Error("nothing found"));
  await assert.rejects(first, /nothing found/);
  await new Promise(setImmediate);
  assert.equal(ends.length, 3);
  const later = ask();
  ends[2]!();
  assert.deepEqual(await Promise.all(during), [2, 2, 2]);
  await new Promise(setImmediate);
  ends[3]!();
  ends[1]!();
  assert.deepEqual([await later, await other], [3, 1]);
  await new Promise(setImmediate);
  void ask();
  assert.equal(ends.length, 5);
});
