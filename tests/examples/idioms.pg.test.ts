/** The small examples that the README's table links to, run as they stand. Those of topics are in tests/client-sdk/topics.pg.test.ts. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createClient } from "../../client-sdk/index.ts";
import type { Engine } from "../../engine/index.ts";
import { pay, seePaid } from "../../examples/await-your-write/pay.ts";
import { tellReady } from "../../examples/channels/shipping.ts";
import { follow } from "../../examples/durable-streams/orders.ts";
import { goOn } from "../../examples/seeding/page.ts";
import { start } from "../../examples/seeding/server.ts";
import { dropSlot, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const releases: (() => Promise<unknown>)[] = [];
let db: TestDatabase;
let engine: Engine;
let url: string;

before(async () => {
  db = await testDatabase({ after: (release) => void releases.push(release) });
  await db.query(
    "create table orders (id int primary key, status text not null); insert into orders values (1, 'paid'), (2, '<b>')",
  );
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-example-"));
  engine = await start(db.url, 0, dataDir);
  url = engine.url.replace("http", "ws");
  releases.push(async () => {
    await engine.close();
    await dropSlot(db, "seeding_example");
    await rm(dataDir, { recursive: true, force: true });
  });
});
after(async () => {
  for (const release of releases.reverse()) await release();
});

test("seeding: the rows are in the HTML, and the page goes on from them without asking for any again", async (t) => {
  const html = await (await fetch(engine.url)).text();
  assert.match(html, /<ul><li>1: paid<\/li><li>2: &#60;b&#62;<\/li><\/ul>/);
  const [, seed] = /<script type="application\/json" id="seed">(.*?)<\/script>/s.exec(html)!;
  await db.query("update orders set status = 'shipped' where id = 2");
  const drawn: string[] = [];
  const client = await goOn(seed!, url, (list) => drawn.push(list));
  t.after(() => client.close());
  await until(() => drawn.at(-1) === "<li>1: paid</li><li>2: shipped</li>");
  assert.ok(
    drawn.every((list) => list.includes("1: paid")),
    "there was no moment without rows",
  );
  const { resumes, refetches } = client.inspect();
  assert.deepEqual([resumes, refetches], [1, 0]);
});

test("channels: a line for each order that comes to match, and for each that no longer does", async (t) => {
  const client = createClient({ url });
  t.after(() => client.close());
  const lines: string[] = [];
  const stop = await tellReady(client, (line) => lines.push(line));
  await db.query("update orders set status = 'packed' where id = 1");
  await db.query("update orders set status = 'paid' where id = 2");
  await db.query("insert into orders values (3, 'packed')");
  await db.query("begin; insert into orders values (4, 'packed'); rollback");
  await db.query("delete from orders where id = 1");
  await until(() => lines.length === 3);
  assert.deepEqual(lines.slice(0, 2), ["order 1 is ready", "order 3 is ready"]);
  assert.match(lines[2]!, /^order 1 left at \d{4}-.*Z$/);
  stop();
});

test("await your write: the replica has it when the promise says so, and says that it was rolled back where it was", async (t) => {
  await db.query("insert into orders values (10, 'new')");
  const client = createClient({ url, shapes: { orders: { table: "orders" } } });
  t.after(() => client.close());
  await client.preload();
  assert.deepEqual(await seePaid(client, await pay(db.pool, 10), 10), { id: 10, status: "paid" });
  await assert.rejects(pay(db.pool, 11), /no order 11/);
  const writer = await db.pool.connect();
  await writer.query("begin");
  const { rows } = await writer.query<{ xid: string }>(
    "update orders set status = 'lost' where id = 10 returning pg_current_xact_id()::text as xid",
  );
  await writer.query("rollback");
  writer.release();
  await assert.rejects(seePaid(client, rows[0]!.xid, 10), { code: "transaction_aborted" });
});

test("durable streams: the protocol's own client shows the orders, commit by commit, and a table that was emptied as empty", async (t) => {
  await db.query("delete from orders");
  await db.query("insert into orders values (20, 'new')");
  const shown: string[] = [];
  const stop = await follow(engine.url, (lines) => shown.push(lines.join()));
  t.after(stop);
  assert.deepEqual(shown, ["20: new"]);
  await db.query("begin; update orders set status = 'paid'; insert into orders values (21, 'new'); commit");
  await until(() => shown.at(-1) === "20: paid,21: new");
  await db.query("begin; insert into orders values (22, 'new'); rollback");
  await db.query("truncate orders");
  await until(() => shown.at(-1) === "");
  assert.deepEqual(shown, ["20: new", "20: paid,21: new", ""]);
});
