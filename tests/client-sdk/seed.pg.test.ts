/** Rows that come with the page: read on the server, shown at once, and gone on from. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { PGlite } from "@electric-sql/pglite";
import { type Client, type ClientOptions, createClient, rowsOfSeed, type Seed } from "../../client-sdk/index.ts";
import { type Auth, sql } from "../../engine/index.ts";
import { type Running, running } from "../sockets/running.ts";
import { emptyReplica } from "../support/replica.ts";
import { cuttable } from "./cuttable.ts";
import { until } from "../support/until.ts";
import { emptied } from "./emptied.ts";

const shop = `
  create type order_status as enum ('new', 'paid');
  create table orders (id bigint primary key, customer text not null, status order_status not null, amount numeric(12, 2), tags text[], doc jsonb, placed timestamptz, note text);
  create table items (order_id bigint, line int, primary key (line, order_id));
  insert into orders values
    (1, 'Ada', 'new', 9.5, '{a,NULL}', '{"a": 1}', '2026-03-01 12:00:00.123456+00', E'</script><b>tab\\there\\\\ and\\nline'),
    (2, 'Ada', 'paid', null, '{}', null, null, null),
    (3, 'Bob', 'new', 1, null, null, null, '');
  insert into items values (1, 1), (1, 2)`;

let world: Running;
let replica: PGlite;
before(async () => {
  replica = await emptyReplica();
  const read = ({ claims }: Auth) => sql`customer = ${claims["sub"]}`;
  world = await running(
    {
      tables: { orders: { read }, items: { read: true } },
      auth: (token) => ({ claims: { sub: token }, scopes: [] }),
    },
    shop,
  );
});
after(async () => {
  await world.close();
  await replica.close();
});

const shapes = { orders: { table: "orders" }, items: { table: "items", where: "line > $1", params: [0] } } as const;
const ada: Auth = { claims: { sub: "Ada" }, scopes: [] };
const all = "select * from orders order by id";

/** As a page has it. */
async function seedFor(auth: Auth): Promise<Seed> {
  return JSON.parse(String(await world.engine.seed(shapes, auth))) as Seed;
}

async function open(t: TestContext, seed: Seed, options: Partial<ClientOptions> = {}): Promise<Client> {
  await emptied(replica);
  const url = world.engine.url;
  const client = createClient({
    url,
    replica,
    shapes,
    seed,
    token: "Ada",
    backoff: { baseMs: 10, maxMs: 100 },
    ...options,
  });
  t.after(() => client.close());
  return client;
}

test("a client goes on from a seed: what it holds is not sent again, and nothing since is missed", async (t) => {
  const seed = await seedFor(ada);
  assert.deepEqual(
    seed.shapes["orders"]!.rows.map(([id]) => id),
    ["1", "2"],
  );
  await world.transaction(
    "update orders set status = 'paid', tags = '{z}' where id = 1",
    "delete from items where line = 2",
  );
  await world.transaction("insert into orders values (4, 'Ada', 'new')");
  const { snapshotsTotal } = world.engine.stats();
  const client = await open(t, seed);
  const statuses: string[] = [];
  client.shapes.orders!.on("status", (status) => statuses.push(status));
  await client.awaitPosition({ xid: await world.transaction("update orders set amount = 10 where id = 4") });
  const rows = await client.query<{ id: number; status: string; amount: string }>(all);
  assert.deepEqual(
    rows.map(({ id, status, amount }) => [id, status, amount]),
    [
      [1, "paid", "9.50"],
      [2, "paid", null],
      [4, "new", "10.00"],
    ],
  );
  assert.deepEqual(await client.query("select * from items"), [{ order_id: 1, line: 1 }]);
  assert.deepEqual(
    [client.inspect().resumes, client.inspect().resyncs, world.engine.stats().snapshotsTotal],
    [1, 0, snapshotsTotal],
  );
  assert.deepEqual(statuses, ["ready"]);
  await world.engine.audit();
  await until(async () => (await world.metric('walcast_audits_total{result="matched"}')) > 0);
  assert.equal(await world.metric('walcast_audits_total{result="mismatched"}'), 0);
  await world.transaction(
    "delete from orders where id = 4",
    "update orders set status = 'new', tags = '{a,NULL}' where id = 1",
  );
});

test("a connection that is lost while a client goes on from its seed costs no snapshot and no row", async (t) => {
  const network = await cuttable(t, world.engine.url);
  for (const bytes of [0, 150, 300, 600, 1_200]) {
    const seed = await seedFor(ada);
    await world.transaction(`update orders set note = '${bytes} bytes' where id = 2`);
    const { snapshotsTotal } = world.engine.stats();
    network.cutAfter(bytes);
    const client = await open(t, seed, { url: network.url });
    const seen = new Set<number>();
    client.live<{ id: number }>(all).subscribe((rows) => seen.add(rows.length));
    await client.awaitPosition({ xid: await world.transaction("select pg_current_xact_id()") });
    assert.deepEqual(await client.query("select note from orders where id = 2"), [{ note: `${bytes} bytes` }]);
    assert.deepEqual([[...seen], client.inspect().refetches], [[2], 0]);
    assert.equal(world.engine.stats().snapshotsTotal, snapshotsTotal);
    await client.close();
  }
  await world.transaction("update orders set note = null where id = 2");
});

test("its rows are there before anything else, as the replica will have them, and safe in HTML", async (t) => {
  const text = String(await world.engine.seed(shapes, ada));
  assert.ok(!text.includes("<"), text);
  const seed = JSON.parse(text) as Seed;
  const first = rowsOfSeed<{ id: number }>(seed, "orders").toSorted((a, b) => a.id - b.id);
  const client = await open(t, seed, { url: "ws://127.0.0.1:9" });
  await client.preload();
  assert.deepEqual(first, await client.query(all));
  assert.equal(client.position, seed.position);
  assert.throws(() => rowsOfSeed(seed, "nothing"), { code: "config_invalid" });
});

test("with somebody else's token its rows leave at once, and theirs come", async (t) => {
  const client = await open(t, await seedFor(ada), { token: "Bob" });
  await until(() => client.inspect().purges > 0);
  await until(() => client.shapes.orders!.status === "ready" && client.status === "live");
  assert.deepEqual(
    (await client.query<{ id: number }>(all)).map(({ id }) => id),
    [3],
  );
});

test("where the log does not reach back, or history is another, the rows stay until others are loaded", async (t) => {
  const client = await open(t, { ...(await seedFor(ada)), epoch: "another" });
  await client.preload();
  assert.equal((await client.query(all)).length, 2);
  await until(() => client.status === "live");
  const { resumes, epoch } = client.inspect();
  assert.deepEqual([resumes, epoch === "another", (await client.query(all)).length], [0, false, 2]);
});

test("what the rules do not allow is in no seed, and nothing is left of one that was read", async () => {
  const { shapes: live, connections } = world.engine.stats();
  await assert.rejects(world.engine.seed({ other: { table: "other" } }, ada), { code: "unknown_table" });
  await assert.rejects(world.engine.seed(shapes), { code: "forbidden" });
  assert.deepEqual((await seedFor({ claims: { sub: "Eve" }, scopes: [] })).shapes["orders"]!.rows, []);
  assert.deepEqual((await world.engine.seed({}, ada)).shapes, {});
  await until(() => world.engine.stats().shapes === live && world.engine.stats().connections === connections);
});
