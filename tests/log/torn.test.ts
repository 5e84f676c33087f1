/** What a crash, or a disk, does to the files; and what the log says then. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  copyFile,
  mkdtemp,
  open as openFile,
  readdir,
  readFile,
  rm,
  truncate,
  unlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { Repeated } from "../../engine/changes/repeated.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import type { DurableLog } from "../../engine/log/durable.ts";
import type { Lsn } from "../../engine/protocol.ts";
import { flushed, lsn, open, openLog, readAll, sees, transaction } from "./support.ts";

/** A log of one segment, as a crash leaves it, and where in its file the last record lies. */
async function crashed(
  t: TestContext,
): Promise<{ file: string; before: Transaction[]; last: Transaction; from: number; to: number }> {
  const { directory, log } = await openLog(t, { segmentBytes: 1 << 20 });
  const before = [transaction(1, 100), transaction(2, 200, { tables: [5, 6] }), transaction(3, 300)];
  const last = transaction(4, 400, { tables: [7], bytes: 40 });
  log.append(before);
  await flushed(log);
  const from = log.bytes;
  log.append([last]);
  await flushed(log);
  const to = log.bytes;
  const copy = path.join(await mkdtemp(path.join(tmpdir(), "walcast-torn-")), "0000000000000000.segment");
  t.after(() => rm(path.dirname(copy), { recursive: true, force: true }));
  await copyFile(path.join(directory, "0000000000000000.segment"), copy);
  await log.close();
  return { file: copy, before, last, from, to };
}

/** Opens the file as a log, looks at it, and puts it back as it was. */
async function opened(
  t: TestContext,
  file: string,
  bytes: Buffer,
  look: (log: DurableLog) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), "walcast-torn-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  await writeFile(path.join(directory, path.basename(file)), bytes);
  const log = await open({ directory });
  await look(log);
  await log.close();
}

test("a last record that is cut at any byte is as if it had never been, and is taken when it is sent again", async (t) => {
  const { file, before, last, from, to } = await crashed(t);
  const whole = await readFile(file);
  for (let cut = from; cut <= to; cut++) {
    await opened(t, file, whole.subarray(0, cut), async (log) => {
      const expected = cut === to ? [...before, last] : before;
      assert.deepEqual(await readAll(log), expected, `cut at byte ${cut - from}`);
      assert.equal(log.recorded, expected.at(-1)!.commitEnd);
      assert.deepEqual(log.append([...before, last]), cut === to ? [] : [last]);
      await flushed(log);
      assert.deepEqual(await readAll(log), [...before, last]);
    });
  }
});

test("garbage after any cut is not a record, and is gone when the next is written", async (t) => {
  const { file, before, last, from, to } = await crashed(t);
  const whole = await readFile(file);
  for (let cut = from; cut < to; cut += 3) {
    const noise = randomBytes(200);
    noise[0] = ~whole[cut]!; // at the last cut one byte is missing, and chance must not supply it
    await opened(t, file, Buffer.concat([whole.subarray(0, cut), noise]), async (log) => {
      assert.deepEqual(await readAll(log), before, `garbage from byte ${cut - from}`);
      assert.deepEqual(log.append([last]), [last]);
      await flushed(log);
      assert.deepEqual(await readAll(log), [...before, last]);
    });
  }
});

test("a whole record behind a torn one is not taken for one, neither at once nor after the next is written", async (t) => {
  const { file, before, from, to } = await crashed(t);
  const whole = await readFile(file);
  // The pages of one write reach the disk in any order: here the third transaction's is lost, and the fourth's is not.
  const torn = Buffer.from(whole);
  torn.fill(0, from - 50, from);
  const shorter = transaction(3, 300, { bytes: 150 });
  await opened(t, file, torn.subarray(0, to), async (log) => {
    assert.deepEqual(await readAll(log), before.slice(0, 2));
    log.append([shorter]);
    await flushed(log);
    assert.deepEqual(await readAll(log), [...before.slice(0, 2), shorter]);
  });
});

test("a bit that flips in the last segment ends the log there, at a transaction's end", async (t) => {
  const { file, before, last, to } = await crashed(t);
  const whole = await readFile(file);
  const all = [...before, last];
  for (let at = 0; at < to; at += 7) {
    const flipped = Buffer.from(whole.subarray(0, to));
    flipped[at] = flipped[at]! ^ 0x10;
    await opened(t, file, flipped, async (log) => {
      const found = log.history === undefined ? [] : await readAll(log);
      assert.deepEqual(found, all.slice(0, found.length));
      assert.ok(found.length < all.length);
      // Whoever compares with the slot sees that something is missing.
      assert.ok(log.recorded < last.commitEnd);
    });
  }
});

// ── Sealed segments ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Several sealed segments, and a last one. */
async function sealed(
  t: TestContext,
): Promise<{ directory: string; all: Transaction[]; reopen: () => Promise<DurableLog>; files: string[] }> {
  const { directory, log, reopen } = await openLog(t, { segmentBytes: 2_000 });
  const all = Array.from({ length: 40 }, (_, i) => transaction(i + 1, (i + 1) * 10));
  for (const one of all) {
    log.append([one]);
    log.learn({ xmin: one.xid + 1n, xmax: one.xid + 1n, xip: new Set() });
    log.checkpoint();
    await flushed(log);
  }
  await log.close();
  const files = (await readdir(directory)).filter((name) => name.endsWith(".segment")).sort();
  assert.ok(files.length > 3);
  return { directory, all, reopen, files: files.map((name) => path.join(directory, name)) };
}

const firstOf = (file: string): Lsn => lsn(BigInt(`0x${path.basename(file, ".segment")}`));

