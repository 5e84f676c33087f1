/** The client against the real engine and a real Postgres: what an application sees from one end to the other. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { PGlite } from "@electric-sql/pglite";
import { createCollection, createLiveQueryCollection, eq } from "@tanstack/db";
import { type Client, type ClientOptions, createClient } from "../../client-sdk/index.ts";
import { walcastCollectionOptions } from "../../client-sdk/bindings/tanstack-db.ts";
import { cuttable } from "./cuttable.ts";
import { follow } from "../../examples/tanstack-db/new-orders.ts";
import { emptied } from "./emptied.ts";
import { type Running, running } from "../sockets/running.ts";
import { emptyReplica } from "../support/replica.ts";
import { until } from "../support/until.ts";

const shop = `
  CREATE TYPE order_status AS ENUM ('new', 'paid', 'shipped');
  CREATE DOMAIN positive AS int CHECK (value > 0);
  CREATE TABLE orders (id bigint PRIMARY KEY, status order_status NOT NULL DEFAULT 'new', amount numeric(12,2), count positive, tags text[], note text);
  CREATE TABLE items (order_id bigint, line int, amount numeric(12,2), PRIMARY KEY (line, order_id));
  INSERT INTO orders SELECT n, 'new', n + 0.5, n, ARRAY['a', NULL], 'note ' || n FROM generate_series(1, 500) n`;

let world: Running;
let replica: PGlite;

before(async () => {
  replica = await emptyReplica();
  // The engine shares this thread with PGlite, which is busy with 100,000 rows for a second.
  world = await running({ positionEveryMs: 2_000 }, shop);
});
after(async () => {
  await world.close();
  await replica.close();
});

async function connect(t: TestContext, options: Partial<ClientOptions> = {}): Promise<Client> {
  await emptied(replica);
  const client = createClient({ url: world.engine.url, replica, backoff: { baseMs: 10, maxMs: 200 }, ...options });
  t.after(() => client.close());
  return client;
}

/** What it shows is what Postgres sums up, shape by shape. */
async function audited(client: Client): Promise<void> {
  await world.engine.audit();
  // Once this is applied, so is the audit; and the server has its answer before this question.
  for (let i = 0; i < 2; i++)
    await client.awaitPosition({ xid: await world.transaction("SELECT pg_current_xact_id()") }, { timeoutMs: 60_000 });
  assert.ok((await world.metric('walcast_audits_total{result="matched"}')) > 0);
  assert.equal(await world.metric('walcast_audits_total{result="mismatched"}'), 0);
}

/** What Postgres says, as text, in the replica's order. */
async function upstream(sql: string): Promise<unknown[]> {
  return (await world.db.query(sql)).rows;
}

test("an UPDATE in Postgres moves the row in a live query, and its transaction can be waited for", async (t) => {
  const client = await connect(t);
  const shape = client.sync({ table: "orders" });
  await shape.ready;
  assert.deepEqual(shape.progress.rows, 500);
  const live = client.live((db) =>
    db.selectFrom("orders").select(["id", "status", "amount"]).where("id", "<=", 2).orderBy("id"),
  );
  await live.ready;
  const xid = await world.transaction("UPDATE orders SET status = 'paid', amount = amount + 1 WHERE id IN (1, 2, 3)");
  await client.awaitPosition({ xid });
  assert.deepEqual(live.rows, [
    { id: 1, status: "paid", amount: "2.50" },
    { id: 2, status: "paid", amount: "3.50" },
  ]);
});

test("a transaction that the first rows contain is there when it was waited for, and one that touched nothing is no wait", async (t) => {
  const client = await connect(t);
  const xid = await world.transaction("UPDATE orders SET note = 'awaited' WHERE id = 500");
  client.sync({ table: "orders" });
  await client.awaitPosition({ xid });
  assert.deepEqual(await client.query("SELECT note FROM orders WHERE id = 500"), [{ note: "awaited" }]);
  await client.awaitPosition({ xid: await world.transaction("CREATE TEMP TABLE unsynced AS SELECT 1") });
  await assert.rejects(client.awaitPosition({ xid: "x" }), { code: "malformed_message" });
  await client.awaitPosition({ xid: Number(xid) });
  await world.transaction("UPDATE orders SET note = 'note 500' WHERE id = 500");
});

