/** After a connect Postgres sends again what the log has: which differences mean another history, and which are chance. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Repeated } from "../../engine/changes/repeated.ts";
import { flushed, lsn, openLog, transaction } from "../log/support.ts";

test("what Postgres sends again may lack transactions of which nothing is left, and have others of them", async (t) => {
  const { log } = await openLog(t);
  const [first, empty, last] = [transaction(1, 10), transaction(2, 20, { bytes: 0, messages: 0 }), transaction(3, 30)];
  log.append([first, empty, last]);
  await flushed(log);
  for (const sent of [
    [first, last],
    [first, empty, last],
    [first, transaction(4, 25, { bytes: 0, messages: 0 }), last],
  ]) {
    const repeated = await Repeated.after(log, lsn(0));
    assert.equal(repeated.areMet(sent) && repeated.isDone, true);
  }
  const other = await Repeated.after(log, lsn(0));
  assert.equal(other.areMet([first, transaction(4, 25), last]), false);
  assert.equal(other.difference, "expected transaction 3 up to 0/1E, found transaction 4 up to 0/19");
});
