import assert from "node:assert/strict";
import { test } from "node:test";
import { Rate, Tally } from "../../engine/sockets/bounds.ts";
import { WalcastError } from "../../engine/errors.ts";
import { Deadlines } from "../../engine/sockets/deadlines.ts";
import { refusing } from "../../engine/sockets/refusing.ts";

test("so many of a key at once, and one more for each that ends", () => {
  const tally = new Tally(2);
  const [first, second] = [tally.take("a"), tally.take("a")];
  assert.equal(tally.take("a"), undefined);
  assert.ok(tally.take("__proto__"));
  first!();
  const third = tally.take("a");
  assert.ok(third);
  assert.equal(tally.take("a"), undefined);
  second!();
  third();
  assert.ok(tally.take("a"));
});

test("a burst is let through, then so many a second, and a pause saves up no more than another burst", () => {
  const rate = new Rate(10, 5);
  const taken = (nowMs: number): number => {
    let count = 0;
    while (rate.take(nowMs)) count++;
    return count;
  };
  assert.deepEqual([taken(1000), taken(1050), taken(1100), taken(1300), taken(60_000)], [5, 0, 1, 2, 5]);
  assert.deepEqual([rate.take(60_400, 5), rate.take(60_500, 5)], [false, true]);
});

test("a refusal does not say where it was made, a mistake of ours does", () => {
  const stackOf = (error: Error): string | undefined => {
    const fails = (): never => {
      Error.captureStackTrace(error, fails);
      throw error;
    };
    assert.throws(() => refusing(fails), error);
    return error.stack;
  };
  assert.doesNotMatch(stackOf(new WalcastError("malformed_message", "read"))!, /bounds\.test/);
  assert.match(stackOf(new TypeError("ours"))!, /bounds\.test/);
  assert.match(new Error("after").stack!, /bounds\.test/);
});

test("who is not in time is late, in turn, and whoever was in time never", async () => {
  const deadlines = new Deadlines(20);
  const late: string[] = [];
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const [punctual, first, again] = ["punctual", "first", "again"].map((name) => () => void late.push(name));
  for (const one of [punctual!, again!, first!, again!]) deadlines.set(one);
  deadlines.clear(punctual!);
  deadlines.set(() => deadlines.set(resolve));
  const process = setTimeout(() => undefined, 10_000);
  await over;
  clearTimeout(process);
  assert.deepEqual(late, ["first", "again"]);
});
