import assert from "node:assert/strict";
import { test } from "node:test";
import type { PGlite } from "@electric-sql/pglite";

import { type ClientOptions, type ClientStatus, createClient } from "../../client-sdk/index.ts";
import { until } from "../support/until.ts";
import { all, becomes, changes, orders, reached, start, synced } from "./clients.ts";
import { commit, type PeerConnection, table, text } from "./peer.ts";

test("a shape's first rows appear with its join, and changes follow", async (t) => {
  const { client } = await start(t);
  await client.close();
  const { client: again, shape, server, id } = await synced(t);
  assert.equal(shape.status, "ready");
  assert.equal(again.position, text(16n));
  assert.equal(again.status, "live");
  assert.equal(shape.progress.rows, 2);
  server.commits(32n, {
    [id]: [
      commit(
        32n,
        { kind: "update", row: ["1", "paid"] },
        { kind: "insert", row: ["3", "new"] },
        { kind: "delete", key: ["2"] },
      ),
    ],
  });
  await again.awaitPosition(text(32n));
  assert.deepEqual(await again.query(all), [
    { id: 1, status: "paid" },
    { id: 3, status: "new" },
  ]);
});

test("what precedes a boundary is shown with the boundary, not before", async (t) => {
  const { client, server, id } = await synced(t);
  const live = client.live(all);
  await live.ready;
  const states = changes<number>((push) => live.subscribe((rows) => push(rows.length)));
  server.commits(20n, { [id]: [commit(20n, { kind: "insert", row: ["3", "new"] })] }, false);
  server.commits(24n, { [id]: [commit(24n, { kind: "insert", row: ["4", "new"] })] }, true);
  await client.awaitPosition(text(24n));
  assert.deepEqual(states, [2, 4]);
});

test("a resync leaves the old rows readable and replaces them at once, with their new columns", async (t) => {
  const { client, shape, server, id } = await synced(t);
  server.send({ kind: "resync", id, cause: { code: "schema_changed", message: "a column was added" } });
  await becomes(shape, "resyncing");
  assert.equal(client.status, "catching-up");
  server.describe(id, table("orders", ["id integer", "status text", "note text"], ["id"], { version: "2" }));
  server.copy(id, [["1", "old", null]]);
  assert.deepEqual(await client.query(all), [
    { id: 1, status: "new" },
    { id: 2, status: "new" },
  ]);
  server.frame({ kind: "catchUp", position: 0n as never, sections: [] });
  server.join(40n, { [id]: [commit(40n, { kind: "update", row: ["1", "fresh", "n"] })] });
  await becomes(shape, "ready");
  assert.deepEqual(await client.query("select * from orders"), [{ id: 1, status: "fresh", note: "n" }]);
  assert.equal(client.inspect().resyncs, 1);
});

test("a shape whose table changes again before its join was applied is ready at that join, and no further", async (t) => {
  const { client, shape, server, id } = await synced(t);
  const lines = table("lines", ["id integer"]);
  const other = client.sync({ table: "lines" });
  const otherId = await server.serve(lines, [], 24n);
  await other.ready;
  const statuses = changes<string>((push) => shape.on("status", (status) => push(`${status} ${client.position}`)));
  const cause = { code: "schema_changed", message: "the table changed" } as const;
  const goOn = await holdReplica(client.pglite);
  server.send({ kind: "resync", id, cause });
  server.describe(id, orders);
  server.copy(id, [["3", "new"]]);
  server.join(32n, { [id]: [] });
  server.send({ kind: "resync", id, cause });
  server.commits(40n, {});
  server.describe(id, orders);
  server.copy(id, [["4", "new"]]);
  server.join(48n, { [id]: [] });
  server.send({ kind: "resync", id: otherId, cause });
  await becomes(other, "resyncing");
  goOn();
  server.describe(otherId, lines);
  server.join(48n, { [otherId]: [] });
  await becomes(other, "ready");
  assert.deepEqual(statuses, [
    `resyncing ${text(24n)}`,
    `ready ${text(32n)}`,
    `resyncing ${text(32n)}`,
    `ready ${text(48n)}`,
  ]);
});

