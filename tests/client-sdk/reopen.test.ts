/** What an earlier process left on the replica. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type Client, type ClientOptions, createClient, type Shape } from "../../client-sdk/index.ts";
import { until } from "../support/until.ts";
import { all, becomes, orders, reached, sharedReplica, start, synced } from "./clients.ts";
import { commit, type Peer, type PeerConnection, table, text } from "./peer.ts";

const insert = (id: number) => ({ kind: "insert", row: [String(id), "new"] }) as const;
const items = table("items", ["id integer", "status text"]);

/** A client with `orders` joined at position 16, closed. */
async function left(t: TestContext, work?: (client: Client, server: PeerConnection, id: number) => unknown) {
  const { peer, client, server, id } = await synced(t);
  await work?.(client, server, id);
  await client.close();
  return peer;
}

function reopen(t: TestContext, peer: Peer, options: Partial<ClientOptions> = {}): Client {
  const client = createClient({
    url: peer.url,
    replica: sharedReplica(),
    backoff: { baseMs: 1, maxMs: 20 },
    ...options,
  });
  t.after(() => client.close());
  return client;
}

/** What a token looks like to a client, which does not verify it. */
const jwtOf = (claims: object): string =>
  ["{}", JSON.stringify(claims), "signed"].map((part) => Buffer.from(part).toString("base64url")).join(".");
const tokenOf = (sub: string, issued = 0): string => jwtOf({ sub, issued });

/** `orders` with two rows, left by a user. */
async function leftBy(t: TestContext, options: Partial<ClientOptions>): Promise<Peer> {
  const { peer, client } = await start(t, options);
  const shape = client.sync({ table: "orders" });
  const rows = [
    ["1", "new"],
    ["2", "new"],
  ];
  await (await peer.greeted()).serve(orders, rows, 16n);
  await shape.ready;
  await client.close();
  return peer;
}

/** Whether `orders` is there, with nobody to ask. */
async function isThere(client: Client): Promise<boolean> {
  const rows = await client.query("select from pg_class where relname = 'orders'");
  return rows.length > 0;
}

for (const [what, later, isShown] of [
  ["the same user with a newer token", { token: tokenOf("ann", 1) }, true],
  ["another user", { token: tokenOf("bob") }, false],
  ["another user, by a function", { token: () => tokenOf("bob") }, false],
  ["nobody", {}, false],
  ["the same user of another server", { token: tokenOf("ann"), url: "ws://127.0.0.1:9/other" }, false],
  ["the same user by another name", { token: tokenOf("ann"), subject: "ann" }, false],
] as const)
  test(`rows that a user left are ${isShown ? "" : "not "}shown to ${what}, also offline`, async (t) => {
    const peer = await leftBy(t, { token: tokenOf("ann") });
    const client = reopen(t, peer, later);
    assert.equal(await isThere(client), isShown);
    assert.equal(client.inspect().purges, isShown ? 0 : 1);
    await client.close();
    assert.equal(await isThere(reopen(t, peer, { token: tokenOf("ann") })), isShown, "what is purged is gone");
  });

for (const [what, later, isShown] of [
  ["by a newer one", { region: "north", exp: 2, iat: 1 }, true],
  ["by one that claims something else", { region: "south", exp: 1 }, false],
] as const)
  test(`rows left with a token that names nobody are ${isShown ? "" : "not "}found again ${what}`, async (t) => {
    const peer = await leftBy(t, { token: jwtOf({ region: "north", exp: 1, iat: 0 }) });
    assert.equal(await isThere(reopen(t, peer, { token: jwtOf(later) })), isShown);
  });

test("as long as a token function gives none, rows are not shown; it is asked again, and once for the connection, too", async (t) => {
  const peer = await leftBy(t, { token: tokenOf("ann") });
  let asked = 0;
  const client = reopen(t, peer, {
    token: async () => {
      if (++asked < 3) throw new Error("no network");
      return tokenOf("ann");
    },
  });
  await reached(client, "offline");
  assert.equal(client.inspect().lastError?.code, "unauthenticated");
  assert.equal(await isThere(client), true);
  const { hello } = await peer.resuming();
  assert.deepEqual([asked, hello.token], [3, tokenOf("ann")]);
});

test("where it is said who is there, rows are shown before a token function has answered", async (t) => {
  const peer = await leftBy(t, { token: tokenOf("ann"), subject: "ann" });
  const waiting = Promise.withResolvers<string>();
  const client = reopen(t, peer, { token: () => waiting.promise, subject: "ann" });
  assert.equal(await isThere(client), true);
  waiting.resolve("opaque");
  assert.equal((await peer.resuming()).hello.token, "opaque");
});

