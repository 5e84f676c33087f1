/** What the log keeps and for whom, what it lets go of, and who may have its directory. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import type { DurableLog } from "../../engine/log/durable.ts";
import { type WalcastError, zeroLsn } from "../../engine/protocol.ts";
import { flushed, GatedDisk, lsn, open, openLog, readAll, sees, transaction } from "./support.ts";

/** Seen by everybody, one to a flush, a thousand bytes each. */
async function fill(log: DurableLog, from: number, to: number): Promise<void> {
  for (let i = from; i <= to; i++) {
    log.append([transaction(i, i * 10, { bytes: 1_000 })]);
    log.learn(sees(i + 1));
    log.checkpoint();
    await flushed(log);
  }
}

test("the oldest segments go when there is too much, and readers from before are told", async (t) => {
  const { directory, log, reopen } = await openLog(t, { segmentBytes: 5_000, bytesMax: 20_000 });
  await fill(log, 1, 60);
  assert.ok(log.bytes <= 26_000, `${log.bytes} bytes`);
  assert.ok(log.start > 300n);
  await assert.rejects(readAll(log, lsn(300)), { code: "position_too_old" });
  assert.equal(log.recent(lsn(300)), undefined);
  const again = await reopen();
  assert.deepEqual((await readAll(again, log.start)).at(-1), transaction(60, 600, { bytes: 1_000 }));
  const files = (await readdir(directory)).filter((name) => name.endsWith(".segment"));
  assert.ok(files.length <= 6, files.join(" "));
});

test("segments go when they are too old, but never the one that is being written", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const { log } = await openLog(t, { segmentBytes: 5_000, retentionMs: 8_000 });
  await fill(log, 1, 9);
  t.mock.timers.tick(8_001);
  await fill(log, 10, 12);
  assert.ok(log.start >= 50n && log.start < log.end);
});

test("a segment into which little comes is sealed in time, so what it holds goes too, and where the log is stays known", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const { directory, log, reopen } = await openLog(t, { retentionMs: 8_000 });
  await fill(log, 1, 3);
  const pass = async (ms: number): Promise<void> => {
    t.mock.timers.tick(ms);
    log.checkpoint();
    await flushed(log);
  };
  await pass(999);
  assert.equal((await readdir(directory)).filter((name) => name.endsWith(".segment")).length, 1);
  await pass(1);
  await pass(8_000);
  assert.deepEqual([log.start, (await readAll(log, lsn(0))).length], [lsn(0), 3]);
  await pass(1);
  assert.deepEqual([log.start, log.end, log.recorded], [lsn(30), lsn(30), lsn(30)]);
  for (let i = 0; i < 5; i++) await pass(8_001);
  const again = await reopen();
  assert.deepEqual([again.start, again.end, again.history], [lsn(30), lsn(30), "history"]);
  assert.equal((await readdir(directory)).filter((name) => name.endsWith(".segment")).length, 1, "an empty one stays");
});

test("what no snapshot has seen stays, bound or no bound", async (t) => {
  const { log, reopen } = await openLog(t, { segmentBytes: 5_000, bytesMax: 10_000, retentionMs: -1 });
  await fill(log, 1, 3);
  for (let i = 4; i <= 60; i++) {
    log.append([transaction(i, i * 10, { bytes: 1_000 })]);
    log.learn(sees(i + 1, 4));
    log.checkpoint();
    await flushed(log);
  }
  assert.equal((await readAll(log, log.pin().from)).length, 57);
  assert.equal((await readAll(await reopen(), lsn(30))).length, 57);
});

test("what is pinned stays until it is released", async (t) => {
  const { log } = await openLog(t, { segmentBytes: 5_000, bytesMax: 10_000 });
  await fill(log, 1, 5);
  const pin = log.pin();
  await fill(log, 6, 15);
  assert.deepEqual((await readAll(log, pin.from)).map(({ xid }) => Number(xid)).slice(0, 2), [6, 7]);
  pin.release();
  await fill(log, 16, 30);
  await assert.rejects(readAll(log, pin.from), { code: "position_too_old" });
});

test("a pin that holds the log at twice its bound is the one to start again", async (t) => {
  const { log } = await openLog(t, { segmentBytes: 5_000, bytesMax: 10_000 });
  const pin = log.pin();
  await fill(log, 1, 40);
  await assert.rejects(readAll(log, pin.from), { code: "position_too_old" });
  assert.ok(log.bytes <= 25_000, `${log.bytes} bytes`);
});

