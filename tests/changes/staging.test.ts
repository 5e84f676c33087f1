/** What is put aside for a transaction comes back as it was, or is gone, or its failure is known. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { largeBody } from "../../engine/changes/large.ts";
import { type StagedBody, Staging } from "../../engine/changes/staging.ts";
import type { LargeBody, Part } from "../../engine/changes/transaction.ts";
import { stagingDirectory } from "../support/staging.ts";

const tag = 0x49;

function stage(): { staging: Staging; directory: string; failed: Promise<unknown> } {
  const directory = stagingDirectory();
  const failure = Promise.withResolvers<unknown>();
  return { staging: new Staging(directory, failure.resolve), directory, failed: failure.promise };
}

/** Messages of so many bytes each, by turns of the subtransactions; gives what was appended. */
function fill(body: StagedBody, sizes: readonly number[], xids: readonly number[]): { xid: number; bytes: Buffer }[] {
  return sizes.map((size, i) => {
    const bytes = Buffer.concat([Buffer.of(tag), randomBytes(size - 1)]);
    const xid = xids[i % xids.length]!;
    body.append(xid, tag, Buffer.concat([Buffer.alloc(7), bytes, Buffer.alloc(3)]), 8, 7 + size);
    return { xid, bytes };
  });
}

function split({ bytes, starts }: Part): Buffer[] {
  return starts.slice(0, -1).map((start, i) => bytes.subarray(start, starts[i + 1]));
}

async function read(body: LargeBody): Promise<Buffer[]> {
  const messages: Buffer[] = [];
  for await (const part of body.parts()) messages.push(...split(part));
  return messages;
}

function large(body: Part | LargeBody): LargeBody {
  assert("parts" in body);
  return body;
}

const manySizes = Array.from({ length: 6_000 }, (_, i) => 1 + ((i * 37) % 400));

test("a small one never touches the disk", async () => {
  const { staging, directory } = stage();
  const body = staging.begin(7);
  const appended = fill(body, [1, 20, 300, 4_000], [7, 8]);
  const part = body.finish(new Set([8]), 1_000_000);
  assert(!(part instanceof Promise) && !("parts" in part));
  assert.deepEqual(
    split(part),
    appended.filter(({ xid }) => xid === 7).map(({ bytes }) => bytes),
  );
  assert.deepEqual([staging.heldBytes, staging.pendingBytes], [0, 0]);
  await assert.rejects(readdir(directory), { code: "ENOENT" });
});

test("one that was written but is small enough comes back into memory, and its file is gone", async () => {
  const { staging, directory } = stage();
  const body = staging.begin(7);
  const appended = fill(body, manySizes, [7, 8, 9]);
  const part = await body.finish(new Set([9]), 10_000_000);
  assert(!("parts" in part));
  assert.deepEqual(
    split(part),
    appended.filter(({ xid }) => xid !== 9).map(({ bytes }) => bytes),
  );
  await staging.close();
  assert.deepEqual(await readdir(directory), []);
});

test("a large one is read in parts of some hundred KiB, or one message, by any number of readers", async () => {
  const { staging, directory } = stage();
  const body = staging.begin(7);
  const appended = fill(body, [...manySizes, 3_000_000, 5, ...manySizes], [7, 8, 9]);
  const found = large(await body.finish(new Set([8]), 1_000));
  const kept = appended.filter(({ xid }) => xid !== 8).map(({ bytes }) => bytes);
  assert.deepEqual(await Promise.all([read(found), read(found)]), [kept, kept]);
  for await (const { bytes, starts } of found.parts()) assert.ok(bytes.length < 300_000 || starts.length === 2);
  assert.deepEqual([staging.heldBytes, staging.pendingBytes], [0, 0]);
  await staging.close();
  assert.deepEqual(await readdir(directory), ["7"], "what was handed on is not ours to delete");
});

test("one that holds nothing but what was rolled back is as nothing, however large, and its file is gone", async () => {
  const { staging, directory } = stage();
  const body = staging.begin(7);
  fill(body, manySizes, [8]);
  const part = await body.finish(new Set([8]), 1_000);
  assert(!("parts" in part));
  assert.deepEqual(split(part), []);
  assert.deepEqual([staging.heldBytes, staging.pendingBytes], [0, 0]);
  await staging.close();
  assert.deepEqual(await readdir(directory), []);
});

test("the buffers of many that wait do not add up without a bound", async () => {
  const { staging } = stage();
  const bodies = Array.from({ length: 200 }, (_, i) => staging.begin(i + 1));
  let most = 0;
  for (const body of bodies) {
    fill(body, manySizes.slice(0, 500), [7]);
    body.rest();
    most = Math.max(most, staging.heldBytes);
  }
  assert.ok(most > 8_000_000 && most < 9_000_000, `${most} bytes were held`);
  await staging.close();
  assert.deepEqual([staging.heldBytes, staging.pendingBytes], [0, 0]);
});

test("what is discarded leaves nothing, whether it was written or is being written", async () => {
  const { staging, directory } = stage();
  const [one, two, three] = [staging.begin(1), staging.begin(2), staging.begin(3)];
  for (const body of [one, two, three]) fill(body, manySizes, [1]);
  one.discard();
  const finished = two.finish(new Set(), 1_000);
  await staging.close();
  await Promise.allSettled([finished]);
  assert.deepEqual(
    (await readdir(directory)).filter((name) => name !== "2"),
    [],
  );
  await staging.open();
  await assert.rejects(readdir(directory), { code: "ENOENT" });
});

test("a disk that refuses is told once, and nothing is completed", async () => {
  const { staging, directory, failed } = stage();
  await writeFile(directory, "in the way");
  const body = staging.begin(7);
  fill(body, manySizes, [7]);
  await assert.rejects(async () => body.finish(new Set(), 1_000));
  const error = await failed;
  assert.equal((error as { code: string }).code, "log_failed");
  await staging.close();
});

const damages: readonly (readonly [string, (path: string, length: number) => Promise<void>])[] = [
  ["cut short", (path, length) => truncate(path, length - 1)],
  ["with a byte changed in a row", (path, length) => changeByte(path, length - 1)],
  ["with a byte changed in a length", (path) => changeByte(path, 2)],
];
for (const [what, damage] of damages) {
  test(`a file ${what} is noticed before its last part is given`, async () => {
    const { staging } = stage();
    const body = staging.begin(7);
    fill(body, manySizes, [7]);
    const { path, length, crc, aborted } = large(await body.finish(new Set(), 1_000));
    await damage(path, length);
    await assert.rejects(read(largeBody({ path, length, crc, aborted })), { code: "log_failed" });
  });
}

async function changeByte(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at]! ^= 0x40;
  await writeFile(path, bytes);
}
