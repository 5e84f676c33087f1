/** A process that is killed while it writes: what it said was durable is found, and what is found is what it wrote. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { thorough } from "../support/thorough.ts";
import { lsn, openLog, readAll, transactionAt } from "./support.ts";

const kills = thorough(12, 4);

test("a writer that is killed, again and again, loses nothing that it called durable and invents nothing", async (t) => {
  const { directory, log, reopen } = await openLog(t, { segmentBytes: 64 * 1024 });
  await log.close();
  for (let kill = 1; kill <= kills; kill++) {
    const acknowledged = await writeUntilKilled(directory, kill);
    const found = await reopen();
    assert.ok(found.end >= acknowledged, `seed ${kill}: ${found.end} was found, ${acknowledged} was durable`);
    assert.equal(found.damages, 0);
    let index = 1;
    for (const transaction of await readAll(found)) assert.deepEqual(transaction, transactionAt(index++));
    assert.equal(found.end, lsn((index - 1) * 10));
    await found.close();
  }
});

/** The last position that it said was durable. */
async function writeUntilKilled(directory: string, seed: number): Promise<bigint> {
  const writer = spawn(
    process.execPath,
    ["--conditions=@walcast/source", path.join(import.meta.dirname, "writing.ts"), directory, String(seed)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let said = "";
  writer.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await once(writer.stdout, "data");
  // Any moment will do: in the middle of a write, of a sync, of making a segment.
  await delay((seed * 36) / kills);
  const closed = once(writer, "close");
  writer.kill("SIGKILL");
  await closed;
  return BigInt(said.split("\n").at(-2)!);
}
