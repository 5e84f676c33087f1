import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Client, createClient, type Shape } from "../../client-sdk/index.ts";
import type { ClientMessage } from "../../engine/protocol.ts";
import { emptyReplica } from "../support/replica.ts";
import { thorough } from "../support/thorough.ts";
import { until } from "../support/until.ts";
import { all, sharedReplica, synced } from "./clients.ts";
import { emptied } from "./emptied.ts";
import { Peer, type PeerConnection, table } from "./peer.ts";
import { resources, resourcesSince } from "./resources.ts";

test("a closed client leaves no socket, no timer and nothing else that keeps a process alive", async (t) => {
  const peer = await Peer.start(t);
  const before = resources();
  const client = createClient({ url: peer.url, shapes: { orders: { table: "orders" } } });
  const { pglite } = client;
  const server = await peer.greeted();
  const closed = once(server.socket, "close");
  await server.serve(table("orders", ["id integer"]), [["1"]], 16n);
  await client.preload();
  assert.deepEqual((await pglite.query("SELECT * FROM orders")).rows, [{ id: 1 }]);
  const live = client.live("SELECT * FROM orders");
  live.subscribe(() => {});
  await live.ready;
  client.channel("orders").subscribe();
  const wait = client.awaitPosition("0/FFFF", { timeoutMs: 3_600_000 });
  await Promise.all([client.close(), assert.rejects(wait, { code: "closed" }), closed]);
  assert.equal(client.pglite.closed, true);
  assert.equal(peer.openCount, 0);
  assert.deepEqual(resourcesSince(before), []);
});

test("a client that is closed while it waits for its next attempt makes none", async (t) => {
  const peer = await Peer.start(t);
  const before = resources();
  const client = createClient({ url: peer.url, backoff: { baseMs: 3_600_000, maxMs: 3_600_000 } });
  const offline = new Promise<void>((resolve) => client.onStatus((status) => status === "offline" && resolve()));
  (await peer.connection()).socket.terminate();
  await offline;
  await client.close();
  assert.equal(resourcesSince(before).includes("Timeout"), false);
});

test("a client closes also where the network swallows everything", async (t) => {
  const { client, server } = await synced(t);
  server.socket.pause();
  await client.close();
  assert.equal(client.status, "closed");
});

test("what a closed client is asked to do leaves the replica alone, and nobody waits for it", async (t) => {
  const { client, shape } = await synced(t);
  const channel = client.channel("orders").subscribe();
  const closing = client.close();
  await Promise.all([shape.unsubscribe(), channel.unsubscribe(), closing]);
  await shape.unsubscribe();
  assert.equal((await sharedReplica().query(all)).rows.length, 2);
});

test("what is under way when a client is closed is told so", async (t) => {
  const { client, shape } = await synced(t);
  const release = await new Promise<() => void>((held) => {
    void sharedReplica().transaction(() => new Promise<void>((resolve) => held(resolve)));
  });
  const [first, second] = [client.sync({ table: "orders", where: "id > 1" }), shape].map((one) => one.unsubscribe());
  const closing = client.close();
  release();
  const outcomes = await Promise.allSettled([first, second]);
  assert.ok(outcomes.every((one) => one.status === "fulfilled" || (one.reason as { code: string }).code === "closed"));
  await closing;
  assert.equal((await sharedReplica().query("select 1")).rows.length, 1);
});

test("where the replica cannot be opened, every promise says so, and so does the status", async (t) => {
  const peer = await Peer.start(t);
  const pglite = await emptyReplica();
  await pglite.close();
  const client = createClient({ url: peer.url, replica: pglite, shapes: { orders: { table: "orders" } } });
  t.after(() => client.close());
  const early = [
    client.awaitPosition("0/1"),
    client.channel("orders").subscribe().ready,
    client.live("SELECT 1").ready,
  ];
  await assert.rejects(client.preload(), { code: "replica_failed" });
  const live = client.live("SELECT 1");
  const late = [
    client.sync({ table: "items" }).ready,
    client.channel("items").subscribe().ready,
    client.awaitPosition("0/1"),
    client.query("SELECT 1"),
    live.ready,
  ];
  for (const promise of [...early, ...late]) await assert.rejects(promise, { code: "replica_failed" });
  assert.equal(live.status, "error");
  assert.equal(client.status, "offline");
});

