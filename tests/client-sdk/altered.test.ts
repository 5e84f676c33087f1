/** Tables that are brought to a new form in place, and audits of what a replica has. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TableDescription } from "../../engine/protocol.ts";
import { changes, orders, sharedReplica, start, synced } from "./clients.ts";
import { commit, table, text } from "./peer.ts";
import { createClient } from "../../client-sdk/index.ts";

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
