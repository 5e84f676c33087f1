/** Topics from one end to the other: a real Postgres, the engine, and clients with and without rights. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { PGlite } from "@electric-sql/pglite";
import { type Client, type ClientOptions, createClient, type TopicListener } from "../../client-sdk/index.ts";
import type { Auth } from "../../engine/config.ts";
import { type Running, running } from "../sockets/running.ts";
import { emptyReplica } from "../support/replica.ts";
import { until } from "../support/until.ts";
import { cuttable } from "./cuttable.ts";
import { emptied } from "./emptied.ts";

const setup = "CREATE TABLE orders (id bigint PRIMARY KEY, note text)";

let world: Running;
let replica: PGlite;

before(async () => {
  replica = await emptyReplica();
  world = await running(
    {
      positionEveryMs: 2_000,
      tables: { orders: { read: true } },
      auth: (token) => ({ claims: { sub: token }, scopes: token === undefined ? [] : [`user:${token}`] }),
      topics: {
        news: { read: true },
        staff: { read: ({ claims }: Auth) => claims["sub"] === "boss" },
        closed: {},
      },
    },
    setup,
  );
});
after(async () => {
  await world.close();
  await replica.close();
});

async function connect(t: TestContext, options: Partial<ClientOptions> = {}): Promise<Client> {
  await emptied(replica);
  const client = createClient({ url: world.engine.url, replica, backoff: { baseMs: 10, maxMs: 200 }, ...options });
  t.after(() => client.close());
  return client;
}

interface Heard {
  readonly payloads: unknown[];
  readonly positions: string[];
  readonly starts: (string | undefined)[];
  readonly errors: string[];
  stop: () => void;
}

/** Resolves once it listens, or was refused. */
async function hear(client: Client, topic: string, options = {}): Promise<Heard> {
  const heard: Heard = { payloads: [], positions: [], starts: [], errors: [], stop: () => {} };
  const listener: TopicListener = {
    onConnect: ({ missed }) => heard.starts.push(missed?.code),
    onMessage: ({ payload, position }) => {
      heard.payloads.push(payload);
      heard.positions.push(position);
    },
    onError: ({ code }) => heard.errors.push(code),
  };
  heard.stop = client.topic(topic, options).subscribe(listener);
  await until(() => heard.starts.length + heard.errors.length > 0);
  return heard;
}

function publish(topic: string, payload: unknown, scopes: readonly string[] | null = null): Promise<unknown> {
  return world.db.query("SELECT walcast.publish($1, $2, $3)", [topic, JSON.stringify(payload), scopes]);
}

/** Everything that was committed before has been told. */
async function settled(client: Client): Promise<void> {
  const { rows } = await world.db.query("SELECT pg_current_xact_id()::text AS xid");
  await client.awaitPosition({ xid: (rows as { xid: string }[])[0]!.xid }, { timeoutMs: 30_000 });
}

test("a message comes with the rows of its transaction, in commit order, and none comes of a rollback", async (t) => {
  const client = await connect(t);
  const shape = client.sync({ table: "orders" });
  await shape.ready;
  const rows: unknown[] = [];
  const heard = await hear(client, "news");
  client.topic<{ id: number }>("news").subscribe({
    // What it speaks of is on the replica by then.
    onMessage: ({ payload }) => rows.push(client.query("SELECT note FROM orders WHERE id = $1", [payload.id])),
  });
  await settled(client);
  await world.transaction(
    "INSERT INTO orders VALUES (1, 'first')",
    `SELECT walcast.publish('news', '{"id": 1, "text": "ä\\n\\"€"}')`,
    "UPDATE orders SET note = 'second' WHERE id = 1",
    `SELECT walcast.publish('news', '{"id": 1, "again": true}')`,
  );
  await world.db.query("BEGIN; SELECT walcast.publish('news', '\"undone\"'); ROLLBACK");
  await world.transaction(
    "SAVEPOINT a",
    "SELECT walcast.publish('news', '\"undone\"')",
    "ROLLBACK TO a",
    `SELECT walcast.publish('news', '{"id": 1, "kept": null}')`,
  );
  await settled(client);
  assert.deepEqual(heard.payloads, [
    { id: 1, text: 'ä\n"€' },
    { id: 1, again: true },
    { id: 1, kept: null },
  ]);
  assert.equal(heard.positions[0], heard.positions[1]);
  assert.notEqual(heard.positions[1], heard.positions[2]);
  assert.deepEqual(await Promise.all(rows), [[{ note: "second" }], [{ note: "second" }], [{ note: "second" }]]);
  heard.stop();
  await publish("news", "unheard");
  await settled(client);
  assert.equal(heard.payloads.length, 3);
});

