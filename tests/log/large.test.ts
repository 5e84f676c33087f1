/** Transactions that are too large for memory: their files are the log's from the append on, for as long as their place is. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { copyFile, readdir, truncate, unlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { Staging } from "../../engine/changes/staging.ts";
import type { LargeBody, Transaction } from "../../engine/changes/transaction.ts";
import { zeroLsn } from "../../engine/protocol.ts";
import { flushed, lsn, openLog, readAll, sees, transaction } from "./support.ts";

/** A transaction of these messages, staged on disk; those of subtransaction 2 were rolled back. */
async function large(
  directory: string,
  xid: number,
  commitEnd: number,
  messages: readonly string[],
): Promise<Transaction> {
  const staging = new Staging(path.join(directory, `staging-${commitEnd}`), (error) => assert.ifError(error));
  await staging.open();
  const body = staging.begin(xid);
  messages.forEach((message, i) => {
    const bytes = Buffer.from(message);
    body.append(i % 3 === 2 ? 2 : 1, 0x49, bytes, 0, bytes.length);
  });
  const staged = (await body.finish(new Set([2]), 0)) as LargeBody;
  return { ...transaction(xid, commitEnd, { bytes: 0, messages: 0 }), large: staged };
}

async function textOf({ large }: Transaction): Promise<string> {
  let text = "";
  for await (const { bytes } of large!.parts()) text += bytes.toString();
  return text;
}

const messages = ["a", "b", "rolled back", "c"];
const text = "IaIbIc";

test("a large transaction is read back from the log's own file, alone in its batch, also by the next process", async (t) => {
  const { directory, log, reopen } = await openLog(t);
  const staged = await large(directory, 2, 200, messages);
  const { path: before } = staged.large!;
  const [, appended] = log.append([transaction(1, 100), staged, transaction(3, 300)]);
  assert.equal(existsSync(before), false);
  assert.equal(await textOf(appended!), text);
  await flushed(log);
  for (const current of [log, await reopen()]) {
    const batches = await Array.fromAsync(current.read(zeroLsn));
    assert.deepEqual(
      batches.map(({ transactions }) => transactions.map(({ xid }) => Number(xid))),
      [[1], [2], [3]],
    );
    assert.equal(await textOf(batches[1]!.transactions[0]!), text);
  }
});

test("a large transaction that is sent again leaves nothing behind", async (t) => {
  const { directory, log, reopen } = await openLog(t);
  log.append([await large(directory, 1, 100, messages)]);
  await flushed(log);
  const again = await reopen();
  const staged = await large(directory, 1, 100, messages);
  assert.deepEqual(again.append([staged, transaction(2, 200)]), [transaction(2, 200)]);
  assert.equal(await textOf((await readAll(again))[0]!), text);
  while (existsSync(staged.large!.path)) await new Promise((resolve) => setImmediate(resolve));
});

test("files that no record refers to are removed: a crash came before the record", async (t) => {
  const { directory, log, reopen } = await openLog(t);
  log.append([await large(directory, 1, 100, messages)]);
  await flushed(log);
  const file = path.join(directory, "0000000000000064.large");
  await copyFile(file, path.join(directory, "00000000000000c8.large"));
  const again = await reopen();
  assert.deepEqual(
    (await readdir(directory)).filter((name) => name.endsWith(".large")),
    [path.basename(file)],
  );
  again.append([await large(directory, 2, 200, ["other"])]);
  assert.equal(await textOf((await readAll(again))[1]!), "Iother");
});

test("a large transaction goes with its segment, and counts towards the bound; who still reads it is told", async (t) => {
  const { directory, log } = await openLog(t, { segmentBytes: 1_000, bytesMax: 5_000 });
  log.append([await large(directory, 1, 100, [...messages, "x".repeat(20_000)])]);
  const [held] = await readAll(log);
  for (let i = 2; i <= 12; i++) {
    log.append([transaction(i, i * 100)]);
    log.learn(sees(i + 1));
    log.checkpoint();
    await flushed(log);
  }
  await log.close();
  assert.deepEqual(
    (await readdir(directory)).filter((name) => name.endsWith(".large")),
    [],
  );
  await assert.rejects(textOf(held!), { code: "position_too_old" });
});

for (const [what, spoil] of [
  ["damaged", (file: string) => writeFile(file, "I am not what was staged, though of some length")],
  ["cut short", (file: string) => truncate(file, 10)],
  ["gone", unlink],
] as const)
  test(`a large transaction whose file is ${what} costs whoever reads its rows their place, and nobody else`, async (t) => {
    const { directory, log } = await openLog(t, { segmentBytes: 1_000, tailBytes: 1 });
    for (let i = 1; i <= 9; i++)
      log.append([i === 5 ? await large(directory, 5, 500, messages) : transaction(i, i * 100)]);
    await flushed(log);
    await spoil(path.join(directory, "00000000000001f4.large"));
    for (const after of [zeroLsn, lsn(400), lsn(400)]) {
      const found = await readAll(log, after);
      assert.equal(found.length, 9 - Number(after) / 100);
      await assert.rejects(textOf(found.find((one) => one.large)!), { code: "position_too_old", message: /damaged/ });
    }
    assert.deepEqual([log.start, log.damages], [zeroLsn, 1]);
  });

test("a reader of a history that is over damages nothing in the one that follows", async (t) => {
  const { directory, log } = await openLog(t);
  log.append([await large(directory, 1, 900, messages)]);
  const [held] = await readAll(log);
  await log.startAt(lsn(100), "another");
  log.append([transaction(2, 200)]);
  await assert.rejects(textOf(held!), { code: "position_too_old" });
  assert.deepEqual([log.start, (await readAll(log, lsn(100))).length], [lsn(100), 1]);
});
