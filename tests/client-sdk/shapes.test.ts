/** A shape's life: its first rows, what its table is here, and how long it stays. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { createClient, type Shape } from "../../client-sdk/index.ts";
import { until } from "../support/until.ts";
import { all, changes, orders, sharedReplica, start, synced } from "./clients.ts";
import { commit, table, text } from "./peer.ts";
import { resources, resourcesSince } from "./resources.ts";

test("a shape with a ttl is there at once for who asks again in time, current and without a snapshot", async (t) => {
  const { client, server, id, shape } = await warm(t, 3_600_000);
  const seen = changes((listener) => shape.on("status", listener));
  await shape.unsubscribe();
  await shape.unsubscribe();
  server.commits(32n, { [id]: [commit(32n, { kind: "insert", row: ["3", "new"] })] });
  await client.awaitPosition(text(32n));
  const again = client.sync({ table: "public.Orders" });
  assert.equal(again.status, "ready");
  await again.ready;
  assert.equal((await client.query(all)).length, 3);
  assert.equal(client.inspect().shapes.length, 1);

  // It has no ttl of its own: now its rows leave, and whoever let go of it before has no say.
  await shape.unsubscribe();
  assert.equal(again.status, "ready");
  await again.unsubscribe();
  assert.equal((await server.message("unsubscribe")).id, id);
  assert.deepEqual(await client.query(all), []);
  assert.deepEqual(seen, []);
});

test("when its ttl is over a shape's rows leave", async (t) => {
  const { client, server, id, shape } = await warm(t, 1);
  await shape.unsubscribe();
  assert.equal((await server.message("unsubscribe")).id, id);
  await until(async () => (await client.query(all)).length === 0);
  assert.deepEqual(client.inspect().shapes, []);
  const again = client.sync({ table: "orders" });
  assert.equal(again.status, "loading");
  await server.serve(orders, [["1", "new"]], 16n);
  await again.ready;
});

test("a shape that nobody holds any more keeps no process alive once its client is closed", async (t) => {
  const before = resources();
  const { client, server, shape } = await warm(t, 3_600_000);
  await shape.unsubscribe();
  await Promise.all([client.close(), once(server.socket, "close")]);
  assert.equal(resourcesSince(before).includes("Timeout"), false);
});

test("a ttl that is none is refused with config_invalid", async (t) => {
  const { client } = await start(t);
  for (const ttl of [-1, Number.NaN])
    assert.throws(() => client.sync({ table: "orders", ttl }), { code: "config_invalid" });
});

test("a shape says which of its columns have another type here, and why", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "places" });
  const described = shape.describe();
  const types = [{ kind: "opaque", schema: "public", name: "vector" }] as const;
  const columns = ["id integer", 'at "public"."vector"', 'all "public"."vector"[]', "kind regclass", "name text"];
  await (await peer.greeted()).serve(table("places", columns, ["id"], { types }), [], 16n);
  const { columns: found, ...rest } = await described;
  assert.deepEqual(rest, { table: '"public"."places"', key: ["id"] });
  assert.deepEqual(
    found.map(({ name, type, localType }) => [name, type, localType]),
    [
      ["id", "integer", "integer"],
      ["at", '"public"."vector"', "text"],
      ["all", '"public"."vector"[]', "text[]"],
      ["kind", "regclass", "text"],
      ["name", "text", "text"],
    ],
  );
  const reasons = found.map(({ reason }) => reason);
  assert.deepEqual([reasons[0], reasons[4]], [undefined, undefined]);
  assert.match(reasons[1]!, /"vector" is an extension's type/);
  assert.match(reasons[2]!, /"vector"\[\] is an extension's type/);
  assert.match(reasons[3]!, /catalog/);
});

test("a shape that fails is not described", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "nothing" });
  const server = await peer.greeted();
  const { id } = await server.message("subscribe");
  server.send({ kind: "error", subscription: id, error: { code: "unknown_table", message: "there is none" } });
  await assert.rejects(shape.describe(), { code: "unknown_table" });
});

test("an index that a shape declares later is made on rows that an earlier process left", async (t) => {
  const { peer, client } = await synced(t);
  await client.close();
  const reopened = createClient({ url: peer.url, replica: sharedReplica() });
  t.after(() => reopened.close());
  await reopened.sync({ table: "orders", indexes: ["status DESC"] }).ready;
  const indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'orders' AND indexdef LIKE '%(status DESC)'";
  await until(async () => (await reopened.query(indexes)).length === 1);
});

test("while first rows come in, in parts, queries are answered and the thread gets to everything else", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders" });
  const other = client.sync({ table: "items" });
  const server = await peer.greeted();
  const { id } = await server.message("subscribe");
  const { id: otherId } = await server.message("subscribe");
  const release = await occupied(client.pglite);
  server.describe(id, orders, 4 * part.length);
  for (let i = 0; i < 4; i++)
    server.copy(
      id,
      part.map(([n, status]) => [`${i}${n}`, status]),
    );
  server.join(16n, { [id]: [] });
  // What is counted as soon as it comes says that all before it is here, and waits.
  server.send({ kind: "resync", id: otherId, cause: { code: "schema_changed", message: "in passing" } });
  await until(() => client.inspect().resyncs === 1);

  const events: string[] = [];
  shape.on("progress", ({ rows }) => events.push(`${rows} rows`));
  const reading = readOn(client, shape, events);
  release();
  await shape.ready;
  await reading;
  assert.deepEqual(
    events.filter((event) => event.endsWith("rows")),
    ["0 rows", ...[1, 2, 3, 4].map((n) => `${n * part.length} rows`)],
  );
  const between = events.slice(events.indexOf(`${part.length} rows`), events.indexOf(`${4 * part.length} rows`));
  for (const what of ["task", "answer of 1"])
    assert.ok(between.filter((one) => one === what).length >= 2, events.join());
  assert.equal((await client.query("SELECT FROM orders")).length, 4 * part.length);
  assert.equal(other.status, "loading");
});

/** As large as what is copied at once. */
const part = Array.from({ length: 16_384 }, (_, n) => [String(100_000 + n), "x".repeat(56)] as const);