test("what was published while a client was away comes once, in order, when it is back", async (t) => {
  const network = await cuttable(t, world.engine.url);
  const client = await connect(t, { url: network.url, backoff: { baseMs: 1, maxMs: 5 } });
  const heard = await hear(client, "news");
  await publish("news", 1);
  await settled(client);
  for (let round = 0; round < 3; round++) {
    const before = client.inspect().connections;
    for (let n = 0; n < 5; n++) await publish("news", n);
    network.cut();
    for (let n = 5; n < 10; n++) await publish("news", n);
    await until(() => client.inspect().connections > before);
  }
  await settled(client);
  assert.deepEqual(heard.payloads, [1, ...[0, 1, 2].flatMap(() => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])]);
  assert.deepEqual(heard.starts, [undefined]);
});

test("earlier messages come from the log: since a position, the newest of them, or none", async (t) => {
  const client = await connect(t);
  const live = await hear(client, "news");
  for (let n = 0; n < 4; n++) await publish("news", n);
  await world.transaction(...[4, 5, 6].map((n) => `SELECT walcast.publish('news', '${n}')`));
  await settled(client);
  const [, second] = live.positions;
  const all = [0, 1, 2, 3, 4, 5, 6];
  const cases = [
    [{ since: second }, all.slice(2)],
    [{ since: second, limit: 2 }, [5, 6]],
    [{ limit: 4 }, [3, 4, 5, 6]],
    [{ limit: 0 }, []],
    [{}, []],
  ] as const;
  const heard = await Promise.all(cases.map(([options]) => hear(client, "news", options)));
  await publish("news", "new");
  await settled(client);
  for (const [i, [options, expected]] of cases.entries()) {
    assert.deepEqual(heard[i]!.payloads, [...expected, "new"], JSON.stringify(options));
    assert.deepEqual(heard[i]!.starts, [undefined]);
  }
  const old = await hear(client, "news", { since: "0/1" });
  assert.deepEqual(old.starts, ["position_too_old"]);
  await settled(client);
  assert.deepEqual(old.payloads.slice(-8), [...all, "new"]);
});

test("a topic that is not there or whose rule says no is refused with a code, and nothing comes", async (t) => {
  const client = await connect(t, { token: "ann" });
  const refused = await Promise.all(["nowhere", "closed", "staff", "__proto__"].map((topic) => hear(client, topic)));
  const boss = await world.greeted("boss");
  boss.send({ kind: "listen", id: 1, messages: { topic: "staff" } });
  await boss.control("listening");
  for (const topic of ["nowhere", "closed", "staff"]) await publish(topic, "secret", null);
  await boss.awaitXid(1, await world.transaction("SELECT pg_current_xact_id()"));
  await settled(client);
  assert.deepEqual(
    refused.map(({ errors }) => errors),
    [["unknown_topic"], ["forbidden"], ["forbidden"], ["unknown_topic"]],
  );
  assert.deepEqual(
    refused.flatMap(({ payloads }) => payloads),
    [],
  );
  assert.deepEqual(boss.messages(1), ['"secret"']);
});