test("a wait outlives its connection, and ends when the transaction has committed", async (t) => {
  const network = await cuttable(t, world.engine.url);
  const client = await connect(t, { url: network.url, shapes: { orders: { table: "orders" } } });
  await client.preload();
  const writer = await world.db.pool.connect();
  await writer.query("BEGIN");
  const { rows } = await writer.query<{ xid: string }>(
    "UPDATE orders SET note = 'waited for' WHERE id = 499 RETURNING pg_current_xact_id()::text AS xid",
  );
  const wait = client.awaitPosition({ xid: rows[0]!.xid });
  // The server has it by then.
  await client.awaitPosition({ xid: await world.transaction("SELECT pg_current_xact_id()") });
  await network.away(() => writer.query("UPDATE orders SET note = 'note 499' WHERE id = 499; COMMIT"));
  writer.release();
  await wait;
  assert.deepEqual(await client.query("SELECT note FROM orders WHERE id = 499"), [{ note: "note 499" }]);
});

test("every column is on the replica as it is in Postgres", async (t) => {
  const client = await connect(t, { shapes: { orders: { table: "orders" } } });
  await client.preload();
  const query =
    "SELECT id::text, status::text, amount::text, count::text, tags::text, note FROM orders ORDER BY orders.id";
  assert.deepEqual(await client.query(query), await upstream(query));
  await assert.rejects(client.awaitPosition({ xid: "9999999999" }), { code: "transaction_unknown" });
  await audited(client);
});

test("a shape with a predicate sees rows enter, change and leave; a channel sees the same as events", async (t) => {
  const client = await connect(t);
  const shape = client.sync({ table: "orders", where: "status = $1 AND id > 400", params: ["shipped"] });
  const seen: string[] = [];
  const channel = client
    .channel<{ id: number }>("orders", { where: "status = 'shipped' AND id > 400" })
    .on("*", ({ type, row, old }) => seen.push(`${type} ${row?.id ?? old?.id}`))
    .subscribe();
  await Promise.all([shape.ready, channel.ready]);
  const xid = await world.transaction(
    "UPDATE orders SET status = 'shipped' WHERE id IN (401, 402)",
    "UPDATE orders SET note = 'x' WHERE id = 401",
    "UPDATE orders SET status = 'new' WHERE id = 402",
    "DELETE FROM orders WHERE id = 403",
  );
  await client.awaitPosition({ xid });
  assert.deepEqual(await client.query("SELECT id, note FROM orders"), [{ id: 401, note: "x" }]);
  assert.deepEqual(seen, ["INSERT 401", "INSERT 402", "UPDATE 401", "DELETE 402"]);
  await audited(client);
});

test("a client without a replica hears of every commit once, over a drop too, and of no rollback", async (t) => {
  const network = await cuttable(t, world.engine.url);
  const client = createClient({ url: network.url, backoff: { baseMs: 10, maxMs: 200 } });
  t.after(() => Promise.all([client.close(), world.db.query("DELETE FROM items")]));
  const seen: unknown[] = [];
  const channel = client
    .channel("items", { where: "order_id = $1", params: [7_000], columns: ["order_id", "line", "amount"] })
    .on("*", ({ type, row, old }) => seen.push([type, row, old]))
    .subscribe();
  await channel.ready;
  await world.transaction("INSERT INTO items VALUES (7000, 1, 1.5), (7001, 1, 2)");
  await assert.rejects(world.transaction("INSERT INTO items VALUES (7000, 2, 2)", "SELECT 1 / 0"));
  let xid = await world.transaction("UPDATE items SET amount = 2.5 WHERE order_id = 7000");
  await client.awaitPosition({ xid });
  await network.away(async () => {
    await world.transaction("UPDATE items SET order_id = 7000, line = 3 WHERE order_id = 7001");
    xid = await world.transaction("DELETE FROM items WHERE order_id = 7000 AND line = 1");
  });
  await client.awaitPosition({ xid });
  const item = (line: number, amount: string): object => ({ order_id: 7000, line, amount });
  assert.deepEqual(seen, [
    ["INSERT", item(1, "1.50"), undefined],
    ["UPDATE", item(1, "2.50"), item(1, "1.50")],
    ["INSERT", item(3, "2.00"), undefined],
    ["DELETE", undefined, item(1, "2.50")],
  ]);
  assert.equal(client.inspect().resumes, 1);
});

test("a column added upstream comes to the replica, and no state mixes the two", async (t) => {
  const client = await connect(t);
  await client.sync({ table: "items" }).ready;
  await world.db.query("INSERT INTO items VALUES (1, 1, 2)");
  await world.db.query(
    "ALTER TABLE items ADD COLUMN sku text DEFAULT 'none'; INSERT INTO items VALUES (1, 2, 3, 'abc')",
  );
  const live = client.live("SELECT * FROM items ORDER BY line");
  await new Promise<void>((resolve) => live.subscribe((rows) => rows.length === 2 && "sku" in rows[0]! && resolve()));
  assert.deepEqual(live.rows, [
    { order_id: 1, line: 1, amount: "2.00", sku: "none" },
    { order_id: 1, line: 2, amount: "3.00", sku: "abc" },
  ]);
  assert.equal(client.inspect().refetches, 0, "in place");
  await audited(client);
});

