/** DDL does not wait for a long COPY of ours. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import pg from "pg";
import { queryConfig } from "../../engine/changes/connection.ts";
import { giveWay, snapshotApplication } from "../../engine/changes/give-way.ts";
import { testDatabase } from "../support/postgres.ts";

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
  const ddl = db.query("alter table wanted add column v int");
  const isWaiting = async (): Promise<boolean> =>
    (await db.query("select from pg_locks where not granted and relation = 'wanted'::regclass")).rowCount === 1;
  while (!(await isWaiting()));

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
  await db.query("select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep%'");
  await Promise.all([elsewhere, stranger].map(({ client }) => client.end()));
});
