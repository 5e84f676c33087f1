/** Channels, topics and keys where there is no replica, or none yet. In a process of its own, where nothing else loads PGlite. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { registerHooks } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock, type TestContext, test } from "node:test";
import type { Client, ClientOptions } from "../../client-sdk/index.ts";
import type { Operation } from "../../engine/protocol.ts";
import { until } from "../support/until.ts";
import { commit, Peer, type PeerConnection, table, text } from "./peer.ts";
import { resources, resourcesSince } from "./resources.ts";

const loaded: string[] = [];
registerHooks({
  load: (url, context, next) => {
    loaded.push(url);
    return next(url, context);
  },
});
// Not before: what is loaded is seen from here on.
const { createClient } = await import("../../client-sdk/index.ts");

const orders = table("orders", ["id integer", "status text"]);
const isPglite = (url: string): boolean => url.includes("@electric-sql/pglite") || url.endsWith("client-sdk/local.ts");

interface Event {
  readonly id: number;
  readonly position: string;
}

function connect(t: TestContext, peer: Peer, options: Partial<ClientOptions> = {}): Client {
  const client = createClient({ url: peer.url, backoff: { baseMs: 1, maxMs: 20 }, ...options });
  t.after(() => client.close());
  return client;
}

/** A channel on `orders`, and what it has told. */
function watch(client: Client): { ready: Promise<void>; seen: Event[] } {
  const seen: Event[] = [];
  const channel = client
    .channel<{ id: number }>("orders")
    .on("*", ({ row, position }) => seen.push({ id: row!.id, position }));
  return { ready: channel.subscribe().ready, seen };
}

function insert(id: number): Operation {
  return { kind: "insert", row: [String(id), "new"] };
}

async function served(server: PeerConnection, position: bigint): Promise<number> {
  const { id, changes } = await server.message("subscribe");
  assert.equal(changes, true);
  server.describe(id, orders);
  server.join(position, { [id]: [] });
  return id;
}

test("a client that only listens never loads PGlite, goes on after a drop, and leaves nothing behind", async (t) => {
  const peer = await Peer.start(t);
  const before = resources();
  for (let round = 0; round < 20; round++) await listens(t, peer);
  assert.deepEqual(resourcesSince(before), []);
  assert.equal(peer.openCount, 0);
  assert.deepEqual(loaded.filter(isPglite), []);
});

/** To everything that can be listened to, over two connections. */
async function listens(t: TestContext, peer: Peer): Promise<void> {
  const client = connect(t, peer);
  const { ready, seen } = watch(client);
  const news: unknown[] = [];
  client
    .topic("news")
    .subscribe({ onConnect: ({ position }) => news.push(position), onMessage: ({ payload }) => news.push(payload) });
  const server = await peer.greeted();
  const id = await served(server, 16n);
  await ready;
  const { id: topic } = await server.message("listen");
  server.send({ kind: "listening", id: topic, identity: "news", from: text(16n) });
  server.join(20n, { [topic]: [] });
  server.commits(32n, { [id]: [commit(24n, insert(1)), commit(32n, insert(2))] });
  // Half of a commit whose rest never comes.
  server.commits(40n, { [id]: [commit(40n, insert(3))] }, false);
  await client.awaitPosition(text(32n));
  assert.equal(client.status, "live");
  server.socket.terminate();
  const { connection, hello } = await peer.resuming(40n);
  assert.deepEqual([hello.epoch, hello.position], ["epoch", text(32n)]);
  const { id: again, identity } = await connection.message("subscribe");
  assert.equal(identity, "orders");
  const { id: topicAgain } = await connection.message("listen");
  for (const resumed of [again, topicAgain]) connection.send({ kind: "resumed", id: resumed });
  connection.commits(40n, {
    [again]: [commit(40n, insert(3))],
    [topicAgain]: [commit(40n, { kind: "insert", row: ['"hello"'] })],
  });
  await client.awaitPosition(text(40n));
  await until(() => client.status === "live");
  assert.deepEqual(
    seen,
    [
      [1, 24n],
      [2, 32n],
      [3, 40n],
    ].map(([row, position]) => ({ id: row, position: text(position as bigint) })),
  );
  assert.deepEqual(news, [text(20n), "hello"]);
  const closed = once(connection.socket, "close");
  await Promise.all([client.close(), closed]);
}