test("a reader that is overtaken in the middle is told, and never goes on after a gap", async (t) => {
  const { log } = await openLog(t, { segmentBytes: 5_000, bytesMax: 20_000, tailBytes: 1 });
  await fill(log, 1, 15);
  const found: number[] = [];
  await assert.rejects(
    async () => {
      for await (const { transactions } of log.read(log.start)) {
        found.push(...transactions.map(({ xid }) => Number(xid)));
        await fill(log, found.length + 100, found.length + 200);
      }
    },
    { code: "position_too_old" },
  );
  assert.deepEqual(
    found,
    found.map((_, i) => found[0]! + i),
  );
});

test("the memory for the newest transactions keeps its bound, once they are durable", async (t) => {
  const disk = new GatedDisk();
  const { log } = await openLog(t, { tailBytes: 10_000, disk });
  disk.hold();
  const all = Array.from({ length: 50 }, (_, i) => transaction(i + 1, (i + 1) * 10, { bytes: 1_000 }));
  log.append(all);
  await disk.held;
  assert.equal(log.recent(zeroLsn)?.length, 50);
  disk.release();
  await flushed(log);
  assert.equal(log.recent(zeroLsn), undefined);
  assert.deepEqual(log.recent(lsn(450)), all.slice(45));
  assert.deepEqual(await readAll(log), all);
});

// ── A disk that refuses ──────────────────────────────────────────────────────────────────────────────────────────────

test("on a full disk nothing more is acknowledged, it is said once, and all is written when there is room", async (t) => {
  const disk = new GatedDisk();
  const failures: WalcastError[] = [];
  const failed = Promise.withResolvers<void>();
  const onFailed = (error: WalcastError): void => {
    failures.push(error);
    failed.resolve();
  };
  const { log, reopen } = await openLog(t, { disk, onFailed, segmentBytes: 3_000 });
  log.append([transaction(1, 10)]);
  await flushed(log);
  disk.refusal = Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  for (let i = 2; i <= 30; i++) log.append([transaction(i, i * 10)]);
  await failed.promise;
  await disk.refused(3);
  assert.deepEqual(
    failures.map(({ code }) => code),
    ["log_failed"],
  );
  assert.deepEqual([log.recorded, log.failure, log.end], [lsn(10), failures[0], lsn(300)]);
  assert.equal((await readAll(log)).length, 30);
  disk.refusal = undefined;
  await flushed(log);
  assert.deepEqual([log.recorded, log.failure], [lsn(300), undefined]);
  assert.equal((await readAll(await reopen())).length, 30);
});

test("a log on a disk that refuses can be closed, and opens with what was durable", async (t) => {
  const disk = new GatedDisk();
  const { log, reopen } = await openLog(t, { disk });
  log.append([transaction(1, 10)]);
  await flushed(log);
  disk.refusal = Object.assign(new Error("input/output error"), { code: "EIO" });
  log.append([transaction(2, 20)]);
  await disk.refused(1);
  await log.close();
  disk.refusal = undefined;
  assert.deepEqual(await readAll(await reopen()), [transaction(1, 10)]);
});

// ── The directory ────────────────────────────────────────────────────────────────────────────────────────────────────

test("a directory that another log has open is refused, in this process and by another one", async (t) => {
  const { directory, log } = await openLog(t);
  await assert.rejects(open({ directory }), { code: "data_dir_in_use" });
  await log.close();
  const other = spawn("sleep", ["60"], { stdio: "ignore" });
  await once(other, "spawn");
  await writeFile(path.join(directory, "lock"), `${other.pid}\n`);
  await assert.rejects(open({ directory }), { code: "data_dir_in_use", message: new RegExp(`process ${other.pid} `) });
  other.kill();
  await once(other, "exit");
  await (await open({ directory })).close();
});

test("a process that is about to end is waited for", async (t) => {
  const { directory, log } = await openLog(t);
  await log.close();
  const other = spawn("sleep", ["60"], { stdio: "ignore" });
  await once(other, "spawn");
  await writeFile(path.join(directory, "lock"), `${other.pid}\n`);
  const opening = open({ directory });
  other.kill();
  await (await opening).close();
});

test("a process that has ended does not hold the lock, also if nobody has asked how", async (t) => {
  const { directory, log } = await openLog(t);
  await log.close();
  const parent = spawn("sh", ["-c", "true & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "ignore"] });
  t.after(() => parent.kill());
  const [pid] = (await once(parent.stdout, "data")) as [Buffer];
  await writeFile(path.join(directory, "lock"), String(pid));
  await (await open({ directory })).close();
});

for (const [what, text] of [
  ["a process that is no more", "4194305 123\n"],
  ["an earlier process with the pid of this one", `${process.pid} 1\n`],
  ["an earlier process with the pid of another that lives", `${process.ppid} 1\n`],
  ["nobody, as it was only just made", ""],
] as const)
  test(`a lock left by ${what} does not hold`, async (t) => {
    const { directory, log } = await openLog(t);
    await log.close();
    await writeFile(path.join(directory, "lock"), text);
    await (await open({ directory })).close();
  });
