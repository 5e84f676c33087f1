/** What a break of the connection to Postgres costs: nothing, or, where rows may be missing, everybody's start anew. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { statusUpdate } from "../../engine/changes/replication-protocol.ts";
import { decodeCommits, type Frame, type Lsn } from "../../engine/protocol.ts";
import { RawClient, rowsOf } from "../sockets/raw-client.ts";
import { running } from "../sockets/running.ts";
import { testCluster } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { engines } from "./returning.ts";

test("a status update says to the byte what was received and what may be forgotten", () => {
  const message = statusUpdate(0x1_0000_0005n as Lsn, 0x1_0000_0003n as Lsn, true);
  assert.equal(message.length, 34);
  assert.deepEqual(
    [message[0], message.readBigUInt64BE(1), message.readBigUInt64BE(9), message.readBigUInt64BE(17), message[33]],
    [0x72, 0x1_0000_0005n, 0x1_0000_0003n, 0x1_0000_0003n, 1],
  );
  const quiet = statusUpdate(3n as Lsn, 9n as Lsn, false);
  assert.deepEqual([quiet.readBigUInt64BE(1), quiet[33]], [9n, 0]);
});

test("a replication connection that is cut is made again, and nobody misses a row or gets one twice", async (t) => {
  const server = await running({}, "create table items (id int primary key)");
  t.after(() => server.close());
  const client = await server.greeted();
  await client.load(1, { table: "items" });
  const ids: (string | null | undefined)[] = [];
  for (let id = 1; id <= 60; id++) {
    await server.transaction(`insert into items values (${id})`);
    if (id % 20 === 0)
      await server.db.query(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = current_database()",
      );
  }
  while (ids.length < 60) {
    const frame = await client.frame((one) => one.kind === "commits");
    for (const operation of operationsOf(frame)) ids.push(operation);
  }
  assert.deepEqual(
    ids,
    Array.from({ length: 60 }, (_, i) => String(i + 1)),
  );
});

test("a slot that somebody dropped means that rows may be missing: every client starts anew", async (t) => {
  const server = await running({}, "create table items (id int primary key); insert into items values (1)");
  t.after(() => server.close());
  const client = await server.greeted();
  await client.load(1, { table: "items" });
  for (let dropped = false; !dropped;) {
    await server.db.query(
      "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = current_database() and active",
    );
    const { rowCount } = await server.db
      .query(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = current_database() and not active",
      )
      .catch(() => ({ rowCount: 0 }));
    dropped = rowCount === 1;
  }
  await server.db.query("insert into items values (2)");
  assert.deepEqual(await client.closed, { code: 1001, reason: "resync" });
  const again = await server.greeted();
  assert.deepEqual(rowsOf((await again.load(1, { table: "items" })).lines), [["1"], ["2"]]);
  await server.db.query("insert into items values (3)");
  assert.deepEqual((await again.commit(1)).operations, [{ kind: "insert", row: ["3"] }]);
});

test("while Postgres restarts, clients stay connected, and what they ask for meanwhile is served afterwards", async (t) => {
  const cluster = await testCluster({}, t);
  await cluster.query("create table items (id int primary key); insert into items values (1)");
  const shop = await engines(cluster.url, "restarted", t);
  const engine = await shop.start();
  try {
    const client = await RawClient.greeted(engine.url);
    await client.load(1, { table: "items" });
    const stopped = cluster.stop();
    await until(() => engine.health().status !== "live");
    await stopped;
    client.subscribe(2, { table: "items", where: "id > 0" });
    client.send({ kind: "await", id: 1, position: "FFFFFFFF/0" });
    assert.equal((await client.refused(1)).code, "not_streaming");
    assert.equal((await fetch(`${engine.url}/health`)).status, 503);
    await cluster.start();
    assert.deepEqual((await client.joined(2)).lines, ["1"]);
    await cluster.query("insert into items values (2)");
    const frame = await client.frame((one) => one.kind === "commits");
    assert.deepEqual(new Set(frame.sections.map(({ subscription }) => subscription)), new Set([1, 2]));
    await client.close();
  } finally {
    await engine.close();
  }
});

function operationsOf({ sections }: Frame): (string | null | undefined)[] {
  const commits = sections.flatMap(({ payload }) => decodeCommits(payload));
  return commits.flatMap(({ operations }) =>
    operations.map((operation) => (operation.kind === "insert" ? operation.row[0] : undefined)),
  );
}
