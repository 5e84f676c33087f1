import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClientStatus, Shape, ShapeStatus } from "../../client-sdk/index.ts";
import { all, becomes, changes, orders, reached, start, synced } from "./clients.ts";
import { commit, type PeerConnection, table, text } from "./peer.ts";

const insert = (id: number) => ({ kind: "insert", row: [String(id), "new"] }) as const;

/** The next subscription with an identity, told that it goes on. */
async function goOn(server: PeerConnection): Promise<number> {
  const { id } = await server.message("subscribe");
  server.send({ kind: "resumed", id });
  return id;
}

function hasRows(shape: Shape, count: number): Promise<void> {
  return new Promise((resolve) => {
    if (shape.progress.rows >= count) return resolve();
    shape.on("progress", ({ rows }) => rows >= count && resolve());
  });
}

test("a client that reconnects goes on after its last boundary, and nothing is loaded again", async (t) => {
  const { peer, client, shape, server, id } = await synced(t);
  const statuses = changes<ClientStatus>((push) => client.onStatus(push));
  const shapeStatuses = changes<ShapeStatus>((push) => shape.on("status", push));
  server.commits(32n, { [id]: [commit(32n, insert(3))] });
  server.commits(48n, { [id]: [commit(48n, insert(4))] }, false);
  await client.awaitPosition(text(32n));
  server.socket.terminate();
  const { connection, hello } = await peer.resuming(64n);
  assert.deepEqual(hello, { kind: "hello", epoch: "epoch", position: text(32n) });
  const subscribe = await connection.message("subscribe");
  assert.deepEqual(subscribe, { kind: "subscribe", id: id + 1, shape: { table: "orders" }, identity: "orders" });
  await connection.message("resume");
  connection.send({ kind: "resumed", id: subscribe.id });
  connection.commits(48n, { [subscribe.id]: [commit(48n, insert(4))] });
  connection.commits(64n, {});
  await reached(client, "live");
  assert.deepEqual(
    await client.query("select id from orders order by id"),
    [1, 2, 3, 4].map((n) => ({ id: n })),
  );
  assert.deepEqual(statuses, ["offline", "connecting", "catching-up", "live"]);
  assert.deepEqual(shapeStatuses, []);
  const { resumes, resyncs, refetches } = client.inspect();
  assert.deepEqual({ resumes, resyncs, refetches }, { resumes: 1, resyncs: 0, refetches: 0 });
});

test("what was received whole before the connection broke is applied, and gone on from", async (t) => {
  const { peer, client, server, id } = await synced(t);
  const release = await holdReplica(client.pglite);
  server.commits(32n, { [id]: [commit(32n, insert(3))] });
  server.socket.close(1001, "bye");
  const { connection, hello } = await peer.resuming();
  assert.equal(hello.position, text(32n));
  const next = await goOn(connection);
  connection.commits(48n, { [next]: [commit(48n, insert(4))] });
  release();
  await client.awaitPosition(text(48n));
  assert.equal((await client.query(all)).length, 4);
});

test("a load that was cut off goes on with the rows that it lacks, also where nothing is resumed", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders" });
  let server = await peer.greeted();
  let { id } = await server.message("subscribe");
  server.describe(id, orders, 3, { load: "a" });
  server.copy(id, [["1", "new"]]);
  server.copy(id, [["2", "new"]]);
  await hasRows(shape, 2);
  server.socket.terminate();
  // Twice, and the second time before anything has been said.
  server = await peer.greeted();
  assert.deepEqual((await server.message("subscribe")).load, { id: "a", frames: 2 });
  server.socket.terminate();
  server = await peer.greeted();
  const subscribe = await server.message("subscribe");
  assert.deepEqual(subscribe.load, { id: "a", frames: 2 });
  ({ id } = subscribe);
  server.describe(id, orders, 3, { load: "a", continues: true });
  server.copy(id, [["3", "new"]]);
  server.join(24n, { [id]: [commit(20n, { kind: "delete", key: ["1"] })] });
  await shape.ready;
  assert.deepEqual(await client.query("select id from orders order by id"), [{ id: 2 }, { id: 3 }]);
  assert.equal(shape.progress.rows, 3);
});

