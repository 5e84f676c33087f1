/** What somebody does to the publication, or to a table's place in it: nobody misses what was written without it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { RawClient, rowsOf } from "../sockets/raw-client.ts";
import { testCluster } from "../support/postgres.ts";
import { database, engines, goesOn, healthSays, setup, shape, startsAnew, visit } from "./returning.ts";

test("a publication that is dropped under a running engine is made anew, and nobody misses what was written without it", async (t) => {
  const { db, shop } = await database(t);
  const engine = await shop.start();
  const visited = await visit(engine);
  const live = await RawClient.greeted(engine.url);
  await live.load(1, { table: "items" });
  await db.query("drop publication walcast");
  await db.query("insert into items values (2)");
  assert.equal((await live.closed).reason, "resync");
  await healthSays(engine.url, /"live"/);
  const { cause, rows } = await startsAnew(engine, visited);
  assert.deepEqual([cause.code, rows], ["history_changed", [["1"], ["2"]]]);
  const again = await visit(engine);
  await db.query("insert into items values (3)");
  assert.deepEqual(await goesOn(engine, again, 1), [["3"]]);
});

for (const made of ["by the engine", "by somebody else"])
  test(`a publication that is dropped while no engine is there, and made anew ${made}, is another history`, async (t) => {
    const { db, shop } = await database(t);
    const first = await shop.start();
    const visited = await visit(first);
    await first.close();
    await db.query("insert into items values (2)");
    await db.query("drop publication walcast");
    await db.query("insert into items values (3)");
    if (made === "by somebody else") await db.query("create publication walcast for table items");
    await db.query("insert into items values (4)");
    const second = await shop.start();
    const { cause, rows } = await startsAnew(second, visited);
    assert.deepEqual([cause.code, rows], ["history_changed", [["1"], ["2"], ["3"], ["4"]]]);
    const again = await visit(second);
    await db.query("insert into items values (5)");
    assert.deepEqual(await goesOn(second, again, 1), [["5"]]);
  });

for (const isThere of [true, false])
  test(`a table that is taken out of the publication ${isThere ? "under a running engine" : "while no engine is there"} is loaded anew, and nothing else`, async (t) => {
    const { db, shop } = await database(t);
    await db.query("create table others (id int primary key)");
    let engine = await shop.start();
    let client = await RawClient.greeted(engine.url);
    const identities = [(await client.load(1, shape)).table.identity];
    identities.push((await client.load(2, { table: "others" })).table.identity);
    if (!isThere) {
      await client.close();
      await engine.close();
    }
    await db.query("alter publication walcast drop table items; insert into items values (2)");
    if (!isThere) {
      await db.query("alter publication walcast add table items");
      engine = await shop.start();
      client = await RawClient.greeted(engine.url, undefined, client.left);
      assert.equal(client.welcome!.resumes, true);
      client.claim(1, shape, identities[0]!);
      client.claim(2, { table: "others" }, identities[1]!);
      client.send({ kind: "resume" });
    }
    const { id, purge } = await client.control("resync");
    assert.deepEqual([id, purge], [1, undefined]);
    const { lines, commits } = await client.joined(1);
    assert.deepEqual([rowsOf(lines), commits], [[["1"], ["2"]], []]);
    await db.query("insert into items values (3)");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "insert", row: ["3"] }]);
    await db.query("insert into others values (1)");
    assert.deepEqual((await client.commit(2)).operations, [{ kind: "insert", row: ["1"] }]);
    const resyncs = client.received.filter((one) => "control" in one && one.control.kind === "resync");
    assert.equal(resyncs.length, 1);
    await client.close();
  });

test("a table is not shown before it is published again, also where it was taken out streams by before that is visible", async (t) => {
  // A commit that waits for a standby is streamed, and visible to nobody.
  const cluster = await testCluster({ synchronous_standby_names: "nobody", synchronous_commit: "local" }, t);
  await cluster.query(setup);
  const shop = await engines(cluster.url, "unseen", t);
  const client = await RawClient.greeted((await shop.start()).url);
  await client.load(1, shape);
  const [taking, locking] = [await cluster.pool.connect(), await cluster.pool.connect()];
  const { rows } = await taking.query<{ pid: number }>("select pg_backend_pid() as pid");
  await taking.query("set synchronous_commit = on; begin; alter publication walcast drop table items");
  const taken = taking.query("commit");
  await client.control("resync");
  // Whoever reads now waits behind this one, which waits behind that one.
  const locked = locking.query("begin; lock table items in access exclusive mode");
  const waits = "select from pg_locks where relation = 'items'::regclass and mode = 'AccessShareLock' and not granted";
  while ((await cluster.query(waits)).rowCount === 0) await delay(10);
  await cluster.query("select pg_cancel_backend($1)", [rows[0]!.pid]);
  await Promise.all([taken, locked]);
  await locking.query("commit");
  for (const session of [taking, locking]) session.release();
  await client.joined(1);
  await cluster.query("insert into items values (2)");
  assert.deepEqual((await client.commit(1)).operations, [{ kind: "insert", row: ["2"] }]);
  await client.close();
});

test("an engine with a publication of its own is another history: what it had not published yet, it does not have", async (t) => {
  const { db, shop, beside } = await database(t);
  const other = await beside(`${db.name}_b`);
  const [a, b] = [await shop.start(), await other.start({ publication: "second" })];
  const visited = await visit(a);
  await db.query("insert into items values (2)");
  const { cause, rows } = await startsAnew(b, visited);
  assert.deepEqual([cause.code, rows], ["history_changed", [["1"], ["2"]]]);
  const again = await visit(b);
  await b.close();
  await db.query("insert into items values (3)");
  assert.deepEqual(await goesOn(await other.start({ publication: "second" }), again, 1), [["3"]]);
});

test("two engines that see their publication dropped are two histories: a client loads at each move, and misses nothing", async (t) => {
  const { db, shop, beside } = await database(t);
  const other = await beside(`${db.name}_b`);
  const [a, b] = [await shop.start(), await other.start()];
  const live = [await RawClient.greeted(a.url), await RawClient.greeted(b.url)];
  let visited = await visit(a);
  await db.query("drop publication walcast");
  await db.query("insert into items values (2)");
  for (const client of live) assert.equal((await client.closed).reason, "resync");
  let id = 2;
  for (const engine of [a, b, a, b]) {
    await healthSays(engine.url, /"live"/);
    const { cause, rows } = await startsAnew(engine, visited);
    assert.deepEqual([cause.code, rows], ["history_changed", Array.from({ length: id }, (_, i) => [String(i + 1)])]);
    visited = await visit(engine);
    await db.query("insert into items values ($1)", [++id]);
    assert.deepEqual(await goesOn(engine, visited, 1), [[String(id)]], "it stays where it is");
  }
});
