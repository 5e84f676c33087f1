import assert from "node:assert/strict";
import { test } from "node:test";
import { LagSeconds } from "../../engine/changes/vitals.ts";
import type { Lsn } from "../../engine/protocol.ts";

const lsn = (position: number): Lsn => BigInt(position) as Lsn;

test("lag in seconds is how long the oldest thing that has not come by has been waiting", () => {
  const lag = new LagSeconds();
  lag.note(lsn(10), lsn(10), 0);
  assert.equal(lag.at(lsn(10), 5_000), 0);
  lag.note(lsn(20), lsn(10), 1_000);
  lag.note(lsn(30), lsn(10), 2_000);
  assert.equal(lag.at(lsn(10), 5_000), 4);
  assert.equal(lag.at(lsn(20), 5_000), 3, "what has come by meanwhile does not count");
  assert.equal(lag.at(lsn(30), 5_000), 0);
});