test("a load that was cut off begins again where the server does not go on with it", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders" });
  let server = await peer.greeted();
  let { id } = await server.message("subscribe");
  server.describe(id, orders, 2, { load: "a" });
  server.copy(id, [["1", "new"]]);
  await hasRows(shape, 1);
  server.socket.terminate();
  server = await peer.greeted();
  ({ id } = await server.message("subscribe"));
  server.describe(id, orders, 2, { load: "b" });
  server.copy(id, [["1", "new"]]);
  server.join(24n, { [id]: [] });
  await shape.ready;
  assert.deepEqual(await client.query("select id from orders"), [{ id: 1 }]);
});

test("a load that was cut off while it caught up begins again", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders" });
  let server = await peer.greeted();
  let { id } = await server.message("subscribe");
  server.describe(id, orders, 2, { load: "a" });
  server.copy(id, [["1", "new"]]);
  server.catchUp({ [id]: [commit(20n, insert(2))] });
  server.socket.close(1001, "bye");
  server = await peer.greeted();
  const subscribe = await server.message("subscribe");
  assert.equal(subscribe.load, undefined);
  ({ id } = subscribe);
  server.describe(id, orders, 2, { load: "a" });
  server.copy(id, [["1", "new"]]);
  server.join(24n, { [id]: [commit(20n, insert(2))] });
  await shape.ready;
  assert.equal((await client.query(all)).length, 2);
});

test("a shape that was loading when the connection broke is asked for anew, beside those that go on", async (t) => {
  const { peer, client, server } = await synced(t);
  const items = client.sync({ table: "items" });
  server.describe((await server.message("subscribe")).id, table("items", ["id integer"]));
  server.socket.terminate();
  const { connection } = await peer.resuming();
  const next = await goOn(connection);
  await connection.message("resume");
  const { id, identity } = await connection.message("subscribe");
  assert.equal(identity, undefined);
  connection.commits(20n, { [next]: [commit(20n, insert(3))] });
  connection.describe(id, table("items", ["id integer"]));
  connection.copy(id, [["7"]]);
  connection.join(24n, { [id]: [] });
  await items.ready;
  assert.equal((await client.query(all)).length, 3);
  assert.equal(client.inspect().refetches, 0);
});

test("where the server cannot go on, rows stay readable and are replaced at once", async (t) => {
  const { peer, client, shape, server } = await synced(t);
  server.socket.terminate();
  const connection = await peer.connection();
  await connection.message("hello");
  const cause = { code: "position_too_old", message: "the log begins later" } as const;
  connection.send({ kind: "welcome", epoch: "epoch", position: text(64n), positionEveryMs: 60_000, cause });
  const { id, identity } = await connection.message("subscribe");
  assert.equal(identity, undefined);
  assert.equal(shape.status, "resyncing");
  assert.equal((await client.query(all)).length, 2);
  connection.describe(id, orders);
  connection.copy(id, [["9", "new"]]);
  connection.join(64n, { [id]: [] });
  await becomes(shape, "ready");
  assert.deepEqual(await client.query(all), [{ id: 9, status: "new" }]);
  assert.equal(client.inspect().lastError?.code, "position_too_old");
  assert.equal(client.inspect().refetches, 1);
});

test("a timeline that moved on without loss is taken over with the welcome that resumes", async (t) => {
  const { peer, client, server } = await synced(t);
  server.socket.terminate();
  const second = await peer.connection();
  await second.message("hello");
  const welcome = { kind: "welcome", positionEveryMs: 60_000, position: text(16n), resumes: true } as const;
  second.send({ ...welcome, epoch: "epoch after a failover" });
  await goOn(second);
  await reached(client, "live");
  assert.equal(client.inspect().epoch, "epoch after a failover");
  assert.equal(client.position, text(16n));
  second.socket.terminate();
  const { hello } = await peer.resuming();
  assert.deepEqual(hello, { kind: "hello", epoch: "epoch after a failover", position: text(16n) });
});

