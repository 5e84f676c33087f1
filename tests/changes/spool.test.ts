/** Bytes between one writer and its readers, in memory and in a file. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { Spool } from "../../engine/changes/spool.ts";

const MiB = 1 << 20;

async function spoolIn(t: TestContext): Promise<{ spool: Spool; directory: string }> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-spool-"));
  const spool = new Spool(directory);
  t.after(async () => {
    await spool.close();
    await rm(directory, { recursive: true, force: true });
  });
  return { spool, directory };
}

async function readAll(spool: Spool, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let offset = 0; ;) {
    const chunk = await spool.read(offset, bytesMax);
    if (chunk.length === 0) return Buffer.concat(chunks);
    chunks.push(Buffer.from(chunk));
    offset += chunk.length;
  }
}

test("readers at any pace get every byte in order, whether it stays in memory or moves to a file on the way", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "walcast-spool-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const sizes = fc.array(fc.integer({ min: 0, max: 300_000 }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(sizes, fc.integer({ min: 1_000, max: MiB }), async (chunks, bytesMax) => {
      const spool = new Spool(directory);
      const reading = [readAll(spool, bytesMax), readAll(spool, 70_000)];
      const written: Buffer[] = [];
      for (const [i, size] of chunks.entries()) {
        written.push(Buffer.alloc(size, i + 1));
        await spool.write(written.at(-1)!);
      }
      spool.end();
      const late = readAll(spool, bytesMax);
      for (const read of await Promise.all([...reading, late]))
        assert.equal(Buffer.compare(read, Buffer.concat(written)), 0);
      await spool.close();
    }),
    { numRuns: 30 },
  );
});

for (const [bytes, inFile] of [
  [MiB - 1, false],
  [MiB, false],
  [MiB + 1, true],
] as const) {
  test(`${bytes} bytes are kept ${inFile ? "in a file without a name" : "in memory"}`, async (t) => {
    const { spool, directory } = await spoolIn(t);
    await spool.write(Buffer.alloc(bytes, 1));
    spool.end();
    assert.equal((await openFilesIn(directory)).length, inFile ? 1 : 0);
    assert.deepEqual(await readdir(directory), []);
    assert.equal((await readAll(spool, MiB)).length, bytes);
    await spool.close();
    assert.deepEqual(await openFilesIn(directory), []);
  });
}

test("a reader waits for bytes that are still to come, and is told when there will be none", async (t) => {
  const { spool } = await spoolIn(t);
  const waiting = spool.read(0, 100);
  await spool.write(Buffer.from("abc"));
  assert.equal((await waiting).toString(), "abc");
  const last = spool.read(3, 100);
  spool.end();
  assert.equal((await last).length, 0);
});

test("a failure reaches those who wait and those who come later", async (t) => {
  const { spool } = await spoolIn(t);
  await spool.write(Buffer.from("abc"));
  const waiting = spool.read(3, 100);
  spool.fail(new Error("the table is gone"));
  await assert.rejects(waiting, /the table is gone/);
  await assert.rejects(spool.read(0, 100), /the table is gone/);
});

test("closed while it moves to a file, it leaves no file open", async (t) => {
  const { spool, directory } = await spoolIn(t);
  await spool.write(Buffer.alloc(MiB));
  const moving = spool.write(Buffer.alloc(MiB)).catch(() => {});
  const closing = spool.close();
  await Promise.all([moving, closing]);
  await spool.write(Buffer.alloc(MiB));
  assert.deepEqual(await openFilesIn(directory), []);
  await assert.rejects(spool.read(0, 10));
});

async function openFilesIn(directory: string): Promise<string[]> {
  const descriptors = await readdir("/proc/self/fd");
  const targets = await Promise.all(descriptors.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => "")));
  return targets.filter((target) => target.startsWith(directory));
}