test("a client whose connection is cut reads on, comes back, and takes the rows as they are now", async (t) => {
  const { peer, client, shape, server, id } = await synced(t);
  const statuses = changes<ClientStatus>((push) => client.onStatus(push));
  server.socket.terminate();
  await reached(client, "offline");
  assert.equal(shape.status, "ready");
  assert.equal((await client.query(all)).length, 2);
  const second = await peer.greeted();
  const { id: next } = await second.message("subscribe");
  assert.ok(next > id, "ids are not used again");
  assert.equal(shape.status, "resyncing");
  second.describe(next, orders);
  second.copy(next, [["9", "new"]]);
  second.join(48n, { [next]: [] });
  await reached(client, "live");
  assert.deepEqual(await client.query(all), [{ id: 9, status: "new" }]);
  assert.deepEqual(statuses, ["offline", "connecting", "catching-up", "live"]);
});

test("rows that it cannot go on from are named to the server, and leave as soon as that says that they are not for it", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders" });
  const first = await peer.greeted();
  await first.serve({ ...orders, access: "ada's" }, [["1", "new"]], 16n);
  await shape.ready;
  first.socket.terminate();
  const second = await peer.greeted();
  const { id, shown } = await second.message("subscribe");
  assert.equal(shown, "ada's");
  assert.equal((await client.query(all)).length, 1);
  second.send({ kind: "resync", id, cause: { code: "access_changed", message: "other rows" }, purge: true });
  await until(async () => (await client.query(all)).length === 0);
  assert.equal(shape.status, "resyncing");
});

test("the position never goes backwards, even where a reconnected server is behind for a moment", async (t) => {
  const { peer, client, server } = await synced(t);
  server.socket.terminate();
  const second = await peer.greeted();
  await second.serve(orders, [], 8n);
  await reached(client, "live");
  assert.equal(client.position, text(16n));
});

const breaches: Record<string, (server: PeerConnection, id: number) => void> = {
  "a lost frame": (server, id) => {
    server.lose();
    server.commits(32n, { [id]: [] });
  },
  "a damaged frame": (server) => server.raw(Buffer.alloc(40, 1)),
  "text that is no JSON": (server) => server.socket.send("{"),
  "rows of a subscription that nobody asked for": (server) => server.commits(32n, { 99: [] }),
  "a malformed transaction": (server, id) =>
    server.frame({
      kind: "commits",
      position: 32n as never,
      sections: [{ subscription: id, bytes: Buffer.from("C") }],
    }),
  "a position that goes backwards": (server, id) => server.commits(8n, { [id]: [] }),
};

for (const [what, cause] of Object.entries(breaches)) {
  test(`${what} makes the client begin anew`, async (t) => {
    const { peer, client, server, id } = await synced(t);
    cause(server, id);
    const second = await peer.greeted();
    await second.serve(orders, [["7", "again"]], 64n);
    await client.awaitPosition(text(64n));
    assert.deepEqual(await client.query(all), [{ id: 7, status: "again" }]);
    assert.equal(client.inspect().breaches, 1);
  });
}

test("a server that falls silent is left for a new connection", async (t) => {
  const { peer, client } = await start(t);
  peer.positionEveryMs = 20;
  await peer.greeted();
  peer.positionEveryMs = 60_000;
  await peer.greeted();
  assert.equal(client.inspect().connections, 1);
  await reached(client, "live");
  assert.equal(client.inspect().connections, 2);
});

test("a live query tells what changed, and rows that did not are the same objects", async (t) => {
  const { client, server, id } = await synced(t);
  const live = client.live<{ id: number; status: string }>(all);
  await live.ready;
  const [first, second] = live.rows;
  const deltas = changes<{ rows: unknown; delta: unknown }>((push) =>
    live.subscribe((rows, delta) => push({ rows, delta })),
  );
  server.commits(32n, {
    [id]: [commit(32n, { kind: "update", row: ["2", "paid"] }, { kind: "insert", row: ["3", "new"] })],
  });
  await client.awaitPosition(text(32n));
  server.commits(33n, { [id]: [] });
  await client.awaitPosition(text(33n));
  assert.equal(live.rows[0], first);
  assert.deepEqual(deltas, [
    { rows: [first, second], delta: { position: text(16n), inserted: [first, second], updated: [], deleted: [] } },
    {
      rows: live.rows,
      delta: {
        position: text(32n),
        inserted: [{ id: 3, status: "new" }],
        updated: [{ id: 2, status: "paid" }],
        deleted: [],
      },
    },
  ]);
});

