/** A database is brought to where it can be streamed, by anybody who may, as often as they like. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { pino } from "pino";
import { prepareDatabase } from "../../engine/changes/setup.ts";
import { RawClient, rowsOf } from "../sockets/raw-client.ts";
import { type TestDatabase, testCluster, testDatabase } from "../support/postgres.ts";
import { engines } from "./returning.ts";

const log = pino({ level: "silent" });

/** Dropped with the slots that are left in it. */
async function databaseOf(t: TestContext): Promise<TestDatabase> {
  return testDatabase({ after: (release) => t.after(release) });
}

async function state(db: TestDatabase): Promise<unknown> {
  const { rows } = await db.query(`select
    (select json_agg(evtname order by evtname) from pg_event_trigger) as triggers,
    (select json_agg(json_build_array(pubname, schemaname, tablename) order by 1, 2, 3) from pg_publication_tables) as published,
    (select json_agg(json_build_array(slot_name, plugin, temporary) order by slot_name) from pg_replication_slots where database = current_database()) as slots,
    (select json_agg(name order by name) from walcast.kysely_migration) as migrations`);
  return rows[0];
}

test("it is made once, and again it is found", async (t) => {
  const db = await databaseOf(t);
  const options = { databaseUrl: db.url, publication: 'a "publication"', slot: db.name, log };
  const { messagePrefix, ...prepared } = await prepareDatabase(options);
  assert.deepEqual(prepared, { slotIsNew: true, eventTriggers: true });
  assert.match(messagePrefix, /^walcast\.message\.[0-9a-f]{64}$/);
  const made = await state(db);
  assert.deepEqual(await prepareDatabase(options), { slotIsNew: false, eventTriggers: true, messagePrefix });
  assert.deepEqual(await state(db), made);
  assert.deepEqual((made as { published: unknown }).published, [['a "publication"', "walcast", "schema_changes"]]);
});

test("several engines that start at once on an empty database all succeed, and one of them makes the slot", async (t) => {
  const db = await databaseOf(t);
  const prepared = await Promise.all(
    ["", "", "", "_other"].map((suffix) =>
      prepareDatabase({ databaseUrl: db.url, publication: "walcast", slot: `${db.name}${suffix}`, log }),
    ),
  );
  assert.deepEqual(prepared.slice(0, 3).filter(({ slotIsNew }) => slotIsNew).length, 1);
  assert.equal(prepared[3]!.slotIsNew, true);
});

test("a Postgres that does not write logical WAL is refused with the statement to run", async (t) => {
  const cluster = await testCluster({ wal_level: "replica" }, t);
  await assert.rejects(prepareDatabase({ databaseUrl: cluster.url, publication: "walcast", slot: "walcast", log }), {
    code: "database_unsuitable",
    message: /found replica/,
    hint: /wal_level = logical/,
  });
});

test("a slot that is not ours is refused", async (t) => {
  const db = await databaseOf(t);
  const other = await databaseOf(t);
  await other.query(`select pg_create_logical_replication_slot('${db.name}_other', 'pgoutput')`);
  await db.query(`select pg_create_physical_replication_slot('${db.name}_physical')`);
  const options = { databaseUrl: db.url, publication: "walcast", log };
  await assert.rejects(prepareDatabase({ ...options, slot: `${db.name}_other` }), {
    code: "database_unsuitable",
    message: new RegExp(other.name),
    hint: /slot/,
  });
  await assert.rejects(prepareDatabase({ ...options, slot: `${db.name}_physical` }), {
    code: "database_unsuitable",
    message: /physical/,
  });
  await db.query(`select pg_drop_replication_slot('${db.name}_physical')`);
});

test("a database that cannot be reached is refused without its password", async () => {
  const refused = prepareDatabase({
    databaseUrl: "postgresql://someone:pa55word@127.0.0.1:1/none",
    publication: "walcast",
    slot: "walcast",
    log,
  });
  await assert.rejects(
    refused,
    (error: Error & { code: string }) =>
      error.code === "database_unreachable" &&
      !JSON.stringify(error).includes("pa55word") &&
      !error.message.includes("pa55word"),
  );
});

/** Owns its database and may replicate, and no more. */
async function ordinaryRole(t: TestContext): Promise<{ db: TestDatabase; url: string }> {
  const released: (() => Promise<void>)[] = [];
  const db = await testDatabase({ after: (release) => void released.push(release) });
  const role = db.name;
  await db.query(
    `create role ${role} login replication password 'p'; alter database ${db.name} owner to ${role}; alter schema public owner to ${role}`,
  );
  t.after(async () => {
    for (const release of released) await release();
    const cleaner = await testDatabase({ after: (release) => t.after(release) });
    await cleaner.query(`drop role ${role}`);
  });
  const url = new URL(db.url);
  url.username = role;
  url.password = "p";
  return { db, url: url.href };
}

test("a role without superuser, hence without event triggers, learns of schema changes all the same", async (t) => {
  const { db, url } = await ordinaryRole(t);
  await db.query(
    `set role ${db.name}; create table items (id int primary key, v text); insert into items values (1, 'a'); reset role`,
  );
  const engine = await (await engines(url, db.name, t)).start();
  try {
    const client = await RawClient.greeted(engine.url);
    await client.load(1, { table: "items" });
    await db.query("alter table items add column extra int default 7");
    // Another subscription finds out first: it is served, and the one that is live hears of it at once.
    client.subscribe(2, { table: "items", where: "id < 100" });
    await client.control("resync", ({ id }) => id === 1);
    assert.deepEqual(rowsOf((await client.joined(1)).lines), [["1", "a", "7"]]);
    await db.query("insert into items values (2, 'b', 8)");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "insert", row: ["2", "b", "8"] }]);

    // With nobody there, nobody polls: what was known of the table is found out of date by the next who asks.
    for (const id of [1, 2]) client.send({ kind: "unsubscribe", id });
    await client.control("unsubscribed", ({ id }) => id === 2);
    await db.query("alter table items drop column v");
    assert.deepEqual(rowsOf((await client.load(3, { table: "items" })).lines), [
      ["1", "7"],
      ["2", "8"],
    ]);

    // And with nothing else happening, the poll.
    await db.query("alter table items rename to things");
    assert.equal((await client.refused(3)).code, "unknown_table");
    await client.close();
  } finally {
    await engine.close();
  }
});

test("a table that the engine's role may not read in full is refused with what to grant", async (t) => {
  const { db, url } = await ordinaryRole(t);
  await db.query(
    `set role ${db.name}; create table guarded (id int primary key); alter table guarded enable row level security, force row level security; reset role`,
  );
  const { start, logged } = await engines(url, db.name, t);
  const engine = await start({ tables: { guarded: { read: true } } });
  try {
    while (!logged.some((line) => /"guarded.*row-level security.*/.test(line)))
      await new Promise((resolve) => setImmediate(resolve));
    const client = await RawClient.greeted(engine.url);
    client.subscribe(1, { table: "guarded" });
    const { code, hint } = await client.refused(1);
    assert.equal(code, "table_unsupported");
    assert.match(hint!, /BYPASSRLS/);
    await client.close();
  } finally {
    await engine.close();
  }
});
