import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { createClient } from "../../client-sdk/index.ts";
import { Peer, table } from "./peer.ts";

test("a closed client leaves no socket, no timer and nothing else that keeps a process alive", async (t) => {
  const peer = await Peer.start(t);
  const before = process.getActiveResourcesInfo().sort();
  const client = createClient({ url: peer.url, shapes: { orders: { table: "orders" } } });
  const server = await peer.greeted();
  const closed = once(server.socket, "close");
  await server.serve(table("orders", ["id integer"]), [["1"]], 16n);
  await client.preload();
  const live = client.live("SELECT * FROM orders");
  live.subscribe(() => {});
  await live.ready;
  client.channel("orders").subscribe();
  const wait = client.awaitPosition("0/FFFF", { timeoutMs: 3_600_000 });
  await Promise.all([client.close(), assert.rejects(wait, { code: "closed" }), closed]);
  assert.equal(client.pglite.closed, true);
  assert.equal(peer.openCount, 0);
  assert.deepEqual(process.getActiveResourcesInfo().sort(), before);
});

test("a client that is closed while it waits for its next attempt makes none", async (t) => {
  const peer = await Peer.start(t);
  const client = createClient({ url: peer.url, backoff: { baseMs: 3_600_000, maxMs: 3_600_000 } });
  const offline = new Promise<void>((resolve) => client.onStatus((status) => status === "offline" && resolve()));
  (await peer.connection()).socket.terminate();
  await offline;
  await client.close();
  assert.equal(process.getActiveResourcesInfo().includes("Timeout"), false);
});