test("a sealed segment without its footer, or with a damaged one, is read through instead", async (t) => {
  const { files, reopen, all } = await sealed(t);
  const { length } = await readFile(files[0]!);
  await truncate(files[0]!, length - 5);
  await overwrite(files[1]!, (await readFile(files[1]!)).length - 40, "x");
  const log = await reopen();
  assert.deepEqual([await readAll(log), log.damages], [all, 0]);
});

test("a damaged record in a sealed segment is never served: the log begins behind that segment", async (t) => {
  const { files, reopen, all } = await sealed(t);
  await overwrite(files[1]!, 400, "damage");
  const log = await reopen();
  await assert.rejects(readAll(log), { code: "position_too_old", message: /damaged/ });
  assert.deepEqual([log.start, log.damages], [firstOf(files[2]!), 1]);
  assert.deepEqual(
    await readAll(log, log.start),
    all.filter(({ commitEnd }) => commitEnd > log.start),
  );
  await assert.rejects(readAll(log), { code: "position_too_old" });
});

test("what Postgres sends again is compared with what can be read, where some of it is damaged", async (t) => {
  const { files, reopen, all } = await sealed(t);
  await overwrite(files[1]!, 400, "damage");
  const log = await reopen();
  const repeated = await Repeated.after(log, firstOf(files[1]!));
  assert.deepEqual([log.start, repeated.isDone], [firstOf(files[2]!), true]);
  const again = await Repeated.after(log, log.start);
  assert.equal(again.areMet(all.filter(({ commitEnd }) => commitEnd > log.start)) && again.isDone, true);
});

test("a damaged record in the segment that is being written is not served either, and writing goes on", async (t) => {
  const { directory, log } = await openLog(t, { segmentBytes: 1 << 20, tailBytes: 600 });
  const all = Array.from({ length: 10 }, (_, i) => transaction(i + 1, (i + 1) * 10));
  log.append(all);
  await flushed(log);
  await overwrite(path.join(directory, "0000000000000000.segment"), 400, "damage");
  await assert.rejects(readAll(log), { code: "position_too_old" });
  assert.equal(log.start, 100n);
  const more = [transaction(11, 110), transaction(12, 120), transaction(13, 130)];
  log.append(more);
  await flushed(log);
  assert.deepEqual(await readAll(log, log.start), more);
});

test("a log of which a segment is missing, or lost its records, begins behind the hole", async (t) => {
  const { files, reopen, all } = await sealed(t);
  await unlink(files[1]!);
  const log = await reopen();
  assert.deepEqual([log.start, log.damages], [firstOf(files[2]!), 1]);
  assert.deepEqual(
    await readAll(log, log.start),
    all.filter(({ commitEnd }) => commitEnd > log.start),
  );
  await log.close();
  // Neither footer nor last record: what the next segment says came before is not there.
  await truncate(files[2]!, 700);
  const again = await reopen();
  assert.deepEqual([again.start, again.damages], [firstOf(files[3]!), 1]);
});

test("a segment whose file was only just made is nothing", async (t) => {
  const { directory, files, reopen, all } = await sealed(t);
  for (const [index, bytes] of ["", "WALCAST\n", "\0".repeat(5_000)].entries())
    await writeFile(path.join(directory, `${(1_000 + index).toString(16).padStart(16, "0")}.segment`), bytes);
  // One that was made of an older segment's file, and has its header and its records still.
  await copyFile(files[0]!, path.join(directory, "0000000000001000.segment"));
  const log = await reopen();
  assert.deepEqual([await readAll(log), log.damages], [all, 0]);
});

test("a full log writes over the files that it needs no more, and never takes their records for new ones", async (t) => {
  const { directory, log, reopen } = await openLog(t, { segmentBytes: 2_000, bytesMax: 6_000 });
  // Of one size, so that old records lie where new ones could.
  for (let i = 1; i <= 60; i++) {
    log.append([transaction(i, i * 10)]);
    log.learn(sees(i + 1));
    log.checkpoint();
    await flushed(log);
  }
  const copies = await mkdtemp(path.join(tmpdir(), "walcast-torn-"));
  t.after(() => rm(copies, { recursive: true, force: true }));
  // As a crash leaves it: the last segment is not cut to its length.
  for (const name of await readdir(directory))
    if (name.endsWith(".segment")) await copyFile(path.join(directory, name), path.join(copies, name));
  const { start, end } = log;
  await log.close();
  const found = await open({ directory: copies });
  assert.deepEqual([found.end, found.damages], [end, 0]);
  assert.deepEqual((await readAll(found, start)).at(-1), transaction(60, 600));
  await found.close();
  await writeFile(path.join(directory, "spare"), randomBytes(5_000));
  await (await reopen()).startAt(lsn(5), "another");
  assert.ok(!(await readdir(directory)).includes("spare"));
});

test("files of a form that this version does not know are left alone", async (t) => {
  const { files, reopen } = await sealed(t);
  const bytes = await readFile(files[0]!);
  bytes.writeUInt32LE(2, 8);
  const length = bytes.readUInt32LE(12);
  const { crc32 } = await import("node:zlib");
  bytes.writeUInt32LE(crc32(bytes.subarray(0, length - 4)), length - 4);
  await writeFile(files[0]!, bytes);
  await assert.rejects(reopen(), { code: "log_failed", message: /format 2/ });
  assert.deepEqual(await readFile(files[0]!), bytes);
});

async function overwrite(file: string, at: number, text: string): Promise<void> {
  const handle = await openFile(file, "r+");
  await handle.write(text, at);
  await handle.close();
}
