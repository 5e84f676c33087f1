/** What close() promises: every client told, every socket and timer gone, whatever is under way. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test, type TestContext } from "node:test";
import { createEngine, type Engine } from "../../engine/main.ts";
import { engines, goesOn, visit } from "../changes/returning.ts";
import { Silence } from "../changes/silence.ts";
import { lowPort, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { RawClient } from "./raw-client.ts";
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
  await until(async () => (await engineBackends(server)) === 0);
  const [error] = (await once(connect(port, "127.0.0.1"), "error")) as [NodeJS.ErrnoException];
  assert.equal(error.code, "ECONNREFUSED");
  await server.close();
  // The test's own connections to Postgres may end a moment later, too.
  await until(() => resources().length <= idle.length);
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
  await until(() => someLockIsWaitedFor(server.db));
  await server.engine.close();
  await holder.query("rollback");
  holder.release();
  await server.close();
});

test("close while Postgres is away does not wait for it", async (t) => {
  const { engine, silence } = await behindSilence(t);
  silence.close();
  await until(() => engine.health().status !== "live");
  await engine.close();
});

test("close while nothing is heard from Postgres does not wait for it: while it streams", async (t) => {
  const { engine, silence } = await behindSilence(t);
  const client = await RawClient.greeted(engine.url);
  await client.load(1, { table: "items" });
  silence.fall();
  await engine.close();
  await silence.isLeft();
});

test("close while nothing is heard from Postgres does not wait for it: while a shape loads", async (t) => {
  const { db, engine, silence } = await behindSilence(t);
  const client = await RawClient.greeted(engine.url);
  await client.load(1, { table: "items" });
  const holder = await db.pool.connect();
  await holder.query("begin; lock table items in access exclusive mode");
  client.subscribe(2, { table: "items", where: "id > 5" });
  await until(() => someLockIsWaitedFor(db));
  silence.fall();
  await engine.close();
  await holder.query("rollback");
  holder.release();
  await silence.isLeft();
});

for (const name of ["walcast claim", "walcast setup", "walcast history", "walcast"])
  test(`close while nothing is heard from Postgres does not wait for it: while it connects as "${name}"`, async (t) => {
    const { db, engine, silence } = await behindSilence(t);
    const swallowed = silence.swallow(name);
    await db.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name in ('walcast', 'walcast claim')",
    );
    await swallowed;
    silence.fall();
    await engine.close();
    await silence.isLeft();
  });

test("a server that is not heard for wal_sender_timeout is gone: the engine connects anew, and nobody misses a row", async (t) => {
  const { db, engine, silence, logged } = await behindSilence(t, "500ms");
  const visited = await visit(engine);
  silence.fall();
  await db.query("insert into items values (2)");
  assert.deepEqual(await goesOn(engine, visited, 1), [["2"]]);
  assert.ok(logged.some((line) => line.includes("nothing was heard from Postgres for wal_sender_timeout")));
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

/** An engine that reaches a table `items` with one row through what can fall silent. */
async function behindSilence(
  t: TestContext,
  walSenderTimeout = "60s",
): Promise<{ db: TestDatabase; engine: Engine; silence: Silence; logged: readonly string[] }> {
  const released: (() => Promise<void>)[] = [];
  const db = await testDatabase({ after: (release) => void released.push(release) });
  await db.query("create table items (id int primary key); insert into items values (1)");
  await db.query(`alter database ${db.name} set wal_sender_timeout = '${walSenderTimeout}'`);
  const silence = await Silence.before(db.url, t);
  const { start, logged } = await engines(silence.url, db.name, t);
  t.after(async () => {
    for (const release of released) await release();
  });
  return { db, engine: await start(), silence, logged };
}

async function someLockIsWaitedFor(db: TestDatabase): Promise<boolean> {
  const { rowCount } = await db.query(
    "select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())",
  );
  return rowCount! > 0;
}

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
