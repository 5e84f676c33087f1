/** When commits count as a rush. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Rush } from "../../engine/changes/rush.ts";

/** A Rush with a clock of its own. */
class Told {
  private readonly rush = new Rush();
  private nowMs = 1_000;

  /** Tells it of so many reads, one every `everyMs`, and gives whether it was one after each. */
  reads(everyMs: number, commits: number, count: number): boolean[] {
    return Array.from({ length: count }, () => {
      this.rush.note(commits, (this.nowMs += everyMs));
      return this.rush.isOn;
    });
  }
}

test("a thousand commits a second, one by one, are no rush, and neither are almost two thousand", () => {
  for (const everyMs of [100, 1, 0.51]) assert.ok(!new Told().reads(everyMs, 1, 1_000).includes(true), `${everyMs} ms`);
});

test("commits that come twice a millisecond are a rush, after twenty milliseconds of it", () => {
  const told = new Told();
  assert.ok(!told.reads(0.5, 1, 40).includes(true));
  assert.ok(!told.reads(0.5, 1, 1_000).includes(false));
});

test("once it has begun, it goes on with fewer reads of more commits, down to a thousand commits a second", () => {
  const told = new Told();
  told.reads(0.5, 1, 100);
  assert.ok(!told.reads(1.5, 3, 1_000).includes(false));
  assert.ok(!told.reads(2, 2, 1_000).includes(false));
  assert.ok(told.reads(2.1, 2, 20).includes(false));
  assert.ok(!told.reads(2.1, 2, 1_000).includes(true));
});

test("a silence of twenty milliseconds ends it, whatever a read brings then", () => {
  const told = new Told();
  for (const commits of [1, 0]) {
    assert.deepEqual(told.reads(0.5, 30, 100).at(-1), true);
    assert.deepEqual(told.reads(20.5, commits, 1), [false]);
  }
});

test("one read that brings many commits is none", () => {
  const told = new Told();
  assert.ok(!told.reads(10, 1_000, 100).includes(true));
});

test("reads that bring no commit are none", () => {
  assert.ok(!new Told().reads(0.1, 0, 1_000).includes(true));
});
