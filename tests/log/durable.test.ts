/** What the log on disk promises: what is durable is found again, nothing else is acknowledged, and nobody waits for ever. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { DurableLog } from "../../engine/log/durable.ts";
import { zeroLsn } from "../../engine/protocol.ts";
import { flushed, GatedDisk, lsn, openLog, readAll, sees, transaction } from "./support.ts";

test("what was flushed is found again, as it was appended", async (t) => {
  const { log, reopen } = await openLog(t);
  const dropped = { tableOid: 9, version: null };
  const appended = [
    transaction(1, 100),
    transaction(2, 200, { tables: [7, 8] }),
    transaction(3, 300, { bytes: 100_000 }),
    transaction(4, 400, { bytes: 0, messages: 0, tables: [] }),
    transaction(5, 500, { schemaChanges: [{ tableOid: 16_384, version: "v2" }, dropped] }),
    transaction(2 ** 40, 2 ** 50),
  ];
  log.append(appended);
  await flushed(log);
  assert.equal(log.recorded, 2n ** 50n);
  const again = await reopen();
  assert.deepEqual(await readAll(again), appended);
  assert.deepEqual([again.start, again.end, again.recorded], [zeroLsn, lsn(2 ** 50), lsn(2 ** 50)]);
});

/** The record of a transaction of one table and two messages, without these. */
const recordBytes = 57;

for (const [bound, before, around] of [
  ["a segment", [], 2_694],
  ["what is copied into a block", [], 64 * 1024],
  ["a block, with others,", [60_000, 60_000, 60_000, 60_000], 256 * 1024 - 4 * (60_000 + recordBytes) - recordBytes],
] as const)
  test(`transactions around the size of ${bound} are found again, whichever they end or begin`, async (t) => {
    const { log, reopen } = await openLog(t, { segmentBytes: before.length > 0 ? 1 << 30 : 3_000 });
    const appended: Transaction[] = [];
    for (let last = around - 5; last <= around + 5; last++) {
      const at = appended.length;
      [...before, last].forEach((bytes, i) => appended.push(transaction(at + i + 1, (at + i + 1) * 10, { bytes })));
      log.append(appended.slice(at));
      await flushed(log);
    }
    assert.deepEqual(await readAll(await reopen()), appended);
  });

test("what is appended again is recognised, also by the next process, and only what is new is given back", async (t) => {
  const { log, reopen } = await openLog(t);
  const [first, second, third] = [transaction(1, 100), transaction(2, 200), transaction(3, 300)];
  assert.deepEqual(log.append([first, second]), [first, second]);
  assert.deepEqual(log.append([first, second, third]), [third]);
  assert.deepEqual(log.append([third]), []);
  await flushed(log);
  const again = await reopen();
  assert.deepEqual(again.append([first, second, third, transaction(4, 400)]), [transaction(4, 400)]);
});

test("positions that do not increase within one read are a breach of what must hold", async (t) => {
  const { log } = await openLog(t);
  assert.throws(() => log.append([transaction(1, 200), transaction(2, 100)]), { code: "invariant" });
});

test("before it begins somewhere, a log has no history and takes nothing", async (t) => {
  const { directory, log } = await openLog(t);
  await log.close();
  const empty = await DurableLog.open({ ...options, directory: path.join(directory, "other") });
  assert.deepEqual([empty.history, empty.end, empty.recorded], [undefined, 0n, 0n]);
  assert.throws(() => empty.append([transaction(1, 100)]), { code: "ERR_ASSERTION" });
  await empty.close();
});

const options = {
  retentionMs: 1_000,
  bytesMax: 1_000,
  segmentBytes: 1_000,
  tailBytes: 1_000,
  onFlushed: () => {},
  onFailed: () => {},
};

// ── Acknowledging ────────────────────────────────────────────────────────────────────────────────────────────────────

test("nothing is acknowledged before it is durable, though it can be read at once", async (t) => {
  const disk = new GatedDisk();
  const { log } = await openLog(t, { disk });
  disk.hold();
  log.append([transaction(1, 100)]);
  await disk.held;
  assert.deepEqual([log.end, log.recorded, log.pendingBytes > 0], [lsn(100), zeroLsn, true]);
  assert.deepEqual(await readAll(log), [transaction(1, 100)]);
  log.append([transaction(2, 200)]);
  disk.release();
  await flushed(log);
  assert.deepEqual([log.recorded, log.pendingBytes], [lsn(200), 0]);
});

test("what was appended goes to the disk ten milliseconds later, when clients have it, or as soon as somebody waits for it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const disk = new GatedDisk();
  const { log } = await openLog(t, { disk });
  disk.hold();
  let isHeld = false;
  void disk.held.then(() => (isHeld = true));
  log.append([transaction(1, 100)]);
  t.mock.timers.tick(9);
  await setImmediate();
  assert.equal(isHeld, false);
  t.mock.timers.tick(1);
  await disk.held;
  disk.release();
  await flushed(log);
  log.append([transaction(2, 200)]);
  await log.flushed();
  assert.deepEqual([log.recorded, log.pendingBytes], [lsn(200), 0]);
});

test("a keepalive's position is acknowledged once it is recorded, and the next process knows it", async (t) => {
  const { log, reopen } = await openLog(t);
  log.append([transaction(1, 100)]);
  log.quiet(lsn(500));
  await flushed(log);
  assert.deepEqual([log.recorded, log.streamed], [lsn(100), lsn(500)]);
  log.checkpoint();
  await flushed(log);
  assert.equal(log.recorded, 500n);
  const again = await reopen();
  assert.deepEqual([again.end, again.recorded, again.streamed], [lsn(100), lsn(500), lsn(500)]);
  again.quiet(lsn(400));
  again.checkpoint();
  assert.equal(again.pendingBytes, 0);
});