test("live queries over several shapes show one position, and never half a transaction", async (t) => {
  const { peer, client } = await start(t);
  client.sync({ table: "orders" });
  client.sync({ table: "items" });
  const server = await peer.greeted();
  const a = await server.serve(orders, [["1", "0"]], 16n);
  const b = await server.serve(table("items", ["id integer", "status text"]), [["1", "100"]], 16n);
  const sum = client.live<{ sum: string }>(
    "select sum(n)::text as sum from (select status::int as n from orders union all select status::int from items) s",
  );
  const parts = [client.live(all), client.live("select * from items")];
  await Promise.all([sum, ...parts].map((one) => one.ready));
  const sums = changes<string>((push) => sum.subscribe(([row]) => push(row!.sum)));
  const positions = parts.map((one) =>
    changes<string>((push) => one.subscribe((_rows, delta) => push(delta.position))),
  );
  for (let i = 1; i <= 20; i++) {
    const position = 16n + BigInt(i);
    const update = (value: number) => [commit(position, { kind: "update" as const, row: ["1", String(value)] })];
    server.commits(position, { [a]: update(i) }, false);
    server.commits(position, { [b]: update(100 - i) }, true);
  }
  await client.awaitPosition(text(36n));
  assert.deepEqual(sums, ["100"]);
  assert.deepEqual(positions[0], positions[1]);
  assert.deepEqual(
    parts.map(({ rows }) => rows),
    [[{ id: 1, status: "20" }], [{ id: 1, status: "80" }]],
  );
});

test("live queries may come at once, and go again before anything could run them", async (t) => {
  const { client } = await start(t);
  const [live, closed] = [client.live("select 1 as one"), client.live("select 1 as one")];
  const heard: string[] = [];
  live.subscribe((rows) => heard.push(`rows ${rows.length}`));
  live.subscribe(() => heard.push("left"))();
  live.onChange(() => heard.push(live.status));
  closed.close();
  await assert.rejects(closed.ready, { code: "closed" });
  assert.deepEqual([live.rows, live.status], [[], "loading"]);
  assert.deepEqual(await live.ready, [{ one: 1 }]);
  await until(() => heard.length >= 2);
  assert.deepEqual([heard.sort(), live.rows], [["ready", "rows 1"], [{ one: 1 }]]);
  assert.equal(client.inspect().live.length, 1);
  live.close();
  assert.equal(client.inspect().live.length, 0);
});

test("a live query may come before its tables, and sees through views", async (t) => {
  const { peer, client } = await start(t);
  const live = client.live("select count(*) from orders where status = $1", ["new"]);
  const server = await peer.greeted();
  client.sync({ table: "orders" });
  const id = await server.serve(orders, [["1", "new"]], 16n);
  assert.deepEqual(await live.ready, [{ count: 1 }]);
  await client.pglite.exec(
    "BEGIN READ WRITE; CREATE VIEW new_orders AS SELECT * FROM orders WHERE status = 'new'; COMMIT",
  );
  const view = client.live("select id from new_orders order by id");
  await view.ready;
  server.commits(32n, { [id]: [commit(32n, { kind: "insert", row: ["2", "new"] })] });
  await client.awaitPosition(text(32n));
  assert.deepEqual(view.rows, [{ id: 1 }, { id: 2 }]);
  assert.deepEqual(live.rows, [{ count: 2 }]);
});

test("a transaction and what live queries look up after it are one call of PGlite; where the latter fails, the former stays", async (t) => {
  const { client, server, id } = await synced(t);
  const fragile = client.live("select id, 1 / (id - 3) as share from orders order by id");
  const live = client.live(all);
  await Promise.all([fragile.ready, live.ready]);
  const put = async (position: bigint, status: string, key = "1"): Promise<void> => {
    server.commits(position, { [id]: [commit(position, { kind: "insert", row: [key, status] })] });
    await client.awaitPosition(text(position));
  };
  await put(24n, "paid");
  const trips = t.mock.method(client.pglite, "execProtocolRawStream");
  await put(32n, "sent");
  assert.equal(trips.mock.callCount(), 1);
  assert.deepEqual(live.rows, [
    { id: 1, status: "sent" },
    { id: 2, status: "new" },
  ]);
  await put(40n, "new", "3");
  assert.match(String(fragile.error), /division by zero/);
  assert.deepEqual(live.rows.at(-1), { id: 3, status: "new" });
  assert.deepEqual(await client.query(all), live.rows);
  const [first, second] = client.inspect().live.map(({ mode, runs }) => ({ mode, runs }));
  assert.deepEqual([first!.mode, second], ["incremental", { mode: "incremental", runs: 2 }]);
});