test("while writers are at work, every state of overlapping shapes conserves what each transaction conserves", async (t) => {
  await world.db.query(
    "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL); INSERT INTO accounts SELECT n, 100 FROM generate_series(1, 40) n",
  );
  const client = await connect(t);
  const shapes = [
    client.sync({ table: "accounts", where: "id <= 30" }),
    client.sync({ table: "accounts", where: "id > 10" }),
  ];
  const live = client.live<{ sum: number; count: number }>(
    "SELECT sum(balance)::int AS sum, count(*)::int AS count FROM accounts",
  );
  const states: string[] = [];
  await Promise.all(shapes.map(({ ready }) => ready));
  live.subscribe(([row]) => states.push(`${row!.sum} in ${row!.count}`));
  const writers = Array.from({ length: 4 }, async (_, writer) => {
    for (let i = 0; i < 50; i++) {
      const from = ((i * 7 + writer) % 20) + 1;
      const moveOne = `UPDATE accounts SET balance = balance + CASE WHEN id = ${from} THEN -1 ELSE 1 END WHERE id IN (${from}, ${from + 20})`;
      await world.transaction(
        moveOne,
        ...(i % 10 === 0
          ? [
              `DELETE FROM accounts WHERE id = ${1000 + writer}`,
              `INSERT INTO accounts VALUES (${1000 + writer}, 0)`,
              `DELETE FROM accounts WHERE id = ${1000 + writer}`,
            ]
          : []),
      );
    }
  });
  await Promise.all(writers);
  await client.awaitPosition({ xid: await world.transaction("SELECT pg_current_xact_id()") });
  assert.deepEqual(new Set(states), new Set(["4000 in 40"]));
  await audited(client);
  const query = "SELECT id, balance FROM accounts ORDER BY id";
  assert.deepEqual(await client.query(query), await upstream(query));
});

test("a TanStack DB collection is what its shape is, one commit at a time, and its live queries follow", async (t) => {
  const network = await cuttable(t, world.engine.url);
  const client = await connect(t, { url: network.url });
  // Somebody else's rows of the same table are none of the collection's.
  await client.sync({ table: "orders", where: "id <= 3" }).ready;
  const shape = { table: "orders", where: "id > $1 AND id < 600", params: [498] };
  const orders = createCollection(walcastCollectionOptions<StoredOrder>({ client, shape }));
  const notes = createLiveQueryCollection((q) =>
    q
      .from({ order: orders })
      .where(({ order }) => eq(order.status, "new"))
      .select(({ order }) => ({ id: order.id, note: order.note })),
  );
  await notes.preload();
  assert.deepEqual(
    [...orders.keys()].sort((a, b) => Number(a) - Number(b)),
    [499, 500],
  );
  assert.deepEqual(notes.toArray.map(({ note }) => String(note)).sort(), ["note 499", "note 500"]);
  const batches: string[][] = [];
  const take = (changes: { type: string; key: unknown }[]): void =>
    void batches.push(changes.map(({ type, key }) => `${type} ${String(key)}`).sort());
  orders.subscribeChanges(take, { includeInitialState: true });
  batches.length = 0;

  const xid = await world.transaction(
    "INSERT INTO orders (id, note) VALUES (501, 'one more'), (601, 'not meant')",
    "UPDATE orders SET status = 'paid' WHERE id IN (2, 499)",
    "DELETE FROM orders WHERE id = 500",
  );
  await client.awaitPosition({ xid });
  assert.deepEqual(batches, [["delete 500", "insert 501", "update 499"]]);
  assert.equal(orders.get(499)?.status, "paid");
  assert.deepEqual(
    notes.toArray.map(({ id, note }) => [id, note]),
    [[501, "one more"]],
  );
  await network.away(() =>
    world.transaction("DELETE FROM orders WHERE id = 501", "INSERT INTO orders (id) VALUES (503)"),
  );
  await client.awaitPosition({ xid: await world.transaction("DELETE FROM orders WHERE id = 601") });
  assert.deepEqual([batches.slice(1), client.inspect().refetches], [[["delete 501", "insert 503"]], 0]);
  assert.throws(() => orders.insert({ id: 502, status: "new", note: null }), /onInsert/);
  assert.equal((await upstream("SELECT FROM orders WHERE id = 502")).length, 0);

  await Promise.all([notes.cleanup(), orders.cleanup()]);
  assert.equal(client.inspect().live.length, 0);
  assert.equal(client.inspect().shapes.length, 1);
});

