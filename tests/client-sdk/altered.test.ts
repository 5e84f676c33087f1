/** Tables that are brought to a new form, in place or by loading them again, and audits of what a replica has. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { TableDescription } from "../../engine/protocol.ts";
import { becomes, changes, orders, sharedReplica, start, synced } from "./clients.ts";
import { commit, type Peer, type PeerConnection, table, text } from "./peer.ts";
import { type Client, createClient, type Shape, type ShapeStatus } from "../../client-sdk/index.ts";

const everything = "select * from orders order by id";
const mood = (...labels: string[]): TableDescription["types"] => [
  { kind: "enum", schema: "public", name: "mood", labels },
];
const noted = table("orders", ["id integer", "status text", "note text"], ["id"], { version: "2", identity: "noted" });

test("a column that is added comes with the boundary, after what was before it and before what follows it", async (t) => {
  const { client, server, id } = await synced(t, [["1", "new"]]);
  const live = client.live(everything);
  await live.ready;
  const states = changes<readonly unknown[]>((push) => live.subscribe((rows) => push(rows)));
  server.commits(32n, { [id]: [commit(32n, { kind: "insert", row: ["2", "new"] })] }, false);
  server.send({ kind: "altered", id, table: noted, added: [{ name: "note", value: "it's \\ here" }] });
  server.commits(40n, { [id]: [commit(40n, { kind: "insert", row: ["3", "new", null] })] });
  await client.awaitPosition(text(40n));
  assert.deepEqual(states, [
    [{ id: 1, status: "new" }],
    [
      { id: 1, status: "new", note: "it's \\ here" },
      { id: 2, status: "new", note: "it's \\ here" },
      { id: 3, status: "new", note: null },
    ],
  ]);
  server.commits(48n, { [id]: [commit(48n, { kind: "update", row: ["3", "new", "changed"] })] });
  await client.awaitPosition(text(48n));
  assert.deepEqual(live.rows[2], { id: 3, status: "new", note: "changed" });
  assert.equal(client.inspect().refetches, 0);
});

test("an alteration that a rewind takes back has not happened; the identity moves with the boundary", async (t) => {
  const { peer, client, server, id } = await synced(t);
  server.send({ kind: "altered", id, table: noted, added: [{ name: "note", value: null }] });
  server.send({ kind: "rewind" });
  server.commits(32n, { [id]: [commit(32n, { kind: "insert", row: ["3", "new"] })] });
  await client.awaitPosition(text(32n));
  server.send({ kind: "altered", id, table: noted, added: [{ name: "note", value: null }] });
  server.socket.terminate();
  const { connection } = await peer.resuming();
  const first = await connection.message("subscribe");
  assert.equal(first.identity, "orders");
  connection.send({ kind: "resumed", id: first.id });
  connection.send({ kind: "altered", id: first.id, table: noted, added: [{ name: "note", value: null }] });
  connection.commits(40n, {});
  await client.awaitPosition(text(40n));
  connection.socket.terminate();
  const { connection: third } = await peer.resuming();
  assert.equal((await third.message("subscribe")).identity, "noted");
});

test("a label that is added can be used by the rows that follow it", async (t) => {
  const { peer, client } = await start(t);
  const columns = ["id integer", "status mood"].map((column) => column.replace("mood", "public.mood"));
  const shape = client.sync({ table: "orders" });
  const server = await peer.greeted();
  const id = await server.serve(table("orders", columns, ["id"], { types: mood("sad") }), [["1", "sad"]], 16n);
  await shape.ready;
  const now = table("orders", columns, ["id"], { version: "2", types: mood("down", "sad", "happy") });
  server.send({ kind: "altered", id, table: now, added: [] });
  server.commits(32n, {
    [id]: [commit(32n, { kind: "insert", row: ["2", "happy"] }, { kind: "insert", row: ["3", "down"] })],
  });
  await client.awaitPosition(text(32n));
  assert.deepEqual(await client.query("select id from orders order by status"), [{ id: 3 }, { id: 1 }, { id: 2 }]);
});

test("shapes that share a table move to its new form together, a channel on it too, and it is stored so", async (t) => {
  const { peer, client, server, id } = await synced(t, [["1", "new"]]);
  const where = { table: "orders", where: "id > 0" };
  const second = client.sync(where);
  const other = await server.serve({ ...orders, identity: "id > 0" }, [["1", "new"]], 20n);
  await second.ready;
  const seen: unknown[] = [];
  const channel = client.channel("orders").on("*", ({ row }) => seen.push(row));
  channel.subscribe();
  const { id: watched } = await server.message("subscribe");
  server.describe(watched, orders);
  server.join(24n, { [watched]: [] });
  await channel.ready;
  server.commits(32n, { [watched]: [commit(32n, { kind: "insert", row: ["5", "before"] })] }, false);
  const added = [{ name: "note", value: "n" }];
  server.send({ kind: "altered", id, table: noted, added });
  server.send({ kind: "altered", id: other, table: { ...noted, identity: "id > 0, noted" }, added });
  server.send({ kind: "altered", id: watched, table: { ...noted, identity: "watched, noted" }, added });
  const row = { kind: "insert", row: ["2", "new", "m"] } as const;
  server.commits(40n, { [id]: [commit(40n, row)], [other]: [commit(40n, row)], [watched]: [commit(40n, row)] });
  await client.awaitPosition(text(40n));
  const rows = [
    { id: 1, status: "new", note: "n" },
    { id: 2, status: "new", note: "m" },
  ];
  assert.deepEqual(await client.query(everything), rows);
  assert.deepEqual(seen, [{ id: 5, status: "before" }, rows[1]]);
  await client.close();
  const again = createClient({
    url: peer.url,
    replica: sharedReplica(),
    shapes: { whole: { table: "orders" }, where },
  });
  t.after(() => again.close());
  await again.preload();
  assert.deepEqual(await again.query(everything), rows);
  const { connection } = await peer.resuming();
  const identities = [await connection.message("subscribe"), await connection.message("subscribe")];
  assert.deepEqual(
    identities.map(({ identity }) => identity),
    ["noted", "id > 0, noted"],
  );
});

// ── Columns that changed otherwise ───────────────────────────────────────────────────────────────────────────────────

const priced = table("orders", ["id integer", "price numeric"], ["id"], { version: "2", identity: "low, priced" });
const pricedHigh = { ...priced, identity: "high, priced" };
const before = [
  { id: 1, status: "new" },
  { id: 2, status: "new" },
  { id: 3, status: "new" },
];

/** Two shapes of one table, which the server loads again since its columns are others. */
async function resynced(t: TestContext, indexes: readonly string[] = []): Promise<Resynced> {
  const { peer, client, shape: low, server, id } = await synced(t);
  const high = client.sync({ table: "orders", where: "id > 1", indexes });
  const rows = [
    ["2", "new"],
    ["3", "new"],
  ];
  const other = await server.serve({ ...orders, identity: "high" }, rows, 20n);
  await high.ready;
  const cause = { code: "schema_changed", message: "" } as const;
  for (const one of [id, other]) server.send({ kind: "resync", id: one, cause });
  return { peer, client, server, low, high, lowId: id, highId: other };
}

