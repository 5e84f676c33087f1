/** What a client that fell behind needs is gone from the log, or damaged: it loads its rows anew, and nobody else notices. */
import assert from "node:assert/strict";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type RawClient, rowsOf, shownCommits } from "./raw-client.ts";
import { type Running, running } from "./running.ts";

const MiB = 1 << 20;

/** Rows of a quarter of a MiB: more than a socket that nobody reads takes, and the batch of the log that waits for it, and the log's tail. */
const rowsThatWait = 64;

const items = { table: "items" };

test("a client that retention overtakes loads its rows anew when it goes on", async (t) => {
  const { world, slow, quick, write } = await fallenBehind(t, { maxBytes: MiB });
  const head = await world.metric("walcast_log_head_position");
  while ((await world.metric("walcast_log_start_position")) <= head) await write();
  slow.socket.resume();
  await loadsAnew(world, slow);
  await showsAll(quick, await write());
});

test("a client whose position the log lets go of after its welcome loads its rows anew when it says what it has", async (t) => {
  const { world, quick, write } = await withWriter(t, { maxBytes: MiB });
  const { identity } = (await quick.load(2, items)).table;
  const { left } = quick;
  await write();
  const client = await world.greeted(undefined, left);
  assert.equal(client.welcome!.resumes, true);
  client.claim(1, items, identity);
  await client.control("resumed");
  while ((await world.metric("walcast_log_start_position")) <= Number(left.position)) await write();
  client.send({ kind: "resume" });
  await loadsAnew(world, client);
  await client.awaitXid(1, await write());
});

test("a client whose part of the log is damaged loads its rows anew when it gets there", async (t) => {
  const { world, slow, quick, write } = await fallenBehind(t, {});
  await damage(world.dataDir, ".segment", 30_000);
  slow.socket.resume();
  await loadsAnew(world, slow);
  await showsAll(quick, await write());
});

test("where the file of a large transaction is damaged, who shows its table loads that anew, and nothing else", async (t) => {
  const world = await running(
    { limits: { largeTransactionBytes: MiB } },
    "create table items (id int primary key, v text); alter table items alter v set storage external; create table others (id int primary key)",
  );
  t.after(() => world.close());
  const others = { table: "others" };
  const [both, other, quick] = [await world.greeted(), await world.greeted(), await world.greeted()];
  const identities = [(await both.load(1, items)).table.identity, (await both.load(2, others)).table.identity];
  await other.load(2, others);
  await quick.load(1, items);
  await Promise.all([both.close(), other.close()]);

  await world.transaction("insert into others values (1)");
  // As large as it is, its first parts are sent before the damage is met.
  await world.transaction("insert into items select i, repeat('x', 4000) from generate_series(1, 1000) i");
  const last = await world.transaction("insert into others values (2)", "insert into items values (1001, 'after')");
  await showsAll(quick, last);
  await damage(world.dataDir, ".large", 3_000_000);

  const first = await world.greeted(undefined, both.left);
  const second = await world.greeted(undefined, other.left);
  assert.deepEqual([first.welcome!.resumes, second.welcome!.resumes], [true, true]);
  first.claim(1, items, identities[0]!);
  first.claim(2, others, identities[1]!);
  second.claim(2, others, identities[1]!);
  for (const client of [first, second]) client.send({ kind: "resume" });
  await loadsAnew(world, first);
  for (const client of [first, second]) {
    await client.awaitXid(3, last);
    assert.deepEqual(
      shownCommits(client, 2).map(({ operations }) => operations.map(keyOf)),
      [["1"], ["2"]],
    );
    const resyncs = client.received.filter((one) => "control" in one && one.control.kind === "resync");
    assert.equal(resyncs.length, client === first ? 1 : 0);
  }
  assert.ok(first.received.some((one) => "control" in one && one.control.kind === "rewind"));
  await showsAll(quick, await world.transaction("insert into items values (1002, 'more')"));
});

interface Writing {
  readonly world: Running;
  /** Shows all that is written. */
  readonly quick: RawClient;
  /** A row of its own; gives its xid. */
  write(): Promise<string>;
}

async function withWriter(t: TestContext, log: { maxBytes?: number }): Promise<Writing> {
  const world = await running(
    { log: { segmentBytes: 64 * 1024, tailBytes: MiB, ...log }, limits: { backlogBytesPerConnection: 64 * 1024 } },
    "create table items (id int primary key, v text); alter table items alter v set storage external",
  );
  t.after(() => world.close());
  let id = 0;
  const quick = await world.greeted();
  await quick.load(1, items);
  const write = async (): Promise<string> => {
    const xid = await world.transaction(`insert into items values (${++id}, repeat('x', ${MiB / 4}))`);
    // A few of these are all that the log keeps, and more than a connection may have waiting: before the next, it has this one.
    await quick.awaitXid(1_000 + id, xid);
    return xid;
  };
  return { world, quick, write };
}

/** With a client that stopped reading and needs the log's files. */
async function fallenBehind(t: TestContext, log: { maxBytes?: number }): Promise<Writing & { slow: RawClient }> {
  const { world, quick, write } = await withWriter(t, log);
  const slow = await world.greeted();
  await slow.load(1, items);
  slow.socket.pause();
  while ((await world.metric("walcast_slow_consumers_total")) === 0) await write();
  for (let i = 0; i < rowsThatWait; i++) await write();
  return { world, slow, quick, write };
}

async function loadsAnew(world: Running, client: RawClient): Promise<void> {
  const { id, cause, purge } = await client.control("resync");
  assert.deepEqual([id, cause.code, purge], [1, "position_too_old", undefined]);
  const { lines, commits } = await client.joined(1);
  const { rows } = await world.db.query("select id::text from items order by items.id");
  const shown = [...rowsOf(lines).map(([key]) => key), ...commits.flatMap(({ operations }) => operations.map(keyOf))];
  assert.deepEqual(
    shown.map(Number).sort((a, b) => a - b),
    rows.map((row) => Number((row as { id: string }).id)),
  );
}

async function showsAll(client: RawClient, xid: string): Promise<void> {
  await client.awaitXid(1, xid);
  const keys = shownCommits(client, 1).flatMap(({ operations }) => operations.map(keyOf));
  assert.deepEqual(
    keys.map(Number),
    Array.from({ length: keys.length }, (_, i) => i + 1),
  );
  assert.equal(
    client.received.some((one) => "control" in one && one.control.kind === "resync"),
    false,
  );
}

function keyOf(operation: { readonly kind: string }): unknown {
  assert.equal(operation.kind, "insert");
  return (operation as { row?: readonly unknown[] }).row![0];
}

/** One byte in each file of such a name, in the middle of rows. */
async function damage(dataDir: string, extension: string, at: number): Promise<void> {
  const names = (await readdir(dataDir, { recursive: true })).filter((name) => name.endsWith(extension));
  assert.ok(names.length > 0);
  for (const name of names) {
    const file = await open(join(dataDir, name), "r+");
    await file.write("?", at);
    await file.close();
  }
}