test("a commit of any size is told at its end, and not where the server takes it back", async (t) => {
  const peer = await Peer.start(t);
  const client = connect(t, peer);
  const { ready, seen } = watch(client);
  const server = await peer.greeted();
  const id = await served(server, 16n);
  await ready;
  const half = (from: number): Operation[] =>
    Array.from({ length: 3 }, (_, i) => ({ kind: "insert", row: [String(from + i), "x".repeat(1 << 20)] }));
  for (const from of [10, 20]) server.commits(32n, { [id]: [commit(32n, ...half(from))] }, false);
  server.send({ kind: "rewind" });
  for (const from of [10, 20]) server.commits(32n, { [id]: [commit(32n, ...half(from))] }, from === 20);
  await client.awaitPosition(text(32n));
  assert.deepEqual(
    seen.map((event) => event.id),
    [10, 11, 12, 20, 21, 22],
  );
  assert.deepEqual(loaded.filter(isPglite), []);
});

test("what a client without a replica is refused, it is told at once; a history that ends begins anew", async (t) => {
  const peer = await Peer.start(t);
  const client = connect(t, peer);
  const refused = client.channel("salaries").subscribe();
  const server = await peer.greeted();
  const { id } = await server.message("subscribe");
  server.send({ kind: "error", subscription: id, error: { code: "forbidden", message: "no" } });
  await assert.rejects(refused.ready, { code: "forbidden" });
  const { ready, seen } = watch(client);
  await served(server, 64n);
  await ready;
  assert.equal(client.position, text(64n));
  server.socket.terminate();
  const other = await peer.connection();
  await other.message("hello");
  other.send({ kind: "welcome", epoch: "another", position: text(8n), positionEveryMs: 60_000 });
  const again = await served(other, 8n);
  other.commits(12n, { [again]: [commit(12n, insert(1))] });
  await until(() => seen.length === 1);
  assert.equal(client.position, text(12n));
});

test("events do not wait for the replica; rows wait for it, and are those of the same commits", async (t) => {
  const opening = await gate(t);
  const peer = await Peer.start(t);
  const client = connect(t, peer, { shapes: { orders: { table: "orders" } } });
  const { ready, seen } = watch(client);
  const server = await peer.greeted();
  const subscribed = [await server.message("subscribe"), await server.message("subscribe")];
  const shape = subscribed.find(({ changes }) => !changes)!.id;
  const channel = subscribed.find(({ changes }) => changes)!.id;
  server.describe(shape, orders);
  server.copy(shape, [["1", "new"]]);
  server.describe(channel, orders);
  server.join(16n, { [shape]: [], [channel]: [] });
  await ready;
  for (const [row, position] of [
    [2, 32n],
    [3, 48n],
  ] as const)
    server.commits(position, {
      [channel]: [commit(position, insert(row))],
      [shape]: [commit(position, insert(row))],
    });
  await until(() => seen.length === 2);
  assert.deepEqual([opening.count(), client.position, client.status], [1, text(0n), "catching-up"]);
  opening.open();
  await client.preload();
  server.commits(64n, { [channel]: [commit(64n, insert(4))], [shape]: [commit(64n, insert(4))] });
  await client.awaitPosition(text(64n));
  assert.deepEqual(
    await client.query("SELECT id FROM orders ORDER BY id"),
    [1, 2, 3, 4].map((id) => ({ id })),
  );
  assert.deepEqual(
    seen.map(({ id }) => id),
    [2, 3, 4],
  );
});

test("who wants rows later gets them, and the position never goes back", async (t) => {
  const opening = await gate(t);
  const peer = await Peer.start(t);
  const client = connect(t, peer);
  const { ready, seen } = watch(client);
  const server = await peer.greeted();
  const channel = await served(server, 16n);
  await ready;
  server.commits(32n, { [channel]: [commit(32n, insert(1))] });
  await client.awaitPosition(text(32n));
  assert.equal(opening.count(), 0);
  const shape = client.sync({ table: "orders" });
  const { id } = await server.message("subscribe");
  server.describe(id, orders);
  server.copy(id, [["1", "new"]]);
  server.commits(40n, { [channel]: [commit(40n, insert(2))] });
  await until(() => seen.length === 2);
  assert.deepEqual([opening.count(), client.position, shape.status], [1, text(32n), "loading"]);
  opening.open();
  server.join(48n, { [id]: [commit(40n, insert(2))] });
  await shape.ready;
  assert.equal(client.position, text(48n));
  assert.deepEqual(await client.query("SELECT id FROM orders ORDER BY id"), [{ id: 1 }, { id: 2 }]);
  server.commits(56n, { [channel]: [commit(56n, insert(3))], [id]: [commit(56n, insert(3))] });
  await client.awaitPosition(text(56n));
  assert.deepEqual(
    seen.map((event) => event.id),
    [1, 2, 3],
  );
});

