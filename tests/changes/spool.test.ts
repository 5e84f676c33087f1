/** Rows between one writer and its readers, in memory and in a file. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { Spool } from "../../engine/changes/spool.ts";
import { SpoolMemory } from "../../engine/changes/spool-memory.ts";

const MiB = 1 << 20;
const pieceBytes = MiB / 4;

let directory: string;
before(async () => (directory = await mkdtemp(join(tmpdir(), "walcast-spool-"))));
after(() => rm(directory, { recursive: true, force: true }));

function spoolOf({ memory = new SpoolMemory(64 * MiB) } = {}): Spool {
  return new Spool({ directory, pieceBytes, memory });
}

/** A line of this many bytes. */
function row(bytes: number, seed = 0): Buffer {
  const line = Buffer.alloc(bytes, 97 + (seed % 26));
  line[bytes - 1] = 10;
  return line;
}

async function readAll(spool: Spool): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (let n = 0; ; n++) {
    const piece = await spool.piece(n);
    if (!piece) return Buffer.concat(pieces);
    assert.equal(crc32(piece.bytes), piece.crc);
    assert.equal(piece.bytes.at(-1), 10, "a piece is whole rows");
    pieces.push(Buffer.from(piece.bytes));
  }
}

test("readers at any pace get every row in order, in memory, in a file, on the way there, and packed", async () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 300_000 }), { maxLength: 14 });
  await fc.assert(
    fc.asyncProperty(sizes, fc.integer({ min: 0, max: 14 }), async (rows, waitAt) => {
      const memory = new SpoolMemory(2 * MiB);
      const spool = spoolOf({ memory });
      const reading = [readAll(spool), readAll(spool)];
      const written: Buffer[] = [];
      for (const [i, size] of rows.entries()) {
        written.push(row(size, i));
        spool.write(written.at(-1)!);
        if (i === waitAt) await spool.drained();
      }
      spool.end();
      reading.push(readAll(spool));
      const packing = spool.pack();
      reading.push(readAll(spool));
      await packing;
      reading.push(readAll(spool));
      for (const read of await Promise.all(reading)) assert.equal(Buffer.compare(read, Buffer.concat(written)), 0);
      await spool.close();
      assert(memory.take(2 * MiB), "all of the memory was given back");
    }),
    { numRuns: 40 },
  );
});

for (const [bytes, inFile] of [
  [MiB - 1, false],
  [MiB, false],
  [MiB + 1, true],
] as const)
  test(`${bytes} bytes are kept ${inFile ? "in a file without a name" : "in memory"}`, async () => {
    const spool = spoolOf();
    spool.write(row(bytes));
    spool.end();
    await readAll(spool);
    await spool.pack();
    assert.equal((await openFiles()).length, inFile ? 1 : 0);
    assert.deepEqual(await readdir(directory).catch(() => []), []);
    assert.equal((await readAll(spool)).length, bytes);
    assert.equal(spool.fileBytes > 0, inFile);
    assert.equal(spool.memoryBytes > 0, !inFile);
    await spool.close();
    assert.deepEqual(await openFiles(), []);
  });

test("what does not fit into the memory of all of them goes to a file", async () => {
  const memory = new SpoolMemory(1_000);
  const [first, second] = [spoolOf({ memory }), spoolOf({ memory })];
  for (const spool of [first, second]) {
    spool.write(row(700));
    spool.end();
    assert.equal((await readAll(spool)).length, 700);
  }
  assert.deepEqual([first.fileBytes, second.fileBytes], [0, 700]);
  await Promise.all([first.close(), second.close()]);
});

test("packed, it takes less than it did", async () => {
  for (const bytes of [MiB / 2, 3 * MiB]) {
    const spool = spoolOf();
    for (let at = 0; at < bytes; at += 1_024) spool.write(row(1_024, at));
    spool.end();
    await spool.pack();
    assert(spool.memoryBytes + spool.fileBytes < bytes / 10);
    assert.equal((await readAll(spool)).length, bytes);
    await spool.close();
  }
});

test("a writer that is ahead of the disk is told to wait, and told when there is room", async () => {
  const spool = spoolOf();
  for (let i = 0; i < 6; i++) spool.write(row(MiB, i));
  assert.equal(spool.isFull, true);
  await spool.drained();
  assert.equal(spool.isFull, false);
  await spool.close();
});

test("a reader waits for rows that are still to come, and is told when there will be none", async () => {
  const spool = spoolOf();
  const waiting = spool.piece(0);
  spool.write(Buffer.from("abc\n"));
  spool.end();
  assert.equal(Buffer.from((await waiting)!.bytes).toString(), "abc\n");
  assert.equal(await spool.piece(1), undefined);
});

test("a failure reaches those who wait and those who come later", async () => {
  const spool = spoolOf();
  spool.write(Buffer.from("abc\n"));
  const waiting = spool.piece(0);
  spool.fail(new Error("the table is gone"));
  await assert.rejects(waiting, /the table is gone/);
  await assert.rejects(spool.piece(0), /the table is gone/);
});

test("closed while it moves to a file, or is packed, it leaves no file open", async () => {
  const moving = spoolOf();
  moving.write(row(2 * MiB));
  moving.end();
  await moving.close();
  for (let turns = 0; turns < 4; turns++) {
    const packing = spoolOf();
    packing.write(row(2 * MiB));
    packing.end();
    await readAll(packing);
    const packed = packing.pack().catch(() => {});
    for (let i = 0; i < turns; i++) await setImmediate();
    await packing.close();
    await packed;
    assert.deepEqual(await openFiles(), []);
    await assert.rejects(packing.piece(0));
  }
});

async function openFiles(): Promise<string[]> {
  const descriptors = await readdir("/proc/self/fd");
  const targets = await Promise.all(descriptors.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => "")));
  return targets.filter((target) => target.startsWith(directory));
}