interface Resynced {
  readonly peer: Peer;
  readonly client: Client;
  readonly server: PeerConnection;
  readonly low: Shape;
  readonly high: Shape;
  readonly lowId: number;
  readonly highId: number;
}

function loadLow({ server, lowId }: Pick<Resynced, "server" | "lowId">, position = 32n): void {
  server.describe(lowId, priced);
  server.copy(lowId, [
    ["1", "1.0"],
    ["2", "2.0"],
  ]);
  server.join(position, { [lowId]: [] });
}

function loadHigh(server: PeerConnection, highId: number, position: bigint): void {
  server.describe(highId, pricedHigh);
  server.copy(highId, [
    ["2", "2.5"],
    ["3", "3.0"],
  ]);
  server.join(position, { [highId]: [commit(position, { kind: "insert", row: ["4", "4.0"] })] });
}

test("shapes of a table whose columns changed come in together, at one commit, though one is complete before the other", async (t) => {
  const world = await resynced(t);
  const { client, server, low, high, lowId, highId } = world;
  const live = client.live(everything);
  await live.ready;
  const states = changes<readonly unknown[]>((push) => live.subscribe((rows) => push(rows)));
  const statuses = changes<ShapeStatus>((push) => low.on("status", push));
  loadLow(world);
  const operations = [
    { kind: "update", row: ["2", "2.5"] },
    { kind: "update", oldKey: ["1"], row: ["0", undefined] },
  ] as const;
  server.commits(36n, { [lowId]: [commit(36n, ...operations)] });
  server.send({ kind: "audit", id: lowId, rows: "2", hash: "0" });
  assert.deepEqual(await server.message("audited"), { kind: "audited", id: lowId, matches: false });
  assert.deepEqual([low.status, high.status, client.status], ["resyncing", "resyncing", "catching-up"]);
  assert.deepEqual(await client.query(everything), before);
  loadHigh(server, highId, 40n);
  await becomes(high, "ready");
  const after = [
    { id: 0, price: "1.0" },
    { id: 2, price: "2.5" },
    { id: 3, price: "3.0" },
    { id: 4, price: "4.0" },
  ];
  assert.deepEqual(states, [before, after]);
  assert.deepEqual(statuses, ["resyncing", "ready"]);
  assert.equal(client.status, "live");
  server.commits(44n, { [highId]: [commit(44n, { kind: "delete", key: ["3"] }, { kind: "delete", key: ["2"] })] });
  await client.awaitPosition(text(44n));
  assert.deepEqual(
    live.rows.map(({ id }) => id),
    [0, 2, 4],
  );
});