test("what no snapshot has seen is acknowledged when it is durable, and is still unseen after a restart", async (t) => {
  const { log, reopen } = await openLog(t);
  log.append([transaction(5, 100), transaction(6, 200), transaction(7, 300)]);
  log.learn(sees(8, 6));
  assert.equal(log.pin().from, 100n);
  log.checkpoint();
  await flushed(log);
  assert.equal(log.recorded, 300n);
  const again = await reopen();
  assert.deepEqual(again.pin().from, lsn(100));
  assert.deepEqual(await readAll(again, again.pin().from), [transaction(6, 200), transaction(7, 300)]);
  again.learn(sees(8));
  assert.deepEqual(again.pin().from, lsn(300));
});

test("a transaction that is waited for is told to all who wait, before and after it came", async (t) => {
  const { log } = await openLog(t);
  const early = [log.committed(7n), log.committed(7n)];
  log.append([transaction(7, 70)]);
  assert.deepEqual(await Promise.all([...early, log.committed(7n)]), [70n, 70n, 70n]);
  assert.deepEqual([log.positionOf(7n), log.positionOf(8n)], [70n, undefined]);
});

// ── Histories ────────────────────────────────────────────────────────────────────────────────────────────────────────

test("when another history begins, what was before is gone, and those who wait for it are told", async (t) => {
  const { directory, log, reopen } = await openLog(t, { segmentBytes: 1_000 });
  for (let i = 1; i <= 20; i++) log.append([transaction(i, i * 10)]);
  await flushed(log);
  const waiting = log.committed(99n);
  const begun = log.startAt(lsn(50), "another");
  await assert.rejects(waiting, { code: "snapshot_failed" });
  assert.equal(log.end, 200n, "clients are where they were until they are told");
  await begun;
  assert.deepEqual([log.start, log.end, log.recorded, log.positionOf(1n)], [lsn(50), lsn(50), lsn(50), undefined]);
  await assert.rejects(readAll(log), { code: "position_too_old" });
  assert.deepEqual(log.append([transaction(1, 60)]).length, 1);
  await flushed(log);
  assert.deepEqual((await readdir(directory)).sort(), ["0000000000000032.segment", "lock"]);
  const again = await reopen();
  assert.deepEqual([again.history, again.start, again.end], ["another", lsn(50), lsn(60)]);
});

test("a history that goes on under another name keeps its transactions, in every segment that follows", async (t) => {
  const { log, reopen } = await openLog(t, { segmentBytes: 1_000 });
  log.append([transaction(1, 10)]);
  log.quiet(lsn(90));
  log.checkpoint();
  await log.setHistory("history, continued", lsn(50));
  assert.deepEqual([log.recorded, log.streamed], [lsn(50), lsn(50)]);
  const again = await reopen();
  assert.deepEqual([again.history, again.start, again.end], ["history, continued", zeroLsn, lsn(10)]);
  assert.equal(again.recorded, 50n);
  for (let i = 2; i <= 20; i++) again.append([transaction(i, i * 10)]);
  await flushed(again);
  assert.equal((await reopen()).history, "history, continued");
});

// ── Descriptions ─────────────────────────────────────────────────────────────────────────────────────────────────────

test("a table that changed is described as it was, in each segment, also when those before it are gone", async (t) => {
  const { log, reopen } = await openLog(t, { segmentBytes: 1_000, tailBytes: 500, bytesMax: 3_000 });
  const columns = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ name: `c${i}`, typeOid: 25, typmod: -1, isKey: i === 0 }));
  const all = Array.from({ length: 60 }, (_, i) => {
    const one = transaction(i + 1, (i + 1) * 10);
    // A description of its own each time, as after a reconnect, and another one each twenty transactions.
    const described = columns(1 + Math.floor(i / 20));
    return {
      ...one,
      relations: [{ ...one.relations[0]!, columns: described, signature: JSON.stringify(described) }],
    };
  });
  for (const one of all) {
    log.append([one]);
    log.learn(sees(Number(one.xid) + 1));
    log.checkpoint();
    await flushed(log);
  }
  assert.ok(log.start > 100n);
  const again = await reopen();
  assert.deepEqual(
    await readAll(again, again.start),
    all.filter(({ commitEnd }) => commitEnd > again.start),
  );
});

test("pieces that touch none of a reader's tables are not even read", async (t) => {
  const { log } = await openLog(t, { segmentBytes: 8_000, tailBytes: 1 });
  // Fifty transactions of table 1, and in the middle one of table 2, one that alters it, one that truncates it and table 3.
  const all = Array.from({ length: 53 }, (_, i) => {
    if (i === 25) return transaction(i + 1, (i + 1) * 10, { tables: [2] });
    if (i === 26)
      return transaction(i + 1, (i + 1) * 10, { tables: [1], schemaChanges: [{ tableOid: 2, version: "b" }] });
    if (i === 27) return transaction(i + 1, (i + 1) * 10, { tables: [2, 3] });
    return transaction(i + 1, (i + 1) * 10, { tables: [1] });
  });
  for (const one of all) {
    log.append([one]);
    await flushed(log);
  }
  const found = await readAll(log, zeroLsn, new Set([2]));
  assert.deepEqual(
    found.filter(({ xid }) => xid > 25n && xid < 29n),
    all.slice(25, 28),
  );
  assert.ok(log.bytesRead < 4_000, `read ${log.bytesRead}`);
  const batches = await Array.fromAsync(log.read(zeroLsn, new Set([99])));
  assert.equal(batches.at(-1)!.end, log.end);
  assert.ok(log.bytesRead < 4_000);
});
