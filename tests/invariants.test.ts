import assert from "node:assert/strict";
import { test } from "node:test";
import { breaches, invariantNames, must, noteBreach } from "../engine/invariants.ts";

test("a breach is counted under its name, and thrown with what must have held", () => {
  const before = breaches.get("column_count")!;
  must(true, "column_count", "a row has as many columns as its table");
  assert.equal(breaches.get("column_count"), before);
  assert.throws(() => must(false, "column_count", "a row has as many columns as its table"), {
    code: "invariant",
    message: "column_count: expected that a row has as many columns as its table",
  });
  noteBreach("column_count");
  assert.equal(breaches.get("column_count"), before + 2);
});

test("every invariant has its count from the start, so that an alarm can be set on it", () => {
  assert.deepEqual([...breaches.keys()], [...invariantNames]);
});