test("a replica that lasts is not waited for; then rows go on from where they are, and events after those that were told", async (t) => {
  const { peer, replica } = await stored(t);
  const opening = await gate(t);
  const client = connect(t, peer, { replica, shapes: { orders: { table: "orders" } } });
  const { ready, seen } = watch(client);
  const news: unknown[] = [];
  client.topic("news").subscribe({ onMessage: ({ payload }) => news.push(payload) });
  const early = await peer.connection();
  assert.equal((await early.message("hello")).position, undefined);
  early.send({ kind: "welcome", epoch: "epoch", position: text(64n), positionEveryMs: 60_000 });
  const channel = await served(early, 64n);
  const { id: topic } = await early.message("listen");
  early.send({ kind: "listening", id: topic, identity: "news", from: text(64n) });
  early.join(64n, { [topic]: [] });
  await ready;
  early.commits(80n, { [channel]: [commit(80n, insert(8))] });
  early.commits(96n, { [topic]: [commit(96n, { kind: "insert", row: ['"first"'] })] });
  const waited = client.awaitPosition({ xid: 96n });
  await until(() => news.length === 1);
  assert.deepEqual([opening.count(), client.position, client.status], [1, text(0n), "connecting"]);
  opening.open();
  const { connection, hello } = await peer.resuming(128n);
  assert.deepEqual([hello.epoch, hello.position], ["epoch", text(32n)]);
  assert.deepEqual(await client.query("SELECT id FROM orders ORDER BY id"), [{ id: 1 }, { id: 2 }]);
  const asked = [await connection.message("subscribe"), await connection.message("subscribe")];
  const shape = asked.find(({ changes }) => !changes)!;
  const again = asked.find(({ changes }) => changes)!;
  assert.equal(shape.identity, "orders");
  assert.deepEqual(again.after, { identity: "orders", epoch: "epoch", position: text(96n) });
  const listened = await connection.message("listen");
  assert.deepEqual(listened.messages, { topic: "news", since: text(96n), epoch: "epoch" });
  const { id: awaited } = await connection.message("await");
  connection.send({ kind: "resumed", id: shape.id });
  for (const [row, position] of [
    [7, 48n],
    [8, 80n],
    [9, 128n],
  ] as const)
    connection.commits(position, { [shape.id]: [commit(position, insert(row))] });
  connection.describe(again.id, orders);
  connection.send({ kind: "listening", id: listened.id, identity: "news", from: text(96n) });
  connection.catchUp({ [again.id]: [commit(112n, insert(9))] });
  connection.join(128n, { [again.id]: [commit(128n, insert(10))], [listened.id]: [] });
  connection.send({ kind: "awaited", id: awaited, position: text(128n) });
  await waited;
  connection.commits(144n, { [again.id]: [commit(144n, insert(11))] });
  await client.awaitPosition(text(144n));
  assert.deepEqual(
    seen.map(({ id }) => id),
    [8, 9, 10, 11],
  );
  assert.deepEqual(await client.query("SELECT count(*)::int AS count FROM orders"), [{ count: 5 }]);
  assert.equal(client.status, "live");
});

test("what a channel was told before its replica was open stays told, however often the next connection is lost", async (t) => {
  const { peer, replica } = await stored(t);
  const opening = await gate(t);
  const client = connect(t, peer, { replica });
  const { ready, seen } = watch(client);
  const early = await peer.greeted(64n);
  const channel = await served(early, 64n);
  await ready;
  early.commits(80n, { [channel]: [commit(80n, insert(1))] });
  await until(() => seen.length === 1);
  opening.open();
  const after = { identity: "orders", epoch: "epoch", position: text(80n) };
  const { connection } = await peer.resuming(128n);
  const first = await connection.message("subscribe");
  assert.deepEqual(first.after, after);
  connection.describe(first.id, orders);
  connection.catchUp({ [first.id]: [commit(96n, insert(2))] });
  connection.socket.terminate();
  // It cannot go on from where the replica is; from what was told it can.
  const next = await peer.greeted(128n);
  const second = await next.message("subscribe");
  assert.deepEqual(second.after, after);
  next.describe(second.id, orders);
  next.catchUp({ [second.id]: [commit(96n, insert(2))] });
  next.join(128n, { [second.id]: [] });
  next.commits(144n, { [second.id]: [commit(144n, insert(3))] });
  await until(() => seen.length === 3);
  next.socket.terminate();
  const { connection: last } = await peer.resuming(144n);
  const third = await last.message("subscribe");
  assert.deepEqual([third.after, third.identity], [undefined, "orders"]);
  assert.deepEqual(
    seen.map(({ id }) => id),
    [1, 2, 3],
  );
});

