/** What the log on disk promises: what is durable is found again, nothing else is, and readers never miss or double anything. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { zeroLsn } from "../../engine/protocol.ts";
import { flushed, lsn, openLog, readAll, transaction } from "./support.ts";

test("what was flushed is found again, as it was appended", async (t) => {
  const { log, reopen } = await openLog(t);
  const appended = [
    transaction(1, 100),
    transaction(2, 200, { tables: [7, 8] }),
    transaction(3, 300, { bytes: 100_000 }),
  ];
  log.append(appended);
  await flushed(log);
  assert.equal(log.acknowledgeable, 300n);
  const again = await reopen();
  assert.deepEqual(await readAll(again), appended);
  assert.deepEqual([again.start, again.end, again.recorded, again.history], [zeroLsn, lsn(300), lsn(300), "history"]);
});