interface StoredOrder {
  readonly id: number;
  readonly status: string;
  readonly note: string | null;
}

test("the example of TanStack DB shows what is new, whichever way it came to be so", async (t) => {
  const client = await connect(t);
  const shown: (readonly number[])[] = [];
  const stop = await follow(client, (ids) => shown.push(ids));
  const first = shown[0]!;
  assert.equal(first.length, 10);
  const xid = await world.transaction(
    "INSERT INTO orders (id) VALUES (9001), (9002)",
    `UPDATE orders SET status = 'paid' WHERE id = ${first[0]}`,
  );
  await client.awaitPosition({ xid });
  assert.deepEqual(shown.at(-1), [9002, 9001, ...first.slice(1, 9)]);
  await world.transaction("DELETE FROM orders WHERE id > 9000");
  await stop();
});

test("a collection of a shape that may not be says why, and one with a key of several columns has it", async (t) => {
  const client = await connect(t, { shapes: { items: { table: "items" } } });
  const nothing = createCollection(walcastCollectionOptions({ client, shape: { table: "nowhere" } }));
  await assert.rejects(nothing.preload(), { code: "unknown_table" });
  await nothing.cleanup();
  const items = createCollection(walcastCollectionOptions<{ line: number }>({ client, shape: "items" }));
  await items.preload();
  const xid = await world.transaction("INSERT INTO items VALUES (7, 77, 1)");
  await client.awaitPosition({ xid });
  assert.equal(items.get("[77,7]")?.line, 77);
  await items.cleanup();
  assert.equal(client.shapes.items?.status, "ready");
});

test("a shape that may not be, says why", async (t) => {
  const client = await connect(t);
  const cases = {
    unknown_table: { table: "nothing" },
    where_unsupported: { table: "orders", where: "note ~ 'x'" },
    unknown_column: { table: "orders", where: "nothing = 1" },
  };
  for (const [code, shape] of Object.entries(cases)) {
    const handle = client.sync(shape);
    await assert.rejects(handle.ready, { code });
    await handle.unsubscribe();
  }
});

test("a client whose connection is cut again and again goes on each time, and never shows a state that was not", async (t) => {
  await world.db.query(
    "CREATE TABLE purses (id int PRIMARY KEY, balance int NOT NULL); INSERT INTO purses SELECT n, 100 FROM generate_series(1, 40) n",
  );
  const network = await cuttable(t, world.engine.url);
  const client = await connect(t, { url: network.url, backoff: { baseMs: 1, maxMs: 5 } });
  const shapes = [
    client.sync({ table: "purses", where: "id <= 30" }),
    client.sync({ table: "purses", where: "id > 10" }),
  ];
  const events: number[] = [];
  const channel = client.channel<{ id: number }>("purses").on("UPDATE", ({ row }) => events.push(row!.id));
  await Promise.all([...shapes.map(({ ready }) => ready), channel.subscribe().ready]);
  const live = client.live<{ sum: number }>("SELECT sum(balance)::int AS sum FROM purses");
  const sums: number[] = [];
  live.subscribe(([row]) => sums.push(row!.sum));
  let lives = 0;
  let nextLive = Promise.withResolvers<void>();
  const wentLive = (): void => {
    lives++;
    nextLive.resolve();
    nextLive = Promise.withResolvers();
  };
  const cuts = new Promise<void>((resolve) => {
    let left = 12;
    client.onStatus((status) => {
      if (status === "live") wentLive();
      if (status === "live" && left === 0) resolve();
      if (status === "live" && left-- > 0) setImmediate(() => network.cut());
    });
    network.cut();
  });
  let moves = 0;
  const over = { is: false };
  void cuts.then(() => (over.is = true));
  for (; !over.is; moves++) {
    // However slow the machine: no further ahead of the client than it can follow.
    if (moves >= 50 * (lives + 1)) await Promise.race([nextLive.promise, cuts]);
    const from = (moves % 20) + 1;
    await world.transaction(
      `UPDATE purses SET balance = balance + CASE WHEN id = ${from} THEN -1 ELSE 1 END WHERE id IN (${from}, ${from + 20})`,
    );
  }
  await client.awaitPosition({ xid: await world.transaction("SELECT pg_current_xact_id()") });
  assert.deepEqual(new Set(sums), new Set([4000]));
  await audited(client);
  assert.equal(events.length, 2 * moves, "a channel gets every event once");
  const query = "SELECT id, balance FROM purses ORDER BY id";
  assert.deepEqual(await client.query(query), await upstream(query));
  const { refetches, resyncs, resumes } = client.inspect();
  assert.deepEqual({ refetches, resyncs }, { refetches: 0, resyncs: 0 });
  assert.ok(resumes >= 12, `${resumes} resumes`);
});