test("between another user's token and the server's answer the rows are nobody's; then they are theirs", async (t) => {
  for (const isAnswered of [false, true]) {
    const { peer, client } = await start(t, { token: tokenOf("ann") });
    const shape = client.sync({ table: "orders" });
    const server = await peer.greeted();
    await server.serve(orders, [["1", "new"]], 16n);
    await shape.ready;
    client.setToken(tokenOf("bob"));
    assert.equal((await server.message("authenticate")).token, tokenOf("bob"));
    if (isAnswered) server.send({ kind: "authenticated" });
    if (isAnswered) await until(() => client.inspect().authentications === 1);
    // In its turn after what has come until now.
    await client.sync({ table: "nothing" }).unsubscribe();
    await client.close();
    const bob = reopen(t, peer, { token: tokenOf("bob") });
    assert.equal(await isThere(bob), isAnswered);
    await bob.close();
  }
});

test("a token that is no JWT may be renewed: the newest that the server took finds the rows", async (t) => {
  const tokens = ["first", "second"];
  const { peer, client } = await start(t, { token: () => tokens.shift()! });
  const shape = client.sync({ table: "orders" });
  peer.also = { expiresInMs: 200 };
  const server = await peer.greeted();
  await server.serve(orders, [["1", "new"]], 16n);
  await shape.ready;
  await server.message("authenticate");
  server.send({ kind: "authenticated" });
  await until(() => client.inspect().authentications === 1);
  await client.sync({ table: "nothing" }).unsubscribe();
  await client.close();
  assert.equal(await isThere(reopen(t, peer, { token: "second" })), true);
});

async function goOn(server: PeerConnection): Promise<number> {
  const { id } = await server.message("subscribe");
  server.send({ kind: "resumed", id });
  return id;
}

test("a replica that is opened again has its rows before anything is connected, and goes on from its position", async (t) => {
  const peer = await left(t, async (client, server, id) => {
    server.commits(32n, { [id]: [commit(32n, insert(3))] });
    await client.awaitPosition(text(32n));
  });
  const client = reopen(t, peer);
  const shape = client.sync({ table: "public.Orders" });
  await shape.ready;
  assert.equal(shape.status, "ready");
  assert.equal(client.position, text(32n));
  assert.equal((await client.query(all)).length, 3);
  const { connection, hello } = await peer.resuming();
  assert.deepEqual(hello, { kind: "hello", epoch: "epoch", position: text(32n) });
  const { id, identity } = await connection.message("subscribe");
  assert.equal(identity, "orders");
  connection.send({ kind: "resumed", id });
  connection.commits(48n, { [id]: [commit(48n, { kind: "delete", key: ["1"] })] });
  await client.awaitPosition(text(48n));
  assert.equal((await client.query(all)).length, 2);
  assert.equal(client.inspect().refetches, 0);
});

test("shapes that share a table find their own rows again", async (t) => {
  const where = { table: "orders", where: "id > $1", params: [1] };
  const peer = await left(t, async (client, server) => {
    const second = client.sync(where);
    await server.serve(
      { ...orders, identity: "id > 1" },
      [
        ["2", "new"],
        ["3", "new"],
      ],
      20n,
    );
    await second.ready;
  });
  const client = reopen(t, peer);
  const [whole, some] = [client.sync({ table: "orders" }), client.sync(where)];
  const { connection } = await peer.resuming();
  const first = await connection.message("subscribe");
  const second = await connection.message("subscribe");
  assert.deepEqual([first.identity, second.identity], ["orders", "id > 1"]);
  for (const { id } of [first, second]) connection.send({ kind: "resumed", id });
  connection.commits(32n, {
    [first.id]: [commit(32n, { kind: "delete", key: ["2"] })],
    [second.id]: [commit(32n, { kind: "delete", key: ["2"] })],
  });
  await client.awaitPosition(text(32n));
  assert.deepEqual(await client.query("select id from orders order by id"), [{ id: 1 }, { id: 3 }]);
  await some.unsubscribe();
  assert.deepEqual(await client.query("select id from orders order by id"), [{ id: 1 }]);
  assert.equal(whole.status, "ready");
});

test("rows that nobody asked for stay behind when the position moves on: asked for later they are loaded anew", async (t) => {
  const peer = await left(t, async (client, server) => {
    const second = client.sync({ table: "items" });
    await server.serve(items, [["7", "old"]], 20n);
    await second.ready;
  });
  const client = reopen(t, peer);
  const shape = client.sync({ table: "items" });
  await shape.ready;
  const { connection } = await peer.resuming();
  connection.commits(32n, { [await goOn(connection)]: [commit(32n, { kind: "delete", key: ["7"] })] });
  await client.awaitPosition(text(32n));
  const late = client.sync({ table: "orders" });
  assert.equal(late.status, "resyncing");
  assert.equal((await client.query(all)).length, 2);
  assert.equal((await connection.message("subscribe")).identity, undefined);
});