test("a transaction is applied though more live queries look something up after it than statements are kept", async (t) => {
  const { client, server, id } = await synced(t);
  const all = Array.from({ length: 260 }, (_, i) =>
    client.live<{ id: number; n: number; status: string }>(`select id, status, ${i} as n from orders order by id`),
  );
  await Promise.all(all.map(({ ready }) => ready));
  for (const [position, status] of [
    [24n, "paid"],
    [32n, "sent"],
  ] as const) {
    server.commits(position, { [id]: [commit(position, { kind: "insert", row: ["1", status] })] });
    await client.awaitPosition(text(position));
    for (const [n, { rows }] of all.entries()) assert.deepEqual(rows[0], { id: 1, status, n });
  }
  assert.equal(client.inspect().lastError, undefined);
});

test("live queries follow what the application writes into tables of its own, and only what is committed", async (t) => {
  const { client } = await synced(t);
  const { pglite } = client;
  const live = client.live("select n.note from notes n join orders o on o.id = n.order_id order by n.note");
  const orderRows = client.live(all);
  await orderRows.ready;
  const runs = () => client.inspect().live.find(({ sql }) => sql === all)?.runs;
  const before = runs();
  const seen: string[] = [];
  live.subscribe((rows) => seen.push(rows.map(({ note }) => note).join()));
  await pglite.exec("BEGIN READ WRITE; CREATE TABLE notes (order_id int PRIMARY KEY, note text); COMMIT");
  await live.ready;
  await pglite.transaction(async (transaction) => {
    await transaction.exec("SET TRANSACTION READ WRITE; INSERT INTO notes VALUES (1, 'call')");
    await transaction.query("INSERT INTO notes VALUES (2, $1)", ["pack"]);
  });
  assert.deepEqual(seen, ["", "call,pack"]);
  await pglite.transaction(async (transaction) => {
    await transaction.exec("SET TRANSACTION READ WRITE; DELETE FROM notes");
    await transaction.rollback();
  });
  await pglite.query("SELECT 1");
  await assert.rejects(pglite.exec("BEGIN READ WRITE; DELETE FROM notes; SELECT 1 / 0"), /division/);
  await pglite.exec("ROLLBACK");
  await pglite.exec("BEGIN READ WRITE; DELETE FROM notes WHERE order_id = 1; COMMIT");
  assert.deepEqual(seen, ["", "call,pack", "pack"]);
  assert.equal(runs(), before, "what reads none of them is left alone");
});

test("a live query is not run for changes of other tables, and not at all once closed", async (t) => {
  const { peer, client } = await start(t);
  client.sync({ table: "orders" });
  client.sync({ table: "items" });
  const server = await peer.greeted();
  const a = await server.serve(orders, [], 16n);
  const b = await server.serve(table("items", ["id integer", "status text"]), [], 16n);
  const live = client.live(all);
  await live.ready;
  server.commits(32n, { [b]: [commit(32n, { kind: "insert", row: ["1", "x"] })] });
  await client.awaitPosition(text(32n));
  const runs = (): number | undefined => {
    const [one] = client.inspect().live;
    return one && one.runs + one.merges;
  };
  const before = runs();
  server.commits(33n, { [b]: [commit(33n, { kind: "insert", row: ["2", "x"] })] });
  await client.awaitPosition(text(33n));
  assert.equal(runs(), before);
  server.commits(34n, { [a]: [commit(34n, { kind: "insert", row: ["1", "x"] })] });
  await client.awaitPosition(text(34n));
  assert.equal(runs(), before! + 1);
  live.close();
  assert.deepEqual(client.inspect().live, []);
});

test("a live query that is wrong says so, and a subscriber that throws stops nobody", async (t) => {
  const { client, server, id } = await synced(t);
  const wrong = client.live("selec 1");
  await assert.rejects(wrong.ready, { code: "query_failed" });
  assert.equal(wrong.status, "error");
  const reported = t.mock.method(console, "error", () => {});
  const live = client.live(all);
  live.subscribe(() => {
    throw new Error("from the application");
  });
  const seen = changes<number>((push) => live.subscribe((rows) => push(rows.length)));
  await live.ready;
  server.commits(32n, { [id]: [commit(32n, { kind: "delete", key: ["1"] })] });
  await client.awaitPosition(text(32n));
  assert.deepEqual(seen, [2, 1]);
  assert.equal(reported.mock.callCount(), 2);
});

