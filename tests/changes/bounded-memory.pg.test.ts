/** However large a transaction or a row is, the process that receives it stays small, and the connection alive. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import type { Seen } from "./bounded-process.ts";
import { messagesOf, Streaming } from "./streaming.ts";

const MB = 1_000_000;

/** A process of its own streams while `use` runs; `next` gives what it says of the next transaction. */
async function inProcess(db: TestDatabase, use: (next: () => Promise<Seen>) => Promise<void>): Promise<void> {
  const streaming = new Streaming(db);
  await streaming.prepare(
    "create table notes (id int primary key, note text); alter table notes alter note set storage external",
  );
  const { rows } = await db.query("select pg_snapshot_xmax(pg_current_snapshot())::text as xid");
  const program = join(import.meta.dirname, "bounded-process.ts");
  const flags = ["--conditions=@walcast/source", "--max-old-space-size=256", "--expose-gc"];
  const child = spawn(process.execPath, [...flags, program, db.url, streaming.slot, streaming.directory, rows[0].xid], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<Seen> => JSON.parse((await lines.next()).value as string) as Seen;
  try {
    await next();
    // The table was made before anybody listened.
    await next();
    await use(next);
  } finally {
    child.stdin.end();
    assert.deepEqual(await ended, [0, null]);
  }
}

test("a transaction of 500,000 rows takes a few MB", async (t) => {
  const db = await testDatabase(t);
  await inProcess(db, async (next) => {
    await db.query("insert into notes select i, repeat('x', 150) from generate_series(1, 500000) i");
    const seen = await next();
    t.diagnostic(JSON.stringify(seen));
    assert.equal(seen.messages, 500_000);
    assert.ok(seen.bytes > 80 * MB);
    assert.ok(seen.buffersMost < 40 * MB, `${seen.buffersMost} bytes of buffers`);
    assert.equal(seen.filesLeft, 0);
  });
});

test("a row of 60 MB takes a few times its size, and not for long", async (t) => {
  const db = await testDatabase(t);
  await inProcess(db, async (next) => {
    await db.query("insert into notes values (1, repeat('0123456789', 6000000))");
    const first = await next();
    t.diagnostic(JSON.stringify(first));
    assert.ok(first.bytes > 60 * MB);
    assert.ok(first.buffersMost < 400 * MB, `${first.buffersMost} bytes of buffers`);
    await db.query("insert into notes values (2, 'small')");
    const second = await next();
    t.diagnostic(JSON.stringify(second));
    assert.ok(second.buffersAfter < 10 * MB, `${second.buffersAfter} bytes of buffers are left`);
    assert.equal(second.filesLeft, 0);
  });
});

const timeouts = [
  ["2 s", "2000"],
  ["0, which is never", "0"],
] as const;
for (const [name, timeout] of timeouts) {
  test(`while the log does not keep up nothing is read, and wal_sender_timeout of ${name} does not pass`, async (t) => {
    const db = await testDatabase(t);
    let pending = 0;
    const settings = { wal_sender_timeout: timeout, logical_decoding_work_mem: "64kB" };
    const streaming = new Streaming(db, { settings, events: { pendingBytes: () => pending } });
    await streaming.prepare("create table notes (id int primary key, note text)");
    await streaming.start();
    await streaming.caughtUp();
    const sender = await senderOf(streaming);
    pending = 17 * 1024 * 1024;
    const before = streaming.transactions.length;
    await db.query(
      "do $$ begin for i in 1..40 loop insert into notes select 1000 * i + j, repeat('x', 1000) from generate_series(1, 1000) j; commit; end loop; end $$",
    );
    if (timeout !== "0") await db.query("select pg_sleep(5)");
    const held = streaming.transactions.length - before;
    assert.ok(held < 40, `${held} of 40 were read`);
    assert.equal(await senderOf(streaming), sender);
    pending = 0;
    await streaming.caughtUp();
    assert.equal(await senderOf(streaming), sender);
    const messages = await Promise.all(streaming.transactions.slice(before).map(messagesOf));
    assert.equal(messages.flat().length, 40_000);
    await streaming.stop();
  });
}

async function senderOf({ db, slot }: Streaming): Promise<number> {
  const { rows } = await db.query("select active_pid from pg_replication_slots where slot_name = $1", [slot]);
  return rows[0].active_pid;
}