/** More live queries than statements are kept. */
const manyShapes = thorough(1_000, 300);

test(`${manyShapes} shapes, channels and live queries that come and go leave nothing behind`, async (t) => {
  const { client, server, shape } = await synced(t);
  const before = await left(client);
  const resourcesBefore = resources();
  const answering = answer(server);
  for (let i = 0; i < manyShapes; i++) {
    const one = client.sync({ table: "orders", where: "id = $1", params: [i] });
    const channel = client.channel("orders").subscribe();
    const live = client.live(`SELECT ${i % 300} AS n, * FROM orders`);
    live.subscribe(() => {});
    one.on("status", () => {});
    live.close();
    await Promise.all([one.unsubscribe(), channel.unsubscribe()]);
  }
  answering.stop();
  assert.deepEqual(await left(client), before);
  assert.deepEqual(resourcesSince(resourcesBefore), []);
  assert.equal(shape.status, "ready");
});

/** What a client holds on to on the replica, and what it says that it does. */
async function left(client: Client): Promise<object> {
  const { shapes, channels, live } = client.inspect();
  const [tables] = await client.query("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace >= 16384");
  const [members] = await client.query("SELECT count(*) FROM walcast.members");
  return { shapes: shapes.length, channels: channels.length, live: live.length, tables, members };
}

/** Every unsubscribe. */
function answer(server: PeerConnection): { stop(): void } {
  const onMessage = (data: Buffer): void => {
    const message = JSON.parse(data.toString()) as ClientMessage;
    if (message.kind === "unsubscribe") server.send({ kind: "unsubscribed", id: message.id });
  };
  server.socket.on("message", onMessage);
  return { stop: () => void server.socket.off("message", onMessage) };
}

const manyClients = thorough(1_000, 150);

test(`${manyClients} clients leave no socket, no timer, nothing on their replica, and no memory`, async (t) => {
  const peer = await Peer.start(t);
  const replica = await emptied(sharedReplica());
  await replica.query("SELECT 1");
  const collected = new Collected();
  const one = async (isUsed: boolean): Promise<void> => {
    const client = createClient({ url: peer.url, replica });
    collected.watch(client);
    client.onStatus(() => {});
    const shape = isUsed ? use(client) : undefined;
    const server = await peer.greeted();
    const closed = once(server.socket, "close");
    await shape?.unsubscribe();
    await Promise.all([client.close(), closed]);
  };
  await one(true);
  const before = resources();
  for (let i = 1; i < manyClients; i++) await one(i % 10 === 0);
  assert.deepEqual(resourcesSince(before), []);
  assert.equal(peer.openCount, 0);
  assert.deepEqual((await replica.query("SELECT count(*)::int FROM pg_prepared_statements")).rows, [{ count: 0 }]);
  // The last one may still stand on the stack.
  await collected.count(manyClients - 1);
});

/** Something of everything. */
function use(client: Client): Shape {
  client.live("SELECT * FROM orders").subscribe(() => {});
  client.channel("orders").subscribe();
  return client.sync({ table: "orders", ttl: 3_600_000 });
}

test("clients with replicas of their own leave none of them", async (t) => {
  const peer = await Peer.start(t);
  const collected = new Collected();
  const one = async (): Promise<void> => {
    const client = createClient({ url: peer.url });
    collected.watch(client);
    collected.watch(client.pglite);
    const server = await peer.greeted();
    const closed = once(server.socket, "close");
    await client.query("SELECT 1");
    await Promise.all([client.close(), closed]);
  };
  await one();
  const before = resources();
  for (let i = 0; i < 9; i++) await one();
  assert.deepEqual(resourcesSince(before), []);
  await collected.count(18);
});

/** How many of what it watches nobody holds any more. */
class Collected {
  private collected = 0;
  private readonly registry = new FinalizationRegistry<undefined>(() => this.collected++);

  watch(target: object): void {
    this.registry.register(target, undefined);
  }

  async count(least: number): Promise<void> {
    await until(() => {
      collectGarbage();
      return this.collected >= least;
    });
  }
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

test("a wait without an end is a wait, not a rejection", async (t) => {
  const { client, server } = await synced(t);
  const wait = client.awaitPosition("0/20", { timeoutMs: Infinity });
  server.commits(32n, {});
  await wait;
});