test("a message with scopes is for those whose verified token has one, whatever others claim", async () => {
  const [ann, bob] = [await world.greeted("ann"), await world.greeted("bob")];
  // A hostile client says what it likes of itself, in every place there is.
  const claims = { scopes: ["user:ann"], scope: "user:ann", claims: { sub: "ann" } };
  for (const [client, hostile] of [
    [ann, {}],
    [bob, claims],
  ] as const) {
    client.send({ kind: "listen", id: 1, ...hostile, messages: { topic: "news", ...hostile } });
    await client.control("listening");
  }
  await publish("news", "for ann", ["user:ann", "user:carl"]);
  await publish("news", "for nobody", []);
  await publish("news", "for both", ["user:ann", "user:bob"]);
  await publish("news", "for all");
  const xid = await world.transaction("SELECT pg_current_xact_id()");
  await Promise.all([ann, bob].map((client) => client.awaitXid(1, xid)));
  const texts = (client: typeof ann): unknown[] => client.messages(1).map((text) => JSON.parse(text) as unknown);
  assert.deepEqual(texts(ann), ["for ann", "for both", "for all"]);
  assert.deepEqual(texts(bob), ["for both", "for all"]);
  // With another token it has what that may have, from there on, and misses nothing.
  bob.send({ kind: "authenticate", token: "ann" });
  await bob.control("authenticated");
  await publish("news", "for ann again", ["user:ann"]);
  await bob.awaitXid(2, await world.transaction("SELECT pg_current_xact_id()"));
  assert.deepEqual(texts(bob), ["for both", "for all", "for ann again"]);
});

test("who may not call publish cannot forge a message, and what is too large is refused", async (t) => {
  const client = await connect(t);
  const heard = await hear(client, "news");
  for (const prefix of ["walcast.message.", "walcast.message.0", "walcast.publish", "walcast.message"])
    await world.db.query(`SELECT pg_logical_emit_message(true, $1, $2::text)`, [
      prefix,
      '{"topic": "news", "scopes": null}\n"forged"',
    ]);
  await world.db.query(`
    DO $$ BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'walcast_nobody') THEN CREATE ROLE walcast_nobody; END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`);
  await world.db.query("GRANT USAGE ON SCHEMA walcast TO walcast_nobody");
  for (const statement of [
    "SELECT walcast.publish('news', '1')",
    "SELECT walcast.revalidate('{a}')",
    "SELECT walcast.emit_message('{}', '')",
    "SELECT walcast.publish_once('p', 'k', 'news', '1')",
    "SELECT * FROM walcast.secrets",
  ])
    await assert.rejects(world.transaction("SET LOCAL ROLE walcast_nobody", statement), { code: "42501" });
  await assert.rejects(publish("news", "x".repeat(262_144)), { code: "54000" });
  await assert.rejects(publish("", 1), { code: "22023" });
  await assert.rejects(publish("x".repeat(513), 1), { code: "54000" });
  await assert.rejects(publish("news", 1, Array.from({ length: 1_001 }, String)), { code: "54000" });
  await settled(client);
  assert.deepEqual(heard.payloads, []);
});

test("messages of a large transaction come whole and in order, without those of a savepoint that was rolled back", async (t) => {
  const client = await connect(t);
  const heard = await hear(client, "news");
  const filler = "x".repeat(100_000);
  await world.transaction(
    `SELECT walcast.publish('news', jsonb_build_array(n, '${filler}')) FROM generate_series(1, 60) n`,
    "SAVEPOINT a",
    `SELECT walcast.publish('news', jsonb_build_array(-n, '${filler}')) FROM generate_series(1, 20) n`,
    "ROLLBACK TO a",
    `SELECT walcast.publish('news', jsonb_build_array(n, '${filler}')) FROM generate_series(61, 80) n`,
  );
  await settled(client);
  const numbers = (payloads: readonly unknown[]): unknown[] => payloads.map((payload) => (payload as unknown[])[0]);
  const all = Array.from({ length: 80 }, (_, i) => i + 1);
  assert.deepEqual(numbers(heard.payloads), all);
  const later = await hear(client, "news", { limit: 30 });
  await settled(client);
  assert.deepEqual(numbers(later.payloads), all.slice(-30));
});