test("a table that is loaded now does not get in the way of one that an earlier process loaded", async (t) => {
  const peer = await left(t);
  const client = reopen(t, peer);
  await client.sync({ table: "orders" }).ready;
  const late = client.sync({ table: "items" });
  const { connection } = await peer.resuming();
  await goOn(connection);
  await connection.serve(items, [["7", "new"]], 32n);
  await late.ready;
  assert.deepEqual(await client.query("select id from items"), [{ id: 7 }]);
});

test("rows that nobody asked for leave a table in which others move on", async (t) => {
  const peer = await left(t, async (client, server) => {
    const second = client.sync({ table: "orders", where: "id > 2" });
    await server.serve({ ...orders, identity: "id > 2" }, [["3", "new"]], 20n);
    await second.ready;
  });
  const client = reopen(t, peer);
  await client.sync({ table: "orders" }).ready;
  assert.equal((await client.query(all)).length, 3);
  const { connection } = await peer.resuming();
  connection.commits(32n, { [await goOn(connection)]: [commit(32n, { kind: "delete", key: ["1"] })] });
  await client.awaitPosition(text(32n));
  assert.deepEqual(await client.query(all), [{ id: 2, status: "new" }]);
});

test("what was resyncing when the process ended is not taken for current", async (t) => {
  const peer = await left(t, async (client, server, id) => {
    server.send({ kind: "resync", id, cause: { code: "schema_changed", message: "" } });
    server.commits(32n, {});
    await reached(client, "catching-up");
    // Not by awaitPosition, which waits for the rows as well.
    while (client.position !== text(32n)) await new Promise((resolve) => setImmediate(resolve));
  });
  const client = reopen(t, peer);
  const shape = client.sync({ table: "orders" });
  await becomes(shape, "resyncing");
  assert.equal((await client.query(all)).length, 2);
  const { connection } = await peer.resuming();
  assert.equal((await connection.message("subscribe")).identity, undefined);
});

test("another history replaces what was stored, and is stored itself", async (t) => {
  const peer = await left(t);
  const client = reopen(t, peer);
  const shape = client.sync({ table: "orders" });
  const server = await peer.connection();
  await server.message("hello");
  server.send({ kind: "welcome", epoch: "another", position: text(4n), positionEveryMs: 60_000 });
  await becomes(shape, "resyncing");
  await server.serve(orders, [["5", "other"]], 8n);
  await reached(client, "live");
  await client.close();
  const again = reopen(t, peer);
  await again.sync({ table: "orders" }).ready;
  assert.deepEqual(await again.query(all), [{ id: 5, status: "other" }]);
  const { hello } = await peer.resuming();
  assert.deepEqual(hello, { kind: "hello", epoch: "another", position: text(8n) });
});

test("rows of a table that comes with other columns make way for it", async (t) => {
  const peer = await left(t);
  const client = reopen(t, peer);
  const shape = client.sync({ table: "orders", columns: ["id"] });
  const { connection } = await peer.resuming();
  await connection.serve(table("orders", ["id integer"], ["id"], { identity: "narrow" }), [["9"]], 20n);
  await shape.ready;
  assert.deepEqual(await client.query("select * from orders"), [{ id: 9 }]);
});

const damages: Record<string, string> = {
  "of an older format": "UPDATE walcast.state SET format = 0",
  "without a column it knew": "ALTER TABLE walcast.state DROP COLUMN epoch",
  "whose table has lost a column": "ALTER TABLE orders DROP COLUMN status",
  "whose table is gone": "DROP TABLE orders",
  "that knows nothing of itself": "DELETE FROM walcast.state",
  "whose position is gone": "DELETE FROM walcast.position",
  "whose descriptions are gone": "DROP TABLE walcast.tables",
};

for (const [what, damage] of Object.entries(damages)) {
  test(`a store ${what} is reported, emptied and filled again`, async (t) => {
    const peer = await left(t);
    await sharedReplica().exec(`BEGIN READ WRITE; ${damage}; COMMIT`);
    const client = reopen(t, peer);
    const shape: Shape = client.sync({ table: "orders" });
    const server = await peer.greeted();
    assert.equal(client.inspect().lastError?.code, "replica_failed");
    await server.serve(orders, [["6", "new"]], 64n);
    await shape.ready;
    assert.deepEqual(await client.query(all), [{ id: 6, status: "new" }]);
  });
}