test("a transaction of 100,000 rows is shown whole, also where the connection breaks in its middle", async (t) => {
  await world.db.query("CREATE TABLE bulk (id int PRIMARY KEY, body text)");
  const network = await cuttable(t, world.engine.url);
  const client = await connect(t, { url: network.url, backoff: { baseMs: 1, maxMs: 5 } });
  await client.sync({ table: "bulk" }).ready;
  const live = client.live<{ count: number }>("SELECT count(*)::int AS count FROM bulk");
  const counts: number[] = [];
  live.subscribe(([row]) => counts.push(row!.count));
  network.cutAfter(3 << 20);
  const xid = await world.transaction("INSERT INTO bulk SELECT n, repeat('x', 80) FROM generate_series(1, 100000) n");
  await client.awaitPosition({ xid }, { timeoutMs: 60_000 });
  assert.deepEqual(counts, [0, 100_000]);
  await audited(client);
  assert.equal(client.inspect().refetches, 0);
  assert.equal(client.inspect().resumes, 1);
});

test("a load goes on where the connection broke, with what was written meanwhile", async (t) => {
  await world.db.query(
    "CREATE TABLE cut_off (id int PRIMARY KEY, body text); INSERT INTO cut_off SELECT n, repeat('x', 80) FROM generate_series(1, 40000) n",
  );
  const network = await cuttable(t, world.engine.url);
  const client = await connect(t, { url: network.url, backoff: { baseMs: 1, maxMs: 5 } });
  network.cutAfter(2 << 20);
  const before = world.engine.stats().snapshotsTotal;
  const shape = client.sync({ table: "cut_off" });
  const arrived: number[] = [];
  shape.on("progress", ({ rows }) => {
    if (arrived.length === 0) void world.transaction("UPDATE cut_off SET body = 'y' WHERE id = 1");
    arrived.push(rows);
  });
  await shape.ready;
  assert.ok(client.inspect().connections > 1, "the connection broke");
  assert.equal(arrived.filter((rows) => rows === 0).length, 1, "it began once");
  assert.equal(arrived.at(-1), 40_000);
  assert.equal(world.engine.stats().snapshotsTotal - before, 1);
  await audited(client);
  assert.equal((await client.query("SELECT FROM cut_off")).length, 40_000);
});

test("a channel is told while its replica is still being opened, and nothing is lost or told twice when rows go on from where they are", async (t) => {
  await world.db.query("CREATE TABLE beats (id int PRIMARY KEY)");
  const network = await cuttable(t, world.engine.url);
  const options = {
    url: network.url,
    replica,
    shapes: { beats: { table: "beats" } },
    backoff: { baseMs: 1, maxMs: 5 },
  };
  const first = await connect(t, options);
  await first.preload();
  await first.close();
  let beats = 0;
  const beat = (): Promise<string> => world.transaction(`INSERT INTO beats VALUES (${++beats})`);
  for (let round = 0; round < 6; round++) {
    await beat();
    const opening = Promise.withResolvers<void>();
    const held = replica.transaction(() => opening.promise);
    const client = createClient(options);
    t.after(() => client.close());
    const events: number[] = [];
    const channel = client.channel<{ id: number }>("beats").on("INSERT", ({ row }) => events.push(row!.id));
    await channel.subscribe().ready;
    const before = beats;
    for (let i = 0; i < 3; i++) await beat();
    await until(() => events.length === 3);
    assert.deepEqual([client.status, client.shapes.beats.status], ["connecting", "loading"]);
    client.onStatus((status) => {
      // In the middle of it, too.
      if (status === "catching-up" && round % 2 === 1 && client.inspect().connections < 4) network.cut();
    });
    opening.resolve();
    do await beat();
    while (client.status !== "live");
    await client.awaitPosition({ xid: await beat() });
    assert.deepEqual(
      events,
      Array.from({ length: beats - before }, (_, i) => before + 1 + i),
    );
    assert.deepEqual(await client.query("SELECT count(*)::int AS count FROM beats"), [{ count: beats }]);
    const { refetches, resyncs } = client.inspect();
    assert.deepEqual({ refetches, resyncs }, { refetches: 0, resyncs: 0 });
    await client.close();
    await held;
  }
});
