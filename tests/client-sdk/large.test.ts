/** Commits that are larger than what a client holds in JavaScript. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import type { Operation } from "../../engine/protocol.ts";
import { thorough } from "../support/thorough.ts";
import { changes, orders, reached, start, synced } from "./clients.ts";
import { commit, type PeerConnection, text } from "./peer.ts";

const PART_ROWS = 1000;
const wide = "x".repeat(1000);
/** About a megabyte. */
const part = (n: number): Operation[] =>
  Array.from({ length: PART_ROWS }, (_, i) => ({ kind: "insert", row: [String(1000 * n + i), wide] }));

function sendParts(server: PeerConnection, id: number, position: bigint, from: number, to: number): void {
  for (let n = from; n < to; n++) server.commits(position, { [id]: [commit(position, ...part(n))] }, false);
}

const counted = "select count(*)::int as count, coalesce(sum(id), 0)::int as sum from orders";
const stagedRows = "select count(*)::int as count from walcast.staged";

test("a commit of any size is put aside on the replica, and shown at its boundary, all at once", async (t) => {
  const { client, server, id } = await synced(t, []);
  const live = client.live<{ count: number }>(counted);
  await live.ready;
  const states = changes<number>((push) => live.subscribe(([row]) => push(row!.count)));
  const runs = (): number => client.inspect().live[0]!.runs;
  sendParts(server, id, 32n, 1, 13);
  await anAnswer(client, server);
  assert.ok((await client.query<{ count: number }>(stagedRows))[0]!.count >= 8, "most of it was put aside");
  assert.equal(client.position, text(16n));
  const before = runs();
  server.commits(32n, {
    [id]: [commit(32n, { kind: "delete", key: ["1000"] }, { kind: "update", row: ["1001", "y"] })],
  });
  await client.awaitPosition(text(32n));
  assert.deepEqual(states, [0, 12 * PART_ROWS - 1]);
  assert.equal(runs(), before + 1);
  assert.deepEqual(await client.query("select status from orders where id = 1001"), [{ status: "y" }]);
  assert.deepEqual(await client.query(stagedRows), [{ count: 0 }]);
  assert.deepEqual(await client.query("select pg_relation_size('walcast.staged')::int as bytes"), [{ bytes: 0 }]);
});

test("what was put aside is dropped by a rewind, and by a connection that ends", async (t) => {
  const { peer, client, server, id } = await synced(t, []);
  sendParts(server, id, 32n, 1, 7);
  server.send({ kind: "rewind" });
  sendParts(server, id, 32n, 20, 26);
  await anAnswer(client, server);
  server.socket.terminate();
  const { connection } = await peer.resuming();
  const { id: next } = await connection.message("subscribe");
  connection.send({ kind: "resumed", id: next });
  connection.commits(32n, { [next]: [commit(32n, { kind: "insert", row: ["1", "only"] })] });
  await reached(client, "live");
  await client.awaitPosition(text(32n));
  assert.deepEqual(await client.query(counted), [{ count: 1, sum: 1 }]);
  assert.deepEqual(await client.query(stagedRows), [{ count: 0 }]);
});

test("a channel gets every event of a commit that was put aside, in order, and a shape that is resynced none of it", async (t) => {
  const { client, server, id } = await synced(t, []);
  const seen: number[] = [];
  const channel = client.channel<{ id: number }>("orders").on("INSERT", ({ row }) => seen.push(row!.id));
  channel.subscribe();
  const { id: watched } = await server.message("subscribe");
  server.describe(watched, orders);
  server.join(20n, { [watched]: [] });
  await channel.ready;
  for (let n = 1; n < 7; n++)
    server.commits(32n, { [watched]: [commit(32n, ...part(n))], [id]: [commit(32n, ...part(n))] }, false);
  server.send({ kind: "resync", id, cause: { code: "schema_changed", message: "" } });
  server.describe(id, orders);
  server.join(32n, { [id]: [commit(32n, { kind: "insert", row: ["1", "only"] })] });
  server.commits(36n, { [watched]: [commit(36n, { kind: "insert", row: ["1", "last"] })] });
  await client.awaitPosition(text(36n));
  assert.deepEqual(seen, [...Array.from({ length: 6 * PART_ROWS }, (_, i) => 1000 + i), 1]);
  assert.deepEqual(await client.query(counted), [{ count: 1, sum: 1 }]);
});

test("what a lane has to catch up with may be of any size as well", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders" });
  const server = await peer.greeted();
  const { id } = await server.message("subscribe");
  server.describe(id, orders);
  server.copy(id, [["1", "copied"]]);
  for (let n = 1; n < 9; n++) server.catchUp({ [id]: [commit(20n, ...part(n))] });
  server.join(24n, { [id]: [commit(24n, { kind: "delete", key: ["1"] })] });
  await shape.ready;
  assert.equal((await client.query<{ count: number }>(counted))[0]!.count, 8 * PART_ROWS);
  assert.deepEqual(await client.query(stagedRows), [{ count: 0 }]);
});

const mibOfRow = thorough(60, 15);

test(`a row of ${mibOfRow} MiB arrives, is changed, and keeps what an update leaves out`, async (t) => {
  const { client, server, id } = await synced(t, []);
  const huge = "ö0".repeat((mibOfRow / 3) << 20);
  server.commits(32n, { [id]: [commit(32n, { kind: "insert", row: ["1", huge] })] });
  server.commits(33n, { [id]: [commit(33n, { kind: "update", oldKey: ["1"], row: ["2", undefined] })] });
  await client.awaitPosition(text(33n), { timeoutMs: 60_000 });
  const [row] = await client.query("select id, octet_length(status) as bytes, md5(status) as md5 from orders");
  assert.deepEqual(row, { id: 2, bytes: Buffer.byteLength(huge), md5: createHash("md5").update(huge).digest("hex") });
});

/** The server's answer to an await comes after all that was sent before, and is worked off after it. */
async function anAnswer(client: { awaitPosition(at: { xid: string }): Promise<void> }, server: PeerConnection) {
  const answered = client.awaitPosition({ xid: "1" });
  server.send({ kind: "awaited", id: (await server.message("await")).id, position: text(16n) });
  await answered;
}
