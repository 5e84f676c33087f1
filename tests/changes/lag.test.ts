/** When the server counts as behind. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Lag } from "../../engine/changes/lag.ts";

const second = 1_000_000;
const noon = 800_000_000 * second;

/** An XLogData message sent at `sent`; a Begin of a transaction committed at `committed`, or else a row. Both in µs since 2000. */
function message(sent: number, committed?: number): Buffer {
  const chunk = Buffer.alloc(60);
  chunk[0] = 0x77;
  chunk.writeBigInt64BE(BigInt(sent), 17);
  chunk[25] = committed === undefined ? 0x49 : 0x42;
  if (committed !== undefined) chunk.writeBigInt64BE(BigInt(committed), 25 + 9);
  return chunk;
}

function lagAfter(...messages: readonly Buffer[]): Lag {
  const lag = new Lag();
  for (const one of messages) lag.note(one, 0);
  return lag;
}

test("a transaction that is sent as it commits is not behind", () => {
  assert.equal(lagAfter(message(noon + 300, noon), message(noon + 400)).isBehind, false);
});

test("a transaction in parts, long after the one before it, is not behind", () => {
  const lag = lagAfter(message(noon + 300, noon), message(noon + 60 * second, noon + 60 * second - 300));
  assert.equal(lag.isBehind, false);
  lag.note(message(noon + 60 * second + 200), 0);
  assert.equal(lag.isBehind, false);
});

test("a transaction that is sent 20 ms and more after its commit is behind, until the next is not", () => {
  const lag = lagAfter(message(noon + 20_000, noon));
  assert.equal(lag.isBehind, false);
  lag.note(message(noon + 20_001), 0);
  assert.equal(lag.isBehind, true);
  lag.note(message(noon + 30_000, noon + 29_900), 0);
  assert.equal(lag.isBehind, false);
});

test("nothing is known before the first Begin, nor after a reset until the next message", () => {
  assert.equal(lagAfter(message(noon)).isBehind, false);
  const lag = lagAfter(message(noon + second, noon));
  lag.reset();
  assert.equal(lag.isBehind, false);
  lag.note(message(noon + second), 0);
  assert.equal(lag.isBehind, true);
});

test("a transaction that has been sent for 3 ms and is not over is behind, and over it is not", () => {
  const lag = lagAfter(message(noon + 300, noon), message(noon + 3_300));
  assert.equal(lag.isBehind, false);
  lag.note(message(noon + 3_301), 0);
  assert.equal(lag.isBehind, true);
  lag.note(aroundBlock("C"), 0);
  lag.note(message(noon + 60 * second + 300, noon + 60 * second), 0);
  assert.equal(lag.isBehind, false);
});

/** An XLogData message of a block, or around it: only its tag says anything. */
function aroundBlock(tag: string, committed?: number): Buffer {
  const chunk = message(noon + 60 * second);
  chunk[25] = tag.charCodeAt(0);
  if (committed !== undefined) chunk.writeBigInt64BE(BigInt(committed), 25 + 22);
  return chunk;
}

test("within a block of a transaction that still runs there is more, and after it nothing is known of it", () => {
  const lag = lagAfter(message(noon + 300, noon), aroundBlock("S"), aroundBlock("I"));
  assert.equal(lag.isBehind, true);
  lag.note(aroundBlock("E"), 0);
  assert.equal(lag.isBehind, false);
});

test("a streamed transaction is measured against its commit, not its rows", () => {
  const late = lagAfter(aroundBlock("S"), aroundBlock("E"), aroundBlock("c", noon + 59 * second));
  assert.equal(late.isBehind, true);
  const early = lagAfter(aroundBlock("S"), aroundBlock("E"), aroundBlock("c", noon + 60 * second - 300));
  assert.equal(early.isBehind, false);
});