test("a channel hands out every change, decoded, relative to its filter", async (t) => {
  const { peer, client } = await start(t);
  const server = await peer.greeted();
  const events: unknown[] = [];
  const channel = client
    .channel("orders", { where: "status = 'new'" })
    .on("*", (event) => events.push(event))
    .subscribe();
  const inserts = changes<unknown>((push) => channel.on("INSERT", ({ row }) => push(row)));
  const { id, changes: isChanges, shape } = await server.message("subscribe");
  assert.deepEqual({ isChanges, shape }, { isChanges: true, shape: { table: "orders", where: "status = 'new'" } });
  server.describe(id, table("orders", ["id bigint", "status text", "tags integer[]"]));
  server.join(16n, { [id]: [] });
  await channel.ready;
  server.commits(32n, {
    [id]: [
      commit(30n, { kind: "insert", row: ["9007199254740993", "new", "{1,2}"] }),
      commit(
        32n,
        { kind: "update", old: ["1", "new", null], row: ["1", "new", "{3}"] },
        { kind: "delete", old: ["2", "new", null] },
      ),
    ],
  });
  await client.awaitPosition(text(32n));
  const commitTime = new Date("2000-01-01T00:00:00Z");
  assert.deepEqual(events, [
    {
      type: "INSERT",
      row: { id: 9007199254740993n, status: "new", tags: [1, 2] },
      old: undefined,
      position: text(30n),
      commitTime,
    },
    {
      type: "UPDATE",
      row: { id: 1, status: "new", tags: [3] },
      old: { id: 1, status: "new", tags: null },
      position: text(32n),
      commitTime,
    },
    { type: "DELETE", row: undefined, old: { id: 2, status: "new", tags: null }, position: text(32n), commitTime },
  ]);
  assert.equal(inserts.length, 1);
  await channel.unsubscribe();
  assert.equal((await server.message("unsubscribe")).id, id);
});

test("awaitPosition asks the server, and ends as the server says", async (t) => {
  const { client, server, id } = await synced(t);
  await client.awaitPosition(text(16n));
  const reachedXid = client.awaitPosition({ xid: 700n });
  const byXid = await server.message("await");
  assert.equal(byXid.xid, "700");
  server.commits(32n, { [id]: [commit(32n, { kind: "delete", key: ["1"] })] });
  server.send({ kind: "awaited", id: byXid.id, position: text(32n) });
  await reachedXid;
  assert.equal((await client.query(all)).length, 1);
  const aborted = client.awaitPosition({ xid: "701" });
  server.send({
    kind: "error",
    await: (await server.message("await")).id,
    error: { code: "transaction_aborted", message: "it was rolled back" },
  });
  await assert.rejects(aborted, { code: "transaction_aborted" });
  await assert.rejects(client.awaitPosition("0/FFFF", { timeoutMs: 5 }), { code: "await_timeout" });
});

test("the replica refuses to be written by the application, in every way in", async (t) => {
  const { client } = await synced(t);
  await assert.rejects(client.query("insert into orders values (9, 'x')"), {
    code: "query_failed",
    hint: /through Postgres/,
  });
  await assert.rejects(client.kysely.deleteFrom("orders").execute(), { code: "query_failed" });
  await assert.rejects(
    client.kysely.transaction().execute((tx) => tx.deleteFrom("orders").execute()),
    { code: "query_failed" },
  );
  await assert.rejects(client.pglite.query("update orders set status = 'x'"), /read-only/);
  await assert.rejects(client.query("begin read write"), { code: "query_failed", hint: /transaction/ });
  assert.equal((await client.query(all)).length, 2);
});

test("Kysely reads the replica, in one state where it asks for a transaction", async (t) => {
  const { client, server, id } = await synced(t);
  const db = client.kysely;
  assert.deepEqual(await db.selectFrom("orders").selectAll().where("id", "=", 2).execute(), [{ id: 2, status: "new" }]);
  await db.transaction().execute(async (tx) => {
    server.commits(32n, { [id]: [commit(32n, { kind: "delete", key: ["1"] })] });
    assert.equal((await tx.selectFrom("orders").select("id").execute()).length, 2);
    assert.equal((await tx.selectFrom("orders").select("id").execute()).length, 2);
  });
  await client.awaitPosition(text(32n));
  const live = client.live((kysely) => kysely.selectFrom("orders").select("id").where("status", "=", "new"));
  assert.deepEqual(await live.ready, [{ id: 2 }]);
});

