/** What a burst needed is collected when it is over, once. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Calm } from "../engine/calm.ts";

const { gc } = globalThis;
let collections = 0;
globalThis.gc = ((): void => void collections++) as NonNullable<typeof gc>;
after(() => void (globalThis.gc = gc!));

/** Twice what is worth it, in one piece: what else the process holds, and how much of that V8 collects meanwhile, is little beside it. */
const burst: number[][] = [];
function grow(): void {
  burst.push(Array<number>(4 * 1024 * 1024).fill(0));
}

function beBusy(): void {
  const since = process.cpuUsage();
  for (let took = 0; took < 60_000;) {
    const { user, system } = process.cpuUsage(since);
    took = user + system;
  }
}

function ticks(calm: Calm, count: number): number {
  const before = collections;
  for (let tick = 0; tick < count; tick++) calm.tick();
  return collections - before;
}

test("after three calm seconds what was needed is collected, once, and again only where much was needed since", () => {
  const calm = new Calm();
  grow();
  beBusy();
  assert.equal(ticks(calm, 3), 0);
  assert.equal(ticks(calm, 1), 1);
  assert.equal(ticks(calm, 10), 0);
  beBusy();
  assert.equal(ticks(calm, 10), 0);
  grow();
  beBusy();
  assert.equal(ticks(calm, 3), 0);
  beBusy();
  assert.equal(ticks(calm, 3), 0);
  assert.equal(ticks(calm, 1), 1);
});