/** Somebody else's transaction on the replica, until it is released. */
function occupied(pglite: Awaited<ReturnType<typeof start>>["client"]["pglite"]): Promise<() => void> {
  return new Promise((held) => {
    void pglite.transaction(() => new Promise<void>((release) => held(release)));
  });
}

async function readOn(
  client: { query(sql: string): Promise<object[]> },
  shape: Shape,
  events: string[],
): Promise<void> {
  const tick = (): void => {
    events.push("task");
    if (shape.status === "loading") setImmediate(tick);
  };
  setImmediate(tick);
  while (shape.status === "loading") {
    // The table is there as soon as it is described, and empty until all rows are.
    const rows = await client.query("SELECT 1 WHERE to_regclass('orders') IS NOT NULL");
    events.push(`answer of ${rows.length}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function warm(t: Parameters<typeof start>[0], ttl: number) {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders", ttl });
  const server = await peer.greeted();
  const rows = ["1", "2"].map((id) => [id, "new"]);
  const id = await server.serve(orders, rows, 16n);
  await shape.ready;
  return { client, server, id, shape };
}

// Compiled, not run: the names of declared shapes are known, and so are tables' where the database is.
export function typesOfHandles(): readonly Shape[] {
  const inferred = createClient({ url: "ws://127.0.0.1:1", shapes: { open: { table: "orders" } } });
  const described = createClient<{ orders: { id: number } }>({
    url: "ws://127.0.0.1:1",
    shapes: { orders: { table: "orders" }, open: { table: "orders" } },
  });
  // @ts-expect-error: nothing says that there is one of this name
  const open: Shape = described.shapes.open;
  // @ts-expect-error: there is none of this name
  const none: unknown = inferred.shapes.none;
  return [inferred.shapes.open, described.shapes.orders, open, none as Shape];
}