test("shapes of one table share it; what only one of them held leaves with it", async (t) => {
  const { client, server } = await synced(t);
  const second = client.sync({ table: "public.ORDERS", where: "id >= 2" });
  await server.serve(
    orders,
    [
      ["2", "new"],
      ["3", "new"],
    ],
    32n,
  );
  await second.ready;
  assert.equal((await client.query(all)).length, 3);
  await second.unsubscribe();
  assert.deepEqual(await client.query("select id from orders order by id"), [{ id: 1 }, { id: 2 }]);
});

test("a shape with other columns than the one that is there says so through its promise, also a column that is none", async (t) => {
  const { client, server } = await synced(t);
  const narrower = client.sync({ table: "orders", columns: ["id"] });
  const { id } = await server.message("subscribe");
  server.describe(id, table("orders", ["id integer"], ["id"], { identity: "narrower" }));
  await assert.rejects(narrower.ready, { code: "config_invalid" });
  const wrong = client.sync({ table: "orders", columns: ["id", "none"] });
  const { id: second } = await server.message("subscribe");
  server.send({ kind: "error", subscription: second, error: { code: "unknown_column", message: "there is no none" } });
  await assert.rejects(wrong.ready, { code: "unknown_column" });
  assert.equal((await client.query(all)).length, 2);
});

test("two shapes of one table that load at the same time need the same columns as well", async (t) => {
  const { peer, client } = await start(t);
  const wide = client.sync({ table: "orders" });
  const narrow = client.sync({ table: "orders", columns: ["id"] });
  const server = await peer.greeted();
  const { id } = await server.message("subscribe");
  const { id: second } = await server.message("subscribe");
  server.describe(id, orders);
  server.describe(second, table("orders", ["id integer"]));
  await assert.rejects(narrow.ready, { code: "config_invalid" });
  server.join(16n, { [id]: [] });
  await wide.ready;
});

test("a shape that the server refuses says why, and other shapes go on", async (t) => {
  const { client, server, id } = await synced(t);
  const refused = client.sync({ table: "secrets", where: "x ~ 'y'" });
  const { id: second } = await server.message("subscribe");
  server.send({
    kind: "error",
    subscription: second,
    error: { code: "where_unsupported", message: "no regular expressions", position: 2 },
  });
  await assert.rejects(refused.ready, { code: "where_unsupported", position: 2 });
  assert.equal(refused.status, "error");
  server.commits(32n, { [id]: [commit(32n, { kind: "delete", key: ["1"] })] });
  await client.awaitPosition(text(32n));
  assert.equal((await client.query(all)).length, 1);
});

test("a shape that the replica cannot hold fails alone", async (t) => {
  const { client, server, id } = await synced(t);
  const impossible = client.sync({ table: "items" });
  const { id: second } = await server.message("subscribe");
  server.describe(second, table("items", ["id integer", "x no_such_type"]));
  await assert.rejects(impossible.ready, { code: "replica_failed" });
  assert.equal((await server.message("unsubscribe")).id, second);
  server.copy(second, [["1", "x"]]);
  server.join(20n, { [second]: [] });
  server.commits(32n, { [id]: [commit(32n, { kind: "delete", key: ["1"] })] });
  await client.awaitPosition(text(32n));
  assert.equal((await client.query(all)).length, 1);
});

test("rows that a new token may not see leave the replica, and the connection stays", async (t) => {
  const { client, shape, server, id } = await synced(t);
  client.setToken("another");
  assert.equal((await server.message("authenticate")).token, "another");
  server.send({ kind: "error", subscription: id, error: { code: "forbidden", message: "not for you" } });
  server.send({ kind: "authenticated" });
  await becomes(shape, "error");
  assert.deepEqual(await client.query(all), []);
  const { connections, authentications } = client.inspect();
  assert.deepEqual([connections, authentications], [1, 1]);
});

test("rows that a new token replaces leave at once, and the others come on the same connection", async (t) => {
  const { client, shape, server, id } = await synced(t);
  client.setToken("another");
  await server.message("authenticate");
  server.send({ kind: "resync", id, cause: { code: "access_changed", message: "other rows" }, purge: true });
  server.send({ kind: "authenticated" });
  await becomes(shape, "resyncing");
  assert.deepEqual(await client.query(all), []);
  server.describe(id, orders);
  server.copy(id, [["3", "theirs"]]);
  server.join(32n, { [id]: [] });
  await becomes(shape, "ready");
  assert.deepEqual(await client.query(all), [{ id: 3, status: "theirs" }]);
});