const absences: Record<string, (world: Resynced) => unknown> = {
  "is unsubscribed": ({ high }) => high.unsubscribe(),
  "is refused": ({ server, highId }) =>
    server.send({ kind: "error", subscription: highId, error: { code: "where_unsupported", message: "" } }),
  "may not be read any more": ({ server, highId }) =>
    server.send({ kind: "error", subscription: highId, error: { code: "forbidden", message: "" } }),
  "must not be seen until it is loaded": ({ server, highId }) =>
    server.send({ kind: "resync", id: highId, purge: true, cause: { code: "access_changed", message: "" } }),
  "cannot be loaded": ({ server, highId }) => {
    server.describe(highId, { ...pricedHigh, columns: priced.columns.slice(0, 1) });
  },
};
for (const [what, happens] of Object.entries(absences))
  test(`a shape that waits for one of its table to be loaded again does not when that one ${what}`, async (t) => {
    const world = await resynced(t);
    const { client, server, low, lowId } = world;
    loadLow(world);
    server.send({ kind: "audit", id: lowId, rows: "2", hash: "0" });
    await server.message("audited");
    await happens(world);
    await becomes(low, "ready");
    assert.deepEqual(await client.query(everything), [
      { id: 1, price: "1.0" },
      { id: 2, price: "2.0" },
    ]);
  });

test("a shape that waited and cannot come in keeps the other one of its table not out", async (t) => {
  const world = await resynced(t, ["status"]);
  const { client, server, low, high } = world;
  loadHigh(server, world.highId, 32n);
  loadLow(world, 40n);
  await becomes(low, "ready");
  await becomes(high, "error");
  assert.match(String(high.error), /column "status" does not exist/);
  assert.deepEqual(await client.query("select id from orders order by id"), [{ id: 1 }, { id: 2 }]);
});

test("a shape that waits for another of its table goes on over connections and alterations", async (t) => {
  const world = await resynced(t);
  const { peer, client, high } = world;
  loadLow(world);
  world.server.commits(36n, {});
  world.server.socket.terminate();
  const { connection: server, hello } = await peer.resuming();
  assert.equal(hello.position, text(36n));
  const { id, identity } = await server.message("subscribe");
  assert.equal(identity, "low, priced");
  server.send({ kind: "resumed", id });
  const { id: other, identity: none } = await server.message("subscribe");
  assert.equal(none, undefined);
  const columns = [...priced.columns, { name: "note", type: "text", notNull: false }];
  const third = { ...priced, columns, version: "3", identity: "low, third" };
  server.send({ kind: "altered", id, table: third, added: [{ name: "note", value: "n" }] });
  server.commits(40n, { [id]: [commit(40n, { kind: "insert", row: ["0", "0.0", "m"] })] });
  server.describe(other, { ...third, identity: "high, third" });
  server.copy(other, [["3", "3.0", "o"]]);
  assert.deepEqual(await client.query(everything), before);
  server.join(44n, { [other]: [] });
  await becomes(high, "ready");
  assert.deepEqual(await client.query(everything), [
    { id: 0, price: "0.0", note: "m" },
    { id: 1, price: "1.0", note: "n" },
    { id: 2, price: "2.0", note: "n" },
    { id: 3, price: "3.0", note: "o" },
  ]);
  server.socket.terminate();
  const { connection } = await peer.resuming();
  assert.equal((await connection.message("subscribe")).identity, "low, third");
});

