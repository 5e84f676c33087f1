/** Files in memory that grow in larger steps hold what they would hold anyway. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PGlite } from "@electric-sql/pglite";
import { growFaster } from "../../client-sdk/storage/growing-files.ts";
import { prepared } from "../../bench/pglite.ts";

let pglite: PGlite;

before(async () => {
  pglite = await PGlite.create("memory://", prepared());
  growFaster(pglite);
});

after(() => pglite.close());

const file = "/tmp/grows";

test("a file in memory that was cut and made longer has zeros where nothing was written", () => {
  const { FS } = pglite.Module;
  FS.writeFile(file, new Uint8Array(3_000_000).fill(1));
  FS.truncate(file, 4_000_000);
  FS.truncate(file, 1_000);
  FS.truncate(file, 2_000_000);
  const stream = FS.open(file, "r+");
  FS.write(stream, Uint8Array.of(2), 0, 1, 2_500_000);
  FS.close(stream);
  const found: Uint8Array = FS.readFile(file);
  assert.equal(found.length, 2_500_001);
  assert(found.subarray(0, 1_000).every((byte) => byte === 1));
  assert(found.subarray(1_000, 2_500_000).every((byte) => byte === 0));
  assert.equal(found[2_500_000], 2);
});

test("a file in memory that grows by small steps is made anew seldom", () => {
  const { FS } = pglite.Module;
  const made = new Set<unknown>();
  FS.writeFile(file, new Uint8Array(1));
  for (let bytes = 8_192; bytes <= 4 << 20; bytes += 8_192) {
    FS.truncate(file, bytes);
    made.add((FS.lookupPath(file, {}).node as unknown as { contents: unknown }).contents);
  }
  assert(made.size < 20, `made ${made.size} times`);
});
