/** What happens to a slot while nobody looks: each is noticed at the next connection, and costs no more than it must. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "pg";
import { breaches } from "../../engine/invariants.ts";
import { DurableLog } from "../../engine/log/durable.ts";
import { createEngine } from "../../engine/main.ts";
import type { Lsn } from "../../engine/protocol.ts";
import { RawClient } from "../sockets/raw-client.ts";
import { dropSlot, lowPort, testCluster, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { isNewest } from "../versions/programs.ts";
import { until } from "../support/until.ts";
import { database, engines, goesOn, healthSays, lsnOf, setup, startsAnew, visit } from "./returning.ts";

test("an engine that was stopped goes on where it was, and so does its client, also where only others wrote", async (t) => {
  const { db, shop } = await database(t);
  const first = await shop.start();
  const visited = await visit(first);
  await first.close();
  // Positions that no commit of ours is at: a keepalive will name one, and it is acknowledged.
  await db.query("create table unpublished (id int); insert into unpublished values (1)");
  const second = await shop.start();
  await db.query("select pg_logical_emit_message(false, 'other', 'x')");
  await until(async () => (await confirmed(db)) > visited.left.position);
  await second.close();
  const third = await shop.start();
  await db.query("insert into items values (2)");
  assert.deepEqual(await goesOn(third, visited, 1), [["2"]]);
  assert.equal(
    shop.logged.some((line) => line.includes("load their rows again")),
    false,
  );
});

test("what Postgres was told to forget is not taken back: the stream ends over it, and is made anew", async (t) => {
  const { db, shop } = await database(t);
  const engine = await shop.start();
  await db.query("insert into items values (2)");
  const told = lsnOf((await db.query("select pg_current_wal_lsn()::text as lsn")).rows[0].lsn);
  await until(async () => (await confirmed(db)) >= told);
  const before = await confirmed(db);
  const recorded = t.mock.getter(DurableLog.prototype, "recorded", () => 1n as Lsn);
  await db.query("insert into items values (3)");
  // Meanwhile Postgres is asked again and again.
  await until(async () => {
    assert.ok((await confirmed(db)) >= before);
    return shop.logged.some((line) => line.includes("acknowledged_durable"));
  });
  recorded.mock.restore();
  assert.ok(breaches.get("acknowledged_durable")! > 0);
  await healthSays(engine.url, /"live"/);
  const { left } = await visit(engine);
  await until(async () => (await confirmed(db)) >= left.position);
});

test("a slot that was dropped while the engine was down is made anew, and clients from before load again", async (t) => {
  const { db, shop } = await database(t);
  const first = await shop.start();
  const visited = await visit(first);
  await first.close();
  await dropSlot(db, db.name);
  await db.query("insert into items values (2)");
  const second = await shop.start();
  const { cause, rows } = await startsAnew(second, visited);
  assert.equal(cause.code, "position_too_old");
  assert.deepEqual(rows, [["1"], ["2"]]);
  assert.ok(
    shop.logged.some((line) => /the slot was made anew or moved to .*clients load their rows again/.test(line)),
  );
});

test("a slot that somebody moved on proves a hole: the log starts behind it", async (t) => {
  const { db, shop } = await database(t);
  const first = await shop.start();
  const visited = await visit(first);
  await first.close();
  await db.query("insert into items values (2)");
  await db.query("select pg_replication_slot_advance($1, pg_current_wal_lsn())", [db.name]);
  const second = await shop.start();
  const { cause, rows } = await startsAnew(second, visited);
  assert.deepEqual([cause.code, rows], ["position_too_old", [["1"], ["2"]]]);
  const again = await visit(second);
  await db.query("insert into items values (3)");
  assert.deepEqual(await goesOn(second, again, 1), [["3"]], "who came after the hole goes on");
});

const small = { max_slot_wal_keep_size: "1MB", min_wal_size: "32MB", max_wal_size: "32MB" };

for (const [why, flags, whileAway, mend] of [
  ["for its WAL, while no engine was there", small, true, "raise max_slot_wal_keep_size"],
  ["for its WAL, while the engine did not keep up", small, false, "raise max_slot_wal_keep_size"],
  ["for nobody used it", { idle_replication_slot_timeout: "1s" }, true, "raise idle_replication_slot_timeout"],
] as const)
  test(`a slot that Postgres has given up ${why} is made anew, and clients from before load again`, async (t) => {
    if (mend.includes("idle") && !isNewest) return t.skip("from PostgreSQL 18 on");
    const cluster = await testCluster(flags, t);
    await cluster.query(setup);
    const shop = await engines(cluster.url, "lost", t);
    const first = await shop.start();
    const visited = await visit(first);
    const live = await RawClient.greeted(first.url);
    const pending = t.mock.getter(DurableLog.prototype, "pendingBytes", () => (whileAway ? 0 : Infinity));
    if (whileAway) await first.close();
    await until(async () => {
      await cluster.query("insert into items select max(id) + 1 from items");
      // A new file each time is what the other two are about, and 16 MB to write.
      if (flags === small) await cluster.query("select pg_switch_wal()");
      await cluster.query("checkpoint");
      const { rows } = await cluster.query("select wal_status from pg_replication_slots where slot_name = 'lost'");
      return (rows[0] as { wal_status: string }).wal_status === "lost";
    });
    pending.mock.restore();
    const second = whileAway ? await shop.start() : first;
    assert.equal((await live.closed).reason, whileAway ? "going_away" : "resync");
    const { cause, rows } = await startsAnew(second, visited);
    const { rows: expected } = await cluster.query("select id::text from items order by items.id");
    assert.equal(cause.code, "position_too_old");
    assert.deepEqual(
      rows.toSorted(byNumber),
      (expected as { id: string }[]).map(({ id }) => [id]),
    );
    assert.ok(shop.logged.some((line) => line.includes(mend)));
    const again = await visit(second);
    await cluster.query("insert into items values (-1)");
    assert.deepEqual(await goesOn(second, again, 1), [["-1"]]);
  });

test("a database that takes the place of another is another history", async (t) => {
  const cluster = await testCluster({}, t);
  const url = new URL(cluster.url);
  url.pathname = "/shop";
  const shop = await engines(url.href, "shop", t);
  await cluster.query("create database shop");
  await once(url.href, setup);
  const first = await shop.start();
  const visited = await visit(first);
  await first.close();
  await dropSlot(cluster, "shop");
  await cluster.query("drop database shop with (force)");
  await cluster.query("create database shop");
  await once(url.href, "create table items (id int primary key); insert into items values (7)");
  const { cause, rows } = await startsAnew(await shop.start(), visited);
  assert.deepEqual([cause.code, rows], ["history_changed", [["7"]]]);
});

test("a second engine on the slot waits, and says so, until the first has ended; its client goes on", async (t) => {
  const { db, shop } = await database(t);
  const first = await shop.start();
  const visited = await visit(first);
  const port = lowPort();
  // On the same files, too, as in a deploy that replaces a process.
  const starting = shop.start({ port });
  await healthSays(`http://127.0.0.1:${port}`, /another engine streams the slot .*Postgres process \d+/);
  const refused = new RawClient(`http://127.0.0.1:${port}`);
  assert.equal((await refused.closed).code, 1006, "there is nothing to connect to yet");
  await db.query("insert into items values (2)");
  await first.close();
  const second = await starting;
  assert.deepEqual(await goesOn(second, visited, 1), [["2"]]);
});

test("two engines with slots of their own are one history: a client moves from one to the other", async (t) => {
  const { db, shop, beside } = await database(t);
  const other = await beside(`${db.name}_b`);
  const [a, b] = [await shop.start(), await other.start()];
  const visited = await visit(a);
  await db.query("insert into items values (2)");
  assert.deepEqual(await goesOn(b, visited, 1), [["2"]]);
});

test("two engines whose slots were both dropped are still one history, which begins later for each", async (t) => {
  const { db, shop, beside } = await database(t);
  const other = await beside(`${db.name}_b`);
  const before = [await shop.start(), await other.start()];
  const visited = await visit(before[0]!);
  for (const engine of before) await engine.close();
  for (const slot of [db.name, `${db.name}_b`]) await dropSlot(db, slot);
  await db.query("insert into items values (2)");
  const [a, b] = [await shop.start(), await other.start()];
  for (const engine of [a, b]) {
    const { cause, rows } = await startsAnew(engine, visited);
    assert.deepEqual([cause.code, rows], ["position_too_old", [["1"], ["2"]]]);
  }
  const again = await visit(a);
  await db.query("insert into items values (3)");
  assert.deepEqual(await goesOn(b, again, 1), [["3"]]);
  assert.deepEqual(await goesOn(a, await visit(b), 0), []);
});

test("a walsender of ours that nobody reads any more does not keep the engine from its slot", async (t) => {
  const { db, shop } = await database(t);
  const first = await shop.start();
  await first.close();
  const left = new Client({
    connectionString: db.url,
    application_name: "walcast",
    replication: "database",
  } as ConstructorParameters<typeof Client>[0]);
  left.on("error", () => {});
  await left.connect();
  const over = assert.rejects(
    left.query(`START_REPLICATION SLOT ${db.name} LOGICAL 0/0 (proto_version '1', publication_names 'walcast')`),
  );
  await until(
    async () =>
      (await db.query("select from pg_replication_slots where slot_name = $1 and active", [db.name])).rowCount === 1,
  );
  const second = await shop.start();
  assert.equal(second.health().status, "live");
  await over;
});

test("a role that may not replicate any more is a reason with its mend, and the engine goes on when it may again", async (t) => {
  const { db, beside } = await database(t);
  const role = db.name;
  await db.query(`create role ${role} superuser login replication password 'p'`);
  const url = new URL(db.url);
  url.username = role;
  url.password = "p";
  const shop = await beside(`${db.name}_r`, url.href);
  const engine = await shop.start();
  const visited = await visit(engine);
  await db.query(`alter role ${role} nosuperuser noreplication`);
  await endWalsender(db, `${db.name}_r`);
  await healthSays(engine.url, /"reconnecting".*ALTER ROLE … REPLICATION/);
  await db.query("insert into items values (2)");
  await db.query(`alter role ${role} superuser replication`);
  await healthSays(engine.url, /"live"/);
  assert.deepEqual(await goesOn(engine, visited, 1), [["2"]]);
  await engine.close();
  await dropSlot(db, `${db.name}_r`);
  await db.query(`reassign owned by ${role} to postgres; drop owned by ${role}; drop role ${role}`);
});

test("a server with no connection to spare is waited for, at the start too", async (t) => {
  const cluster = await testCluster(
    { max_connections: "14", max_wal_senders: "3", superuser_reserved_connections: "0" },
    t,
  );
  await cluster.query(setup);
  const taken: Client[] = [];
  for (;;) {
    const client = new Client({ connectionString: cluster.url });
    client.on("error", () => {});
    try {
      await client.connect();
    } catch {
      break;
    }
    taken.push(client);
  }
  const shop = await engines(cluster.url, "waits", t);
  const port = lowPort();
  const starting = shop.start({ port });
  await healthSays(`http://127.0.0.1:${port}`, /"starting".*raise max_connections/);
  for (const client of taken) await client.end();
  assert.equal((await starting).health().status, "live");
});

test("a transaction that holds up the making of a slot is named, and once it has ended the engine goes on by itself", async (t) => {
  const cluster = await testCluster({}, t);
  await cluster.query(setup);
  const holder = new Client({ connectionString: cluster.url });
  await holder.connect();
  await holder.query("begin; insert into items values (2)");
  const { rows } = await holder.query<{ pid: number }>("select pg_backend_pid() as pid");
  const shop = await engines(cluster.url, "held_up", t);
  const port = lowPort();
  const starting = shop.start({ port });
  await healthSays(`http://127.0.0.1:${port}`, new RegExp(`"starting".*waits for .* pid ${rows[0]!.pid} since`));
  await holder.query("commit");
  await holder.end();
  const engine = await starting;
  assert.equal(engine.health().status, "live");
  await visit(engine);
});

test("a quiet database beside a busy one does not pin WAL", async (t) => {
  const { db, shop } = await database(t);
  await shop.start();
  const busy = await testDatabase(t);
  await busy.query("create table noise (v text)");
  await busy.query("insert into noise select repeat('x', 1000) from generate_series(1, 1000)");
  const { rows } = await busy.query("select pg_current_wal_lsn()::text as lsn");
  const written = lsnOf((rows[0] as { lsn: string }).lsn);
  await until(async () => (await confirmed(db)) >= written);
});

for (const [timeout, slot, seconds] of [
  ["2s", "two", 3],
  ["0", "never", 1],
] as const)
  test(`wal_sender_timeout = ${timeout}: a load of ${seconds} s goes through one connection`, async (t) => {
    const cluster = await testCluster({ wal_sender_timeout: timeout }, t);
    await cluster.query(setup);
    const shop = await engines(cluster.url, slot, t);
    const engine = await shop.start();
    const client = await RawClient.greeted(engine.url);
    await client.load(1, { table: "items", where: "id < 0" });
    const { rows: before } = await cluster.query("select active_pid from pg_replication_slots where slot_name = $1", [
      slot,
    ]);
    const until = performance.now() + seconds * 1_000;
    for (let id = 2; performance.now() < until; id += 1000)
      await cluster.query(`insert into items select generate_series(${id}, ${id + 999})`);
    await cluster.query("insert into items values (-1)");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "insert", row: ["-1"] }]);
    const { rows: after } = await cluster.query("select active_pid from pg_replication_slots where slot_name = $1", [
      slot,
    ]);
    assert.deepEqual(after, before);
    await client.close();
  });

test("a server without TLS is refused where the URL asks for it, not spoken to in the clear", async (t) => {
  const { db } = await database(t);
  for (const mode of ["require", "verify-full"]) {
    const starting = createEngine({
      databaseUrl: `${db.url}?sslmode=${mode}`,
      port: 0,
      slot: db.name,
      logLevel: "silent",
    });
    await assert.rejects(starting, { code: "database_unreachable", message: /does not support SSL/ });
  }
});

async function endWalsender(db: TestDatabase, slot: string): Promise<void> {
  await db.query("select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1", [
    slot,
  ]);
}

async function confirmed(db: TestDatabase): Promise<bigint> {
  const { rows } = await db.query(
    "select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1",
    [db.name],
  );
  return lsnOf((rows[0] as { lsn: string }).lsn);
}

async function once(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query(sql);
  await client.end();
}

function byNumber(a: unknown, b: unknown): number {
  return Number((a as string[])[0]) - Number((b as string[])[0]);
}
