/** What close() promises: every client told, every socket and timer gone, whatever is under way. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { createEngine } from "../../engine/main.ts";
import { engines } from "../changes/returning.ts";
import { lowPort, testCluster } from "../support/postgres.ts";
import { type Running, running } from "./running.ts";

test("close tells every client with 1001 and leaves no socket, no timer and no Postgres connection", async () => {
  const idle = resources();
  const server = await running({ positionEveryMs: 20 }, "create table items (id int primary key)");
  const clients = await Promise.all([1, 2, 3].map(() => server.greeted()));
  for (const client of clients) await client.load(1, { table: "items" });
  const port = Number(new URL(server.engine.url).port);
  await server.engine.close();
  for (const client of clients) assert.deepEqual(await client.closed, { code: 1001, reason: "going_away" });
  // A backend ends a moment after its socket.
  while ((await engineBackends(server)) > 0);
  const [error] = (await once(connect(port, "127.0.0.1"), "error")) as [NodeJS.ErrnoException];
  assert.equal(error.code, "ECONNREFUSED");
  await server.close();
  assert.deepEqual(resources(), idle);
});

test("close twice is close once", async () => {
  const server = await running();
  await Promise.all([server.engine.close(), server.engine.close()]);
  await server.close();
});

test("close does not wait for a lock that a snapshot waits for", async () => {
  const server = await running({}, "create table items (id int primary key)");
  const client = await server.greeted();
  await client.load(1, { table: "items" });
  const holder = await server.db.pool.connect();
  await holder.query("begin; lock table items in access exclusive mode");
  client.subscribe(2, { table: "items", where: "id > 5" });
  for (;;) {
    const { rows } = await server.db.query(
      "select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())",
    );
    if (rows.length > 0) break;
  }
  await server.engine.close();
  await holder.query("rollback");
  holder.release();
  await server.close();
});

test("close while Postgres is away does not wait for it", async (t) => {
  const cluster = await testCluster({}, t);
  const engine = await (await engines(cluster.url, "away", t)).start();
  await cluster.stop();
  while (engine.health().status === "live") await new Promise((resolve) => setImmediate(resolve));
  await engine.close();
  await cluster.start();
});

test("a start that fails says what to do", async () => {
  const databaseUrl = `postgresql://nobody@127.0.0.1:${lowPort()}/none`;
  await assert.rejects(createEngine({ databaseUrl, port: 0, logLevel: "silent" }), {
    code: "database_unreachable",
    hint: /DATABASE_URL/,
  });
});

test("a port that is taken is refused by name, and the engine that has it goes on", async () => {
  const server = await running();
  const port = Number(new URL(server.engine.url).port);
  await assert.rejects(
    createEngine({ databaseUrl: server.db.url, port, tables: "all", slot: `${server.db.name}_2`, logLevel: "silent" }),
    { code: "port_in_use", message: new RegExp(String(port)) },
  );
  assert.equal((await fetch(`${server.engine.url}/health`)).status, 200);
  await server.close();
});

async function engineBackends({ db }: Running): Promise<number> {
  const { rowCount } = await db.query(
    "select from pg_stat_activity where datname = current_database() and application_name like 'walcast%' and pid <> pg_backend_pid()",
  );
  return rowCount!;
}

/** What would keep the process alive, apart from the test runner's own. */
function resources(): string[] {
  return process
    .getActiveResourcesInfo()
    .filter((name) => name === "TCPSocketWrap" || name === "Timeout")
    .sort();
}