test("a resync on resuming keeps the rows until the swap; one that purges takes them at once, for live queries too", async (t) => {
  const { peer, client, shape, server, id } = await synced(t);
  const live = client.live(all);
  await live.ready;
  const counts = changes<number>((push) => live.subscribe((rows) => push(rows.length)));
  server.socket.terminate();
  const { connection } = await peer.resuming();
  const first = await connection.message("subscribe");
  assert.deepEqual([first.identity, first.shown], [orders.identity, orders.access]);
  connection.send({ kind: "resync", id: first.id, cause: { code: "schema_changed", message: "" } });
  await becomes(shape, "resyncing");
  assert.equal((await client.query(all)).length, 2);
  connection.describe(first.id, orders);
  connection.join(20n, { [first.id]: [commit(20n, insert(5), insert(6), insert(7))] });
  await becomes(shape, "ready");
  connection.socket.terminate();
  const { connection: third } = await peer.resuming();
  const again = await third.message("subscribe");
  third.send({ kind: "resync", id: again.id, purge: true, cause: { code: "access_changed", message: "" } });
  await becomes(shape, "resyncing");
  assert.deepEqual(await client.query(all), []);
  third.describe(again.id, orders);
  third.copy(again.id, [["8", "new"]]);
  third.join(24n, { [again.id]: [] });
  await becomes(shape, "ready");
  assert.deepEqual(counts, [2, 3, 0, 1]);
  const { resyncs, purges, refetches } = client.inspect();
  assert.deepEqual({ resyncs, purges, refetches }, { resyncs: 2, purges: 1, refetches: 2 });
  assert.ok(again.id > id);
});

test("a rewind forgets what has no boundary yet, whole transactions stay", async (t) => {
  const { client, server, id } = await synced(t);
  server.commits(20n, { [id]: [commit(20n, insert(3))] });
  server.commits(24n, { [id]: [commit(24n, insert(9))] }, false);
  server.send({ kind: "rewind" });
  server.commits(24n, { [id]: [commit(24n, insert(4), insert(5))] });
  await client.awaitPosition(text(24n));
  assert.deepEqual(
    await client.query("select id from orders order by id"),
    [1, 2, 3, 4, 5].map((n) => ({ id: n })),
  );
});

test("a channel goes on as well: every event once, none left out", async (t) => {
  const { peer, client } = await start(t);
  const first = await peer.greeted();
  const seen: unknown[] = [];
  const channel = client.channel("orders").on("*", ({ row }) => seen.push(row?.id));
  channel.subscribe();
  const { id } = await first.message("subscribe");
  first.describe(id, orders);
  first.join(16n, { [id]: [] });
  await channel.ready;
  first.commits(20n, { [id]: [commit(20n, insert(1))] });
  first.commits(24n, { [id]: [commit(24n, insert(2))] }, false);
  await client.awaitPosition(text(20n));
  first.socket.terminate();
  const { connection } = await peer.resuming();
  const { id: next, identity, changes: isChanges } = await connection.message("subscribe");
  assert.deepEqual({ identity, isChanges }, { identity: "orders", isChanges: true });
  connection.send({ kind: "resumed", id: next });
  connection.commits(24n, { [next]: [commit(24n, insert(2))] });
  await client.awaitPosition(text(24n));
  assert.deepEqual(seen, [1, 2]);
  assert.equal(channel.status, "joined");
});

test("a new token resumes where the connection is lost before it is taken, and the rows stay in sight until the server has decided", async (t) => {
  const { peer, client, shape, server } = await synced(t);
  client.setToken("refreshed");
  await server.message("authenticate");
  server.socket.terminate();
  const { connection, hello } = await peer.resuming();
  assert.equal(hello.token, "refreshed");
  assert.equal((await client.query(all)).length, 2);
  await goOn(connection);
  await reached(client, "live");
  assert.equal(shape.status, "ready");
  assert.equal(client.inspect().refetches, 0);
});

test("a new token that the server does not take makes the rows leave", async (t) => {
  const { client, shape, server } = await synced(t);
  client.setToken("somebody else's");
  await server.message("authenticate");
  server.socket.close(4401, "unauthenticated");
  await reached(client, "offline");
  await becomes(shape, "resyncing");
  assert.deepEqual(await client.query(all), []);
});

test("a server that shows a boundary before it has answered every identity is not believed", async (t) => {
  const { peer, client, server } = await synced(t);
  server.socket.terminate();
  const { connection } = await peer.resuming();
  await connection.message("resume");
  connection.commits(32n, {});
  const { hello } = await peer.resuming();
  assert.equal(hello.position, text(16n));
  assert.equal(client.inspect().breaches, 1);
});

/** A turn on the replica that lasts until what it resolves with is called. */
function holdReplica(pglite: { runExclusive<T>(work: () => Promise<T>): Promise<T> }): Promise<() => void> {
  return new Promise((resolve) => {
    void pglite.runExclusive(() => new Promise<void>((release) => resolve(release)));
  });
}
