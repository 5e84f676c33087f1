/** Channels, topics and keys where there is no replica, or none yet. In a process of its own, where nothing else loads PGlite. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { registerHooks } from "node:module";
import { mock, type TestContext, test } from "node:test";
import type { Client, ClientOptions } from "../../client-sdk/index.ts";
import type { Operation } from "../../engine/protocol.ts";
import { until } from "../support/until.ts";
import { commit, Peer, type PeerConnection, table, text } from "./peer.ts";

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
  const before = process.getActiveResourcesInfo().sort();
  for (let round = 0; round < 20; round++) await listens(t, peer);
  assert.deepEqual(process.getActiveResourcesInfo().sort(), before);
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