test("a client is not live while rows are in sight that it may not see any more", async (t) => {
  const { client, shape, server, id } = await synced(t);
  const seen = changes<string>((push) => client.onStatus((status) => push(`${status}, ${shape.status}`)));
  server.send({ kind: "error", subscription: id, error: { code: "forbidden", message: "not for you" } });
  await becomes(shape, "error");
  assert.deepEqual(seen, ["catching-up, ready", "live, error"]);
});

test("what must leave is gone before the position moves on, whatever the server has yet to say", async (t) => {
  const { client, shape, server, id } = await synced(t);
  client.setToken("another");
  await server.message("authenticate");
  server.send({ kind: "resync", id, cause: { code: "access_changed", message: "other rows" }, purge: true });
  server.commits(32n, {});
  await until(() => client.position === text(32n));
  assert.equal(shape.status, "resyncing");
  assert.deepEqual(await client.query(all), []);
});

test("what a new token does not allow leaves all shapes in one local transaction", async (t) => {
  const { client, server, id } = await synced(t);
  const items = client.sync({ table: "items" });
  const second = await server.serve(table("items", ["id integer"]), [["1"]], 20n);
  const news = client.sync({ table: "news" });
  const third = await server.serve(table("news", ["id integer"]), [["1"]], 24n);
  await Promise.all([items.ready, news.ready]);
  const counts =
    "select (select count(*) from orders)::int as orders, (select count(*) from items)::int as items, (select count(*) from news)::int as news";
  const live = client.live<{ orders: number; items: number; news: number }>(counts);
  await live.ready;
  const states = changes<string>((push) => live.subscribe(([row]) => push(Object.values(row!).join(" "))));
  client.setToken("another");
  await server.message("authenticate");
  const cause = { code: "access_changed", message: "other rows" } as const;
  for (const withdrawn of [id, third]) {
    server.send({ kind: "resync", id: withdrawn, cause, purge: true });
    await client.query("select 1");
  }
  server.send({ kind: "error", subscription: second, error: { code: "forbidden", message: "not for you" } });
  server.send({ kind: "authenticated" });
  await becomes(items, "error");
  await becomes(news, "resyncing");
  server.describe(third, table("news", ["id integer"]));
  server.copy(third, [["2"], ["3"]]);
  server.join(32n, { [third]: [] });
  await becomes(news, "ready");
  await client.query("select 1");
  assert.deepEqual([...new Set(states)], ["2 1 1", "0 0 0", "0 0 2"]);
});

test("a token that expires is asked for again before it does, one that is newer still after that", async (t) => {
  const tokens = ["first", "second"];
  const { peer, client } = await start(t, { token: () => tokens.shift()! });
  peer.also = { expiresInMs: 100 };
  const server = await peer.greeted();
  assert.equal((await server.message("authenticate")).token, "second");
  client.setToken("third");
  server.send({ kind: "authenticated", expiresInMs: 3_600_000 });
  assert.equal((await server.message("authenticate")).token, "third");
  server.send({ kind: "authenticated" });
  await until(() => client.inspect().authentications > 0);
  assert.equal(client.inspect().connections, 1);
});

test("what the server would not take is the end of its shape, and of nothing else", async (t) => {
  const { peer, client } = await start(t);
  peer.also = { messageBytes: 1000 };
  const server = await peer.greeted();
  const large = client.sync({ table: "orders", where: "status = $1", params: ["é".repeat(500)] });
  await assert.rejects(large.ready, { code: "too_large" });
  assert.equal(large.status, "error");
  const shape = client.sync({ table: "orders" });
  await server.serve(orders, [["1", "new"]], 16n);
  await shape.ready;
  assert.equal(client.inspect().connections, 1);
});