test("a process that ends while a shape waits leaves the rows that were shown, and the next one loads all again", async (t) => {
  const world = await resynced(t);
  const { peer, client, server, low, high, lowId } = world;
  loadLow(world);
  server.send({ kind: "audit", id: lowId, rows: "2", hash: "0" });
  await server.message("audited");
  await client.close();
  const shapes = { low: low.request, high: high.request };
  const again = createClient({ url: peer.url, replica: sharedReplica(), shapes });
  t.after(() => again.close());
  const { connection } = await peer.resuming();
  const lowAgain = await connection.message("subscribe");
  const highAgain = await connection.message("subscribe");
  assert.deepEqual([lowAgain.identity, highAgain.identity], [undefined, undefined]);
  assert.deepEqual(await again.query(everything), before);
  loadHigh(connection, highAgain.id, 36n);
  loadLow({ server: connection, lowId: lowAgain.id }, 40n);
  await becomes(again.shapes.low, "ready");
  assert.equal(again.shapes.high.status, "ready");
  assert.equal((await again.query(everything)).length, 4);
});

test("an audit is answered for the boundary before it, for each shape of a shared table by itself", async (t) => {
  const { client, server, id } = await synced(t, [
    ["1", "new"],
    ["2", "ö|:n"],
  ]);
  const second = client.sync({ table: "orders", where: "id > 1" });
  const other = await server.serve(
    { ...orders, identity: "id > 1" },
    [
      ["2", "ö|:n"],
      ["3", "x"],
    ],
    20n,
  );
  await second.ready;
  server.commits(32n, { [id]: [commit(32n, { kind: "update", row: ["1", "paid"] })] });
  const whole = await hashOf([
    ["1", "paid"],
    ["2", "ö|:n"],
  ]);
  server.send({ kind: "audit", id, ...whole });
  server.commits(36n, { [other]: [commit(36n, { kind: "update", row: ["3", "y"] })] });
  server.send({
    kind: "audit",
    id: other,
    ...(await hashOf([
      ["2", "ö|:n"],
      ["3", "y"],
    ])),
  });
  server.send({
    kind: "audit",
    id: other,
    ...(await hashOf([
      ["2", "ö|:n"],
      ["3", "x"],
    ])),
  });
  server.send({ kind: "audit", id, rows: "3", hash: whole.hash });
  const answers = [];
  for (let n = 0; n < 4; n++) answers.push(await server.message("audited"));
  assert.deepEqual(
    answers.map(({ id: audited, matches }) => [audited, matches]),
    [
      [id, true],
      [other, true],
      [other, false],
      [id, false],
    ],
  );
});

test("an empty shape's audit is that of no rows", async (t) => {
  const { server, id } = await synced(t, []);
  server.send({ kind: "audit", id, rows: "0", hash: "0" });
  assert.equal((await server.message("audited")).matches, true);
});

/** Written out as docs/protocol.md has it. */
async function hashOf(rows: readonly (readonly [string, string])[]): Promise<{ rows: string; hash: string }> {
  const texts = rows.map((row) => row.map((value) => `${value.length}:${value}`).join(""));
  const { rows: found } = await sharedReplica().query<{ hash: string }>(
    "select coalesce(sum(('x' || left(md5(row), 16))::bit(64)::bigint), 0)::text as hash from unnest($1::text[]) row",
    [texts],
  );
  return { rows: String(rows.length), hash: found[0]!.hash };
}
