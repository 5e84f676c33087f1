import assert from "node:assert/strict";
import { test } from "node:test";
import { testCluster, testDatabase } from "./postgres.ts";

test("two test databases do not see each other, and dropping one ends its connections", async (t) => {
  const [one, other] = [await testDatabase(t), await testDatabase(t)];
  await one.query("create table mine (id int)");
  assert.deepEqual((await other.query("select to_regclass('mine') as mine")).rows, [{ mine: null }]);
  await one.drop();
  assert.equal((await other.query("select 1 from pg_database where datname = $1", [one.name])).rowCount, 0);
});

test("a database with a logical slot can be dropped", async (t) => {
  const { query, drop, name } = await testDatabase(t);
  await query("select pg_create_logical_replication_slot($1, 'pgoutput')", [name]);
  await drop();
  const { query: ask } = await testDatabase(t);
  assert.equal((await ask("select 1 from pg_replication_slots where slot_name = $1", [name])).rowCount, 0);
});

test("a cluster of one's own restarts on the same port with its rows", async (t) => {
  const cluster = await testCluster({ work_mem: "5MB" }, t);
  await cluster.query("create table kept as select current_setting('work_mem') as mem");
  await cluster.stop();
  await assert.rejects(cluster.query("select 1"), { code: "ECONNREFUSED" });
  await cluster.start();
  assert.deepEqual((await cluster.query("select mem from kept")).rows, [{ mem: "5MB" }]);
});