test("inspect says what each shape holds, what it is true at, and how far that is behind", async (t) => {
  const { client, server, id } = await synced(t);
  const open = client.sync({ table: "orders", where: "id > 1" });
  await server.serve(orders, [["2", "new"]], 16n);
  await open.ready;
  const held = () => client.inspect().shapes.map(({ rows, position, lagBytes }) => [rows, position, lagBytes]);
  assert.deepEqual(held(), [
    [2, text(16n), 0],
    [1, text(16n), 0],
  ]);
  server.commits(32n, { [id]: [commit(32n, { kind: "insert", row: ["0", "new"] })] });
  await client.awaitPosition(text(32n));
  await until(() => held()[0]![0] === 3);
  assert.deepEqual(held()[1], [1, text(32n), 0]);
  assert.ok(client.inspect().shapes.every(({ bytes }) => bytes > 8000));
  server.send({ kind: "resync", id, cause: { code: "schema_changed", message: "it changed" } });
  server.commits(48n, {});
  await until(() => held()[1]![1] === text(48n));
  assert.deepEqual(held()[0], [3, text(32n), 16]);
  assert.deepEqual(client.inspect().lastTransactions.find(({ position }) => position === text(32n))?.keys, 1);
});

test("a refused token is not tried again in haste, and a new one at once", async (t) => {
  const { peer, client } = await start(t, { token: () => "stale", backoff: { baseMs: 1, maxMs: 3_600_000 } });
  const first = await peer.connection();
  assert.equal((await first.message("hello")).token, "stale");
  first.socket.close(4401, "no");
  await reached(client, "offline");
  assert.equal(client.inspect().lastError?.code, "unauthenticated");
  client.setToken("good");
  const second = await peer.connection();
  assert.equal((await second.message("hello")).token, "good");
});

test("declared shapes are preloaded, and found by name", async (t) => {
  const { peer, client } = await start(t, {
    shapes: { open: { table: "orders", where: "status <> $1", params: ["done"] } },
  });
  const server = await peer.greeted();
  const { id, shape } = await server.message("subscribe");
  assert.deepEqual(shape, { table: "orders", where: "status <> $1", params: ["done"] });
  server.describe(id, orders);
  server.join(16n, { [id]: [] });
  await client.preload();
  assert.equal(client.shapes.open?.status, "ready");
});

test("closing rejects what waits, and what is asked afterwards", async (t) => {
  const { client } = await start(t);
  const shape = client.sync({ table: "orders" });
  const live = client.live("select 1 from nowhere");
  const waits = [shape.ready, live.ready, client.awaitPosition("0/FFFF"), client.channel("orders").subscribe().ready];
  const closed = client.close();
  for (const wait of waits) await assert.rejects(wait, { code: "closed" });
  await closed;
  assert.equal(client.status, "closed");
  await assert.rejects(client.query("select 1"), { code: "closed" });
  await assert.rejects(client.awaitPosition("0/1"), { code: "closed" });
  assert.throws(() => client.sync({ table: "orders" }), { code: "closed" });
  await client.close();
});

const refusals: Record<string, Partial<ClientOptions>> = {
  "a URL that is none": { url: "nowhere" },
  "a replica of a kind that is none": { replica: "ftp://shop" },
  "a replica in a browser's storage without a browser": { replica: "idb://shop" },
  "a replica in a browser's files without a browser": { replica: "opfs-ahp://shop" },
  "a replica without a name": { replica: "idb://" },
  "an object that is no PGlite": { replica: {} as PGlite },
  "a table name that is none": { shapes: { x: { table: "a.b.c" } } },
};

for (const [what, options] of Object.entries(refusals)) {
  test(`${what} is refused with config_invalid`, () => {
    assert.throws(() => createClient({ url: "ws://127.0.0.1:1", ...options }), { code: "config_invalid" });
  });
}

test("another history behind the same address counts its positions anew", async (t) => {
  const { peer, client, server } = await synced(t);
  server.socket.terminate();
  const second = await peer.connection();
  await second.message("hello");
  second.send({ kind: "welcome", epoch: "another", position: text(4n), positionEveryMs: 60_000 });
  await second.serve(orders, [["5", "other"]], 8n);
  await reached(client, "live");
  assert.equal(client.position, text(8n));
  assert.equal(client.inspect().epoch, "another");
});

/** Keeps what the client receives from being applied until the function it gives is called. */
async function holdReplica(pglite: PGlite): Promise<() => void> {
  const gate = pglite as unknown as { _runExclusiveQuery<T>(work: () => Promise<T>): Promise<T> };
  const { promise: over, resolve } = Promise.withResolvers<void>();
  await new Promise<void>((held) => {
    void gate._runExclusiveQuery(() => (held(), over));
  });
  return resolve;
}
