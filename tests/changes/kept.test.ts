/** Which snapshots stay for later, and which go. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Kept } from "../../engine/changes/kept.ts";
import type { SharedSnapshot } from "../../engine/changes/shared-snapshot.ts";
import { Spool } from "../../engine/changes/spool.ts";
import { SpoolMemory } from "../../engine/changes/spool-memory.ts";

const MiB = 1 << 20;

let directory: string;
before(async () => (directory = await mkdtemp(join(tmpdir(), "walcast-kept-"))));
after(() => rm(directory, { recursive: true, force: true }));

/** Rows that nothing makes smaller. */
async function snapshotOf(bytes: number): Promise<SharedSnapshot> {
  const spool = new Spool({ directory, pieceBytes: MiB / 4, memory: new SpoolMemory(64 * MiB) });
  for (let left = bytes; left > 0; left -= MiB / 4) {
    const row = randomBytes(Math.min(left, MiB / 4));
    row[row.length - 1] = 10;
    spool.write(row);
  }
  spool.end();
  for (let n = 0; await spool.piece(n); n++);
  return { spool } as SharedSnapshot;
}

function keeping(fileBytes: number): { kept: Kept; evicted: SharedSnapshot[] } {
  const evicted: SharedSnapshot[] = [];
  return { kept: new Kept({ fileBytes }, (shared) => void evicted.push(shared)), evicted };
}

test("when the disk's share is full, the one that was used longest ago goes", async () => {
  const { kept, evicted } = keeping(5 * MiB);
  const [first, second, third] = await Promise.all([snapshotOf(2 * MiB), snapshotOf(2 * MiB), snapshotOf(2 * MiB)]);
  kept.add(first);
  kept.add(second);
  await kept.settled;
  kept.delete(first);
  kept.add(first);
  kept.add(third);
  await kept.settled;
  assert.deepEqual(evicted, [second]);
  assert.equal(kept.size, 2);
  assert(kept.fileBytes > 4 * MiB && kept.fileBytes <= 5 * MiB);
});

test("small ones share the memory, and leave those on disk alone", async () => {
  const { kept, evicted } = keeping(5 * MiB);
  const large = await snapshotOf(2 * MiB);
  const small = await Promise.all(Array.from({ length: 40 }, () => snapshotOf(MiB)));
  kept.add(large);
  for (const one of small) kept.add(one);
  await kept.settled;
  assert(
    evicted.every((one, i) => one === small[i]),
    "the first go first",
  );
  assert(evicted.length >= 8 && evicted.length <= 10, `${evicted.length} went`);
  assert(kept.has(large));
});

test("one that is in use again before it is compressed counts for nothing", async () => {
  const { kept, evicted } = keeping(MiB);
  const one = await snapshotOf(2 * MiB);
  kept.add(one);
  kept.delete(one);
  await kept.settled;
  assert.deepEqual([kept.size, kept.fileBytes, evicted], [0, 0, []]);
});

test("with nothing allowed none is kept", async () => {
  const { kept, evicted } = keeping(0);
  const one = await snapshotOf(1_000);
  kept.add(one);
  assert.deepEqual(evicted, [one]);
});