test("where nothing was stored the one connection stays, and rows begin where it is", async (t) => {
  const opening = await gate(t);
  const peer = await Peer.start(t);
  let asked = 0;
  const token = (): string => `token ${++asked}`;
  const replica = await directory(t);
  const client = connect(t, peer, { replica, token, shapes: { orders: { table: "orders" } } });
  const { ready, seen } = watch(client);
  const server = await peer.greeted();
  const channel = await served(server, 16n);
  await ready;
  server.commits(32n, { [channel]: [commit(32n, insert(1))] });
  const waited = client.awaitPosition({ xid: 32n });
  await until(() => seen.length === 1);
  assert.deepEqual([client.position, client.status], [text(0n), "connecting"]);
  opening.open();
  const { id } = await server.message("subscribe");
  const { id: awaited } = await server.message("await");
  server.describe(id, orders);
  server.copy(id, [["1", "new"]]);
  server.join(40n, { [id]: [] });
  server.send({ kind: "awaited", id: awaited, position: text(40n) });
  await Promise.all([client.preload(), waited]);
  server.commits(48n, { [channel]: [commit(48n, insert(2))], [id]: [commit(48n, insert(2))] });
  await client.awaitPosition(text(48n));
  assert.deepEqual(
    seen.map((event) => event.id),
    [1, 2],
  );
  assert.deepEqual(await client.query("SELECT id FROM orders ORDER BY id"), [{ id: 1 }, { id: 2 }]);
  assert.deepEqual([client.inspect().connections, asked], [1, 1]);
  client.setToken(() => "another");
  assert.equal((await server.message("authenticate")).token, "another");
});

test("a server that says no while a replica is being opened: its rows leave as soon as it is open", async (t) => {
  const { peer, replica } = await stored(t);
  const opening = await gate(t);
  const client = connect(t, peer, { replica, shapes: { orders: { table: "orders" } } });
  watch(client).ready.catch(() => {});
  const early = await peer.connection();
  await early.message("hello");
  // It soon tries again.
  const offline = new Promise<void>((resolve) => client.onStatus((status) => status === "offline" && resolve()));
  early.socket.close(4403, "forbidden");
  await offline;
  opening.open();
  await until(() => client.inspect().purges === 1);
  await until(async () => (await client.query("SELECT FROM orders")).length === 0);
});

test("a client that is closed while PGlite starts closes with it, and nobody waits for it", async (t) => {
  const opening = await gate(t);
  const peer = await Peer.start(t);
  const client = connect(t, peer);
  const asked = client.query("SELECT 1");
  await until(() => opening.count() === 1);
  const closing = client.close();
  opening.open();
  await Promise.allSettled([closing, asked]);
  await assert.rejects(client.query("SELECT 1"), { code: "closed" });
  await until(() => peer.openCount === 0);
  assert.equal(client.pglite.closed, true);
});

/** A directory in which an earlier client has left two rows, at 32. */
async function stored(t: TestContext): Promise<{ peer: Peer; replica: string }> {
  const peer = await Peer.start(t);
  const replica = await directory(t);
  const client = connect(t, peer, { replica, shapes: { orders: { table: "orders" } } });
  const rows = [
    ["1", "new"],
    ["2", "new"],
  ];
  await (await peer.greeted()).serve(orders, rows, 32n);
  await client.preload();
  await client.close();
  return { peer, replica };
}

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "walcast-test-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return join(path, "replica");
}

/** A real replica, whose opening waits for a word. */
async function gate(t: TestContext): Promise<{ open(): void; count(): number }> {
  const { Database } = await import("../../client-sdk/database.ts");
  const { promise, resolve } = Promise.withResolvers<void>();
  const { open } = Object.getOwnPropertyDescriptors(Database.prototype);
  const mocked = mock.method(Database.prototype, "open", async function (this: InstanceType<typeof Database>) {
    await promise;
    return open.value!.call(this);
  });
  t.after(() => {
    resolve();
    mocked.mock.restore();
  });
  return { open: resolve, count: () => mocked.mock.callCount() };
}
