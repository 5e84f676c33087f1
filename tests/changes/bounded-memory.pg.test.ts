/** However large a transaction or a row is, the process that receives it stays small, and the connection alive. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";
import { decodeCommits } from "../../engine/protocol.ts";
import { EngineProcess } from "../simulation/engine.ts";
import { RawClient } from "../sockets/raw-client.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { thorough } from "../support/thorough.ts";
import { transaction } from "../support/transaction.ts";
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

test("a transaction of 80 MB takes an eighth of that, however many rows it has", async (t) => {
  const db = await testDatabase(t);
  await inProcess(db, async (next) => {
    await db.query("insert into notes select i, repeat('x', 850) from generate_series(1, 100000) i");
    const seen = await next();
    t.diagnostic(JSON.stringify(seen));
    assert.equal(seen.messages, 100_000);
    assert.ok(seen.bytes > 80 * MB);
    assert.ok(seen.buffersMost < 10 * MB, `${seen.buffersMost} bytes of buffers`);
    assert.equal(seen.filesLeft, 0);
  });
});

const rowMB = thorough(60, 24);

test(`a row of ${rowMB} MB takes a few times its size, and not for long`, async (t) => {
  const db = await testDatabase(t);
  await inProcess(db, async (next) => {
    await db.query("insert into notes values (1, repeat('0123456789', $1))", [rowMB * 100_000]);
    const first = await next();
    t.diagnostic(JSON.stringify(first));
    assert.ok(first.bytes > rowMB * MB);
    assert.ok(first.buffersMost < 6.6 * rowMB * MB, `${first.buffersMost} bytes of buffers`);
    await db.query("insert into notes values (2, 'small')");
    const second = await next();
    t.diagnostic(JSON.stringify(second));
    assert.ok(second.buffersAfter < 10 * MB, `${second.buffersAfter} bytes of buffers are left`);
    assert.equal(second.filesLeft, 0);
  });
});

// ── The whole engine ─────────────────────────────────────────────────────────────────────────────────────────────────

/** `bench/large-transaction.ts` has the half million, and the times. */
const rowsAtOnce = 50_000;

test("with 256 MB of heap the engine passes on a transaction and a row of any size, and others go on meanwhile", async (t) => {
  const db = await testDatabase(t);
  await db.query(
    "create table bulk (id int primary key, v text); alter table bulk alter v set storage external; create table small (n int primary key)",
  );
  const engine = await smallEngine(t, db);
  const started = await residentMB(engine, "VmRSS");
  const concerned = await RawClient.greeted(engine.urls[0]!);
  const other = await RawClient.greeted(engine.urls[0]!);
  const { identity } = (await concerned.load(1, { table: "bulk" })).table;
  await other.load(1, { table: "small" });
  const { left } = concerned;
  let n = 0;
  /** Each is seen before the next is written. */
  const othersGoOn = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      const xid = await transaction(db, [`insert into small values (${++n})`]);
      assert.equal((await other.commit(1)).xid, BigInt(xid));
    }
  };

  const writer = await db.pool.connect();
  await writer.query("begin");
  const { rows } = await writer.query("select pg_current_xact_id()::text as xid");
  const many = (rows[0] as { xid: string }).xid;
  const insert = (from: number, to: number): Promise<unknown> =>
    writer.query(`insert into bulk select i, repeat('x', 2000) from generate_series(${from}, ${to}) i`);
  await insert(1, rowsAtOnce / 2);
  await othersGoOn();
  await insert(rowsAtOnce / 2 + 1, rowsAtOnce);
  await writer.query("commit");
  writer.release();
  await isHeldUpAfterItsFirstPart(concerned);
  await othersGoOn();
  assert.deepEqual(shownOf(concerned), [], "not the first row is shown before the last has come");
  concerned.socket.resume();
  await concerned.awaitXid(1, many);
  assert.deepEqual(shownOf(concerned), [{ xid: many, rows: rowsAtOnce }]);
  const afterRows = await residentMB(engine, "VmHWM");

  const huge = await transaction(db, ["insert into bulk values (0, repeat('0123456789', 6000000))"]);
  await othersGoOn();
  await concerned.awaitXid(2, huge);
  const afterRow = await residentMB(engine, "VmHWM");

  const again = await RawClient.greeted(engine.urls[0]!, undefined, left);
  again.claim(1, { table: "bulk" }, identity);
  again.send({ kind: "resume" });
  await again.control("resumed");
  await again.awaitXid(1, huge);
  assert.deepEqual(shownOf(again), [
    { xid: many, rows: rowsAtOnce },
    { xid: huge, rows: 1 },
  ]);
  await othersGoOn();
  assert.equal(engine.died, undefined);
  const most = await residentMB(engine, "VmHWM");
  t.diagnostic(JSON.stringify({ started, afterRows, afterRow, most }));
  assert.ok(afterRows - started < 100, "less than the transaction");
  assert.ok(most - started < 600, "some copies of the row");
  await Promise.all([concerned, other, again].map((client) => client.close()));
});

async function smallEngine(t: TestContext, db: TestDatabase): Promise<EngineProcess> {
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-test-"));
  const config = { databaseUrl: db.url, port: 0, tables: "all" as const, slot: db.name, dataDir };
  const engine = new EngineProcess("the engine", config);
  engine.flags = ["--max-old-space-size=256"];
  t.after(async () => {
    await engine.close();
    await rm(dataDir, { recursive: true, force: true });
  });
  await engine.start();
  return engine;
}

async function isHeldUpAfterItsFirstPart(client: RawClient): Promise<void> {
  await client.frame((frame) => frame.kind === "commits");
  client.socket.pause();
}

/** What its first subscription shows since its rows: a boundary in the middle of a transaction would make two of it. */
function shownOf({ received }: RawClient): { xid: string; rows: number }[] {
  const shown: { xid: string; rows: number }[] = [];
  let staged: typeof shown = [];
  for (const one of received) {
    if ("control" in one) {
      if (one.control.kind === "rewind") staged = [];
      continue;
    }
    const { kind, sections, boundary } = one.frame;
    const commits = kind === "commits" ? sections.flatMap(({ payload }) => decodeCommits(payload)) : [];
    for (const { xid, operations } of commits) {
      if (staged.at(-1)?.xid !== String(xid)) staged.push({ xid: String(xid), rows: 0 });
      staged.at(-1)!.rows += operations.length;
    }
    if (boundary) shown.push(...staged.splice(0));
  }
  return shown;
}

async function residentMB({ pid }: EngineProcess, field: "VmRSS" | "VmHWM"): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Math.round((Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)![1]) * 1024) / MB);
}

// ── While the log does not keep up ───────────────────────────────────────────────────────────────────────────────────

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
