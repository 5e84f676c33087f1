/** DDL does not wait for a long COPY of ours. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import pg from "pg";
import { queryConfig } from "../../engine/changes/connection.ts";
import { giveWay, snapshotApplication } from "../../engine/changes/give-way.ts";
import { running } from "../sockets/running.ts";
import { testDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const log = pino({ level: "silent" });

test("a snapshot that DDL waits for is cancelled, and no other reader, nor one that nobody waits for", async (t) => {
  const db = await testDatabase(t);
  await db.query("create table wanted (id int primary key); create table other (id int primary key)");
  const reader = async (application: string, table: string): Promise<{ over: Promise<unknown>; client: pg.Client }> => {
    const client = new pg.Client(queryConfig(db.url, application));
    client.on("error", () => {});
    await client.connect();
    await client.query(`begin; lock table public.${table} in access share mode`);
    return { client, over: client.query("select pg_sleep(60)").catch((error: unknown) => error) };
  };
  const inTheWay = await reader(snapshotApplication, "wanted");
  const elsewhere = await reader(snapshotApplication, "other");
  const stranger = await reader("somebody", "other");
  const reading = "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
  await until(async () => (await db.query(reading)).rowCount === 3);
  const ddl = db.query("alter table wanted add column v int");
  // For a moment a lock is waited for and it is not known since when.
  const waiting = "select from pg_locks where not granted and relation = 'wanted'::regclass and waitstart is not null";
  const isWaiting = async (): Promise<boolean> => (await db.query(waiting)).rowCount === 1;
  await until(isWaiting);

  await giveWay(db.pool, 60_000, log);
  assert.equal(await isWaiting(), true, "it has not waited long enough");
  await giveWay(db.pool, 0, log);
  assert.equal(((await inTheWay.over) as pg.DatabaseError).code, "57014");
  await inTheWay.client.end();
  await ddl;

  const { rows } = await db.query("select state from pg_stat_activity where pid = any($1)", [
    [elsewhere, stranger].map(({ client }) => (client as unknown as { processID: number }).processID),
  ]);
  assert.deepEqual(rows, [{ state: "active" }, { state: "active" }]);
  await db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'select pg_sleep%'",
  );
  await Promise.all([elsewhere, stranger].map(({ client }) => client.end()));
});

const waitingSnapshots =
  "select pid from pg_stat_activity a join pg_locks l using (pid) where application_name = $1 and datname = current_database() and not l.granted";

test("a load that stands in the way of DDL is cancelled, and begins again after it", async (t) => {
  const server = await running({}, "create table held (id int primary key); insert into held values (1)");
  t.after(() => server.close());
  const client = await server.greeted();
  await client.load(1, { table: "held", where: "id = 0" });
  const locking = await server.db.pool.connect();
  await locking.query("begin; lock table held in access exclusive mode");
  client.subscribe(2, { table: "held" });
  let waiting: { pid: number } | undefined;
  while (!waiting)
    ({
      rows: [waiting],
    } = await server.db.query(waitingSnapshots, [snapshotApplication]));
  // It has the lock as soon as nobody else has, and does not get on.
  process.kill(waiting.pid, "SIGSTOP");
  let ddl: Promise<unknown>;
  try {
    await locking.query("rollback");
    ddl = locking.query("alter table held add column v int default 7");
    while (!server.logged.some((line) => line.includes("a snapshot gives way"))) await delay(20);
  } finally {
    process.kill(waiting.pid, "SIGCONT");
  }
  await ddl;
  locking.release();
  assert.deepEqual((await client.joined(2)).lines, ["1\t7"]);
});
