/** Topics from one end to the other: a real Postgres, the engine, and clients with and without rights. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { get, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import type { PGlite } from "@electric-sql/pglite";
import { QueryClient, QueryObserver } from "@tanstack/query-core";
import { Kysely, PostgresDialect } from "kysely";
import { type Client, type ClientOptions, createClient, type TopicListener } from "../../client-sdk/index.ts";
import { watchReport } from "../../examples/topics/report.ts";
import { start as startToasts } from "../../examples/topics/toasts.ts";
import { bindQueryClient } from "../../client-sdk/bindings/tanstack-query.ts";
import type { Auth } from "../../engine/config.ts";
import { EventReader } from "../watch/event-reader.ts";
import { createEngine, type Engine } from "../../engine/main.ts";
import { formatLsn } from "../../engine/protocol.ts";
import { RawClient } from "../sockets/raw-client.ts";
import { type Running, running } from "../sockets/running.ts";
import { dropSlot } from "../support/postgres.ts";
import { emptyReplica } from "../support/replica.ts";
import { until } from "../support/until.ts";
import { cuttable } from "./cuttable.ts";
import { emptied } from "./emptied.ts";

const setup = `CREATE TABLE orders (id bigint PRIMARY KEY, note text);
  CREATE TABLE private (id bigint PRIMARY KEY);`;

function scopeOf(token: string): string {
  return token === "server" ? "walcast:publish" : `user:${token}`;
}

let world: Running;
let replica: PGlite;

before(async () => {
  replica = await emptyReplica();
  world = await running(
    {
      positionEveryMs: 2_000,
      // Time to connect again for a client that shares this thread with the engine.
      limits: { presenceGraceMs: 3_000 },
      tables: { orders: { read: true }, private: { read: () => false } },
      auth: (token) => ({ claims: { sub: token }, scopes: token === undefined ? [] : [scopeOf(token)] }),
      topics: {
        news: { read: true },
        staff: { read: ({ claims }: Auth) => claims["sub"] === "boss" },
        closed: {},
        chat: { read: true, publish: ({ claims }: Auth) => claims["sub"] === "ann" },
        board: { read: true, publish: ({ claims }: Auth) => claims["sub"] === "ann" },
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

test("a program publishes in a transaction of its own, or in its caller's, of pg or Kysely", async (t) => {
  const client = await connect(t);
  const heard = await hear(client, "news");
  const { engine, db } = world;
  const { published, xid } = await engine.publish("news", { own: true });
  await client.awaitPosition({ xid });
  assert.equal(published, true);
  assert.deepEqual(heard.payloads, [{ own: true }]);
  const kysely = new Kysely<unknown>({ dialect: new PostgresDialect({ pool: db.pool }) });
  await kysely.transaction().execute((tx) => engine.publish("news", "kysely", { tx }));
  await assert.rejects(
    kysely.transaction().execute(async (tx) => {
      await engine.publish("news", "undone", { tx });
      throw new Error("changed my mind");
    }),
    /changed my mind/,
  );
  const pg = await db.pool.connect();
  await pg.query("BEGIN");
  await engine.publish("news", "pg", { tx: pg });
  await engine.publish("news", "undone", { tx: pg, scopes: null });
  await pg.query("ROLLBACK");
  await pg.query("BEGIN");
  await engine.publish("news", "pg", { tx: pg });
  await pg.query("COMMIT");
  pg.release();
  await settled(client);
  assert.deepEqual(heard.payloads, [{ own: true }, "kysely", "pg"]);
  for (const [payload, options, code] of [
    [undefined, {}, "malformed_message"],
    ["\u0000", {}, "malformed_message"],
    ["x".repeat(262_144), {}, "too_large"],
    ["x".repeat(600_000), {}, "too_large"],
    [1, { scopes: [""] }, "malformed_message"],
    [1, { once: { producer: "p", key: "k".repeat(513) } }, "too_large"],
  ] as const)
    await assert.rejects(engine.publish("news", payload, options), { code });
});

test("a producer's key is a message once, also where two try at once or the first is rolled back", async (t) => {
  const client = await connect(t);
  const heard = await hear(client, "news");
  const { engine, db } = world;
  const once = { producer: "billing", key: "invoice 7" };
  const pg = await db.pool.connect();
  await pg.query("BEGIN");
  assert.equal((await engine.publish("news", "undone", { tx: pg, once })).published, true);
  await pg.query("ROLLBACK");
  pg.release();
  const all = await Promise.all(Array.from({ length: 8 }, () => engine.publish("news", "paid", { once })));
  assert.equal(all.filter(({ published }) => published).length, 1);
  assert.equal((await engine.publish("news", "paid", { once })).published, false);
  assert.equal((await engine.publish("news", "other", { once: { ...once, producer: "shop" } })).published, true);
  await db.query("UPDATE walcast.published_keys SET published_at = now() - interval '2 days'");
  await engine.publish("news", "later", { once: { producer: "p", key: "k" } });
  assert.equal((await db.query("SELECT FROM walcast.published_keys")).rowCount, 1);
  await settled(client);
  assert.deepEqual(heard.payloads, ["paid", "other", "later"]);
});

async function post(path: string, body: unknown, token?: string): Promise<unknown> {
  const response = await fetch(world.engine.url + path, {
    method: "POST",
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const answer = (await response.json()) as { code?: string; published?: boolean };
  return [response.status, answer.code ?? answer.published];
}

/** More levels than a stack takes. */
const deepest = `{"topic":"chat","payload":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;

test("over HTTP, the scope walcast:publish publishes anything, and a topic's rule to those it may speak to", async (t) => {
  const client = await connect(t, { token: "bob" });
  const heard = await hear(client, "chat");
  const cases: [path: string, body: unknown, token: string | undefined, expected: unknown][] = [
    ["/v1/publish", { topic: "chat", payload: { text: "hello" } }, "server", [200, true]],
    ["/v1/publish", { topic: "chat", payload: null, scopes: ["user:bob"] }, "server", [200, true]],
    ["/v1/publish", { topic: "chat", payload: 1, producer: "p", key: "1" }, "server", [200, true]],
    ["/v1/publish", { topic: "chat", payload: 1, producer: "p", key: "1" }, "server", [200, false]],
    ["/v1/publish", { topic: "unnamed", payload: 1 }, "server", [200, true]],
    ["/v1/publish", { topic: "chat", payload: "by ann" }, "ann", [200, true]],
    ["/v1/publish", { topic: "chat", payload: 1, scopes: ["user:bob"] }, "ann", [403, "forbidden"]],
    ["/v1/publish", { topic: "chat", payload: 1 }, "bob", [403, "forbidden"]],
    ["/v1/publish", { topic: "chat", payload: 1 }, undefined, [403, "forbidden"]],
    ["/v1/publish", { topic: "news", payload: 1 }, "ann", [403, "forbidden"]],
    ["/v1/publish", { topic: "unnamed", payload: 1 }, "ann", [404, "unknown_topic"]],
    ["/v1/publish", { topic: "chat" }, "server", [400, "malformed_message"]],
    ["/v1/publish", { topic: "chat", payload: 1, scope: "user:ann" }, "server", [400, "malformed_message"]],
    ["/v1/publish", { topic: "chat", payload: 1, scopes: "user:ann" }, "server", [400, "malformed_message"]],
    ["/v1/publish", "{", "server", [400, "malformed_message"]],
    ["/v1/publish", deepest, "server", [400, "malformed_message"]],
    ["/v1/publish", { topic: "chat", payload: "x".repeat(300_000) }, "server", [413, "too_large"]],
    ["/v1/publish", "x".repeat(1_100_000), "server", [413, "too_large"]],
    ["/v1/revalidate", { keys: ["posts"] }, "server", [200, true]],
    ["/v1/revalidate", { keys: ["posts"] }, "ann", [403, "forbidden"]],
    ["/v1/revalidate", { keys: "posts" }, "server", [400, "malformed_message"]],
  ];
  for (const [path, body, token, expected] of cases)
    assert.deepEqual(await post(path, body, token), expected, JSON.stringify(body).slice(0, 200));
  assert.equal((await fetch(`${world.engine.url}/v1/publish`)).status, 400);
  await settled(client);
  assert.deepEqual(heard.payloads, [{ text: "hello" }, null, 1, "by ann"]);
});

/** A table has to be got ready before its changes are told. */
async function listens(client: Client, isTold: () => boolean): Promise<void> {
  await until(async () => {
    await world.db.query("INSERT INTO orders SELECT coalesce(max(id), 0) + 1 FROM orders");
    await settled(client);
    return isTold();
  });
}

test("who listens to keys is told of those that are named, once a commit, and of none with a foreign scope", async (t) => {
  const client = await connect(t, { token: "ann" });
  const bob = await world.greeted("bob");
  const hostile = { scopes: ["user:ann"], claims: { sub: "ann" } };
  bob.send({ kind: "listen", id: 1, messages: { keys: ["posts.list", "users"], ...hostile }, ...hostile });
  await bob.control("listening");
  const heard: string[][] = [];
  const stop = client.onRevalidate(["posts.list", "users", "table:orders"], ({ keys }) => heard.push([...keys].sort()));
  const others: string[][] = [];
  client.onRevalidate(["posts.list"], ({ keys }) => others.push([...keys]));
  await listens(client, () => heard.length > 0);
  heard.length = 0;
  await world.engine.revalidate(["posts.list", "posts.other", "users"]);
  await world.engine.revalidate(["users"], { scopes: ["user:ann"] });
  await world.engine.revalidate(["users"], { scopes: ["user:carl"] });
  await world.transaction("SELECT walcast.revalidate('{users}')", "SELECT walcast.revalidate('{users, posts.list}')");
  await world.db.query("BEGIN; SELECT walcast.revalidate('{users}'); ROLLBACK");
  await world.transaction("INSERT INTO orders VALUES (1000), (1001)", "UPDATE orders SET note = 'x' WHERE id = 1000");
  await settled(client);
  await bob.awaitXid(1, await world.transaction("SELECT pg_current_xact_id()"));
  assert.deepEqual(heard, [["posts.list", "users"], ["users"], ["posts.list", "users"], ["table:orders"]]);
  assert.deepEqual(others, [["posts.list"], ["posts.list"]]);
  assert.deepEqual(bob.messages(1), ["posts.list", "users", "users", "users", "posts.list"]);
  stop();
  await settled(client);
  await world.engine.revalidate(["users", "posts.list"]);
  await settled(client);
  assert.equal(heard.length, 4);
  assert.equal(others.length, 3);
});

test("keys that were named while a client was away are told when it is back, each commit's once", async (t) => {
  const network = await cuttable(t, world.engine.url);
  const client = await connect(t, { url: network.url, token: "ann", backoff: { baseMs: 1, maxMs: 5 } });
  const heard: string[][] = [];
  const errors: string[] = [];
  client.onRevalidate(
    ["posts", "users", "table:orders"],
    ({ keys, missed }) => heard.push([...keys, ...(missed ? [missed.code] : [])].sort()),
    ({ code }) => errors.push(code),
  );
  await listens(client, () => heard.length > 0);
  heard.length = 0;
  await network.away(async () => {
    for (const key of ["posts", "posts", "elsewhere"]) await world.engine.revalidate([key]);
    await world.engine.revalidate(["users"], { scopes: ["user:bob"] });
    await world.db.query("BEGIN; SELECT walcast.revalidate('{users}'); ROLLBACK");
    await world.db.query("INSERT INTO orders VALUES (3000)");
  });
  await settled(client);
  assert.deepEqual([heard, errors], [[["posts"], ["posts"], ["table:orders"]], []]);
});

test("a table's key is for those who may read the table, and refuses no other key", async (t) => {
  const client = await connect(t, { token: "ann" });
  const errors: string[] = [];
  const heard: string[] = [];
  client.onRevalidate(
    ["table:private", "table:nowhere", "plain"],
    ({ keys }) => heard.push(...keys),
    ({ code }) => errors.push(code),
  );
  await until(() => errors.length === 2);
  await hear(client, "news");
  await world.transaction("INSERT INTO private VALUES (1)", "SELECT walcast.revalidate('{plain}')");
  await settled(client);
  assert.deepEqual(errors.sort(), ["forbidden", "unknown_table"]);
  assert.deepEqual(heard, ["plain"]);
});

test("a bound query client asks again for the mounted queries that match, and for no other", async (t) => {
  const client = await connect(t);
  const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity, retry: false } } });
  const asked: string[] = [];
  const options = (queryKey: readonly unknown[], meta = {}): ConstructorParameters<typeof QueryObserver>[1] => ({
    queryKey,
    meta,
    queryFn: () => {
      asked.push(JSON.stringify(queryKey));
      return asked.length;
    },
  });
  const unbind = bindQueryClient(queryClient, client);
  const mounted = [
    options(["posts", "list", { page: 1 }]),
    options(["posts", "one", 7]),
    options(["users"]),
    options(["report"], { revalidate: ["table:orders"] }),
  ].map((each) => new QueryObserver(queryClient, each).subscribe(() => {}));
  new QueryObserver(queryClient, options(["posts", "list", { page: 2 }])).subscribe(() => {})();
  await until(() => asked.length === 5);
  await listens(client, () => asked.length > 5);
  await until(() => queryClient.isFetching() === 0);
  asked.length = 0;
  const after = async (work: Promise<unknown>): Promise<string[]> => {
    await work;
    await settled(client);
    await until(() => queryClient.isFetching() === 0);
    return asked.splice(0).sort();
  };
  const { engine, db } = world;
  assert.deepEqual(await after(engine.revalidate(["posts.list"])), ['["posts","list",{"page":1}]']);
  const posts = ['["posts","list",{"page":1}]', '["posts","one",7]'];
  assert.deepEqual(await after(engine.revalidate(["posts", "posts.list", "posts.one.7"])), posts);
  assert.deepEqual(await after(engine.revalidate(["post", "posts.lis", "user", "users.1"])), []);
  assert.deepEqual(await after(db.query("INSERT INTO orders VALUES (2000)")), ['["report"]']);
  mounted[2]!();
  assert.deepEqual(await after(engine.revalidate(["users"])), []);
  unbind();
  assert.deepEqual(await after(engine.revalidate(["posts"])), []);
  for (const unmount of mounted) unmount();
  queryClient.clear();
});

async function events(t: TestContext, path: string, headers: Record<string, string> = {}): Promise<EventReader> {
  const reader = await EventReader.open(world.engine.url + path, headers);
  t.after(() => reader.close());
  return reader;
}

test("a bare EventSource hears a topic, and goes on after the last event that it has, also in the middle of a commit", async (t) => {
  const reader = await events(t, "/v1/topics/news", { authorization: "Bearer ann" });
  assert.equal(reader.response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  assert.equal((await reader.next()).event, "listening");
  await publish("news", { text: "a\nb" });
  await publish("news", "for bob", ["user:bob"]);
  await world.transaction(...[1, 2, 3].map((n) => `SELECT walcast.publish('news', '${n}', '{user:ann, user:bob}')`));
  const got = [await reader.next(), await reader.next(), await reader.next(), await reader.next()];
  assert.deepEqual(
    got.map(({ event, data }) => [event, data]),
    [{ text: "a\nb" }, 1, 2, 3].map((data) => ["message", data]),
  );
  assert.match(got[0]!.id ?? "", /^[0-9A-F]+\/[0-9A-F]+$/);
  assert.match(got[3]!.id ?? "", /^[0-9A-F]+\/[0-9A-F]+$/);
  reader.close();
  await publish("news", "missed");
  for (const [last, expected] of [
    [got[0], [1, 2, 3, "missed"]],
    [got[1], [2, 3, "missed"]],
    [got[2], [3, "missed"]],
    [got[3], ["missed"]],
  ] as const) {
    const again = await events(t, "/v1/topics/news", { authorization: "Bearer ann", "last-event-id": last!.id! });
    const after = [];
    for (let n = 0; n <= expected.length; n++) after.push((await again.next()).data);
    assert.deepEqual(after.slice(1), expected);
    again.close();
  }
  const newest = await events(t, "/v1/topics/news?limit=1");
  await newest.next();
  assert.equal((await newest.next()).data, "missed");
  const old = await events(t, "/v1/topics/news", { "last-event-id": "0/1" });
  assert.equal((await old.next()).event, "missed");
  await until(() => old.events.length > 5);
  const oldest = await events(t, "/v1/topics/news", { "last-event-id": "0/0.5" });
  assert.match(((await oldest.next()).data as { message: string }).message, /^listen since 0\/0:/);
});

test("an EventSource that does not read costs no more than what may wait, and hears all of it when it reads on", async (t) => {
  const asked = get(`${world.engine.url}/v1/topics/news`, { agent: false });
  const [slow] = (await once(asked, "response")) as [IncomingMessage];
  t.after(() => slow.destroy());
  const quick = await events(t, "/v1/topics/news");
  await quick.next();
  const [times, kib] = [100, 200];
  const before = process.memoryUsage();
  for (let n = 0; n < times; n++) await publish("news", `${n} ${"x".repeat(kib * 1024)}`);
  while (!String((await quick.next()).data).startsWith(`${times - 1} `));
  const after = process.memoryUsage();
  const grew = (after.external + after.arrayBuffers - before.external - before.arrayBuffers) / 2 ** 20;
  t.diagnostic(`${grew.toFixed()} MiB`);
  let text = "";
  slow.on("data", (chunk) => (text += String(chunk)));
  await until(() => text.includes(`data: "${times - 1} x`));
  const heard = [...text.matchAll(/^data: "(\d+) x/gm)].map(([, n]) => Number(n));
  assert.deepEqual(heard, [...Array(times).keys()]);
});

test("an EventSource is refused as a client is, and nothing of it is left when it goes", async (t) => {
  for (const [path, status] of [
    ["/v1/topics/nowhere", 404],
    ["/v1/topics/staff", 403],
    ["/v1/topics/news?token=ann", 400],
    ["/v1/topics/news?limit=many", 400],
    ["/v1/topics/news?since=yesterday", 400],
    ["/v1/topics/news/more", 400],
  ] as const)
    assert.equal((await fetch(world.engine.url + path)).status, status, path);
  const { response } = await events(t, "/v1/topics/staff", { authorization: "Bearer boss" });
  assert.equal(response.status, 200);
  const many = await Promise.all(Array.from({ length: 50 }, () => events(t, "/v1/topics/news")));
  for (const one of many) assert.equal((await one.next()).event, "listening");
  for (const one of many) one.close();
  await until(async () => (await world.metric('walcast_clients{state="streaming"}')) <= 1);
});

test("the examples do what they say", async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-toasts-"));
  const toasts = await startToasts(world.db.url, 0, dataDir);
  t.after(async () => {
    await toasts.close();
    await rm(dataDir, { recursive: true, force: true });
    await dropSlot(world.db, "toasts_example");
  });
  const reader = await EventReader.open(`${toasts.url}/v1/topics/toasts?limit=3`);
  t.after(() => reader.close());
  await reader.next();
  assert.match(await (await fetch(toasts.url)).text(), /EventSource/);
  assert.deepEqual(await (await fetch(`${toasts.url}/order`, { method: "POST" })).json(), { id: "1" });
  assert.deepEqual((await reader.next()).data, { text: "order 1 is in" });
  const client = await connect(t);
  const reports: unknown[] = [];
  let count = 0;
  const queryClient = new QueryClient();
  const end = watchReport(
    queryClient,
    client,
    async () => ++count,
    (report) => reports.push(report),
  );
  await listens(client, () => reports.length > 1);
  const before = reports.length;
  await world.engine.revalidate(["report"]);
  await until(() => reports.length > before);
  end();
  queryClient.clear();
});

test("another engine has the same messages at the same positions, and has them still when it was started anew", async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-topics-"));
  const start = (): Promise<Engine> =>
    createEngine({
      databaseUrl: world.db.url,
      slot: `${world.db.name}_other`,
      port: 0,
      logLevel: "silent",
      dataDir,
      tables: {},
      topics: { news: { read: true } },
    });
  let other = await start();
  t.after(async () => {
    await other.close();
    await rm(dataDir, { recursive: true, force: true });
    await dropSlot(world.db, `${world.db.name}_other`);
  });
  const listening = async (url: string, messages: object): Promise<RawClient> => {
    const client = await RawClient.greeted(url);
    t.after(() => client.close());
    client.send({ kind: "listen", id: 1, messages: { topic: "news", ...messages } });
    await client.control("listening");
    return client;
  };
  const heard = async (client: RawClient): Promise<string[]> => {
    await client.awaitXid(1, await world.transaction("SELECT pg_current_xact_id()"));
    return client.messages(1);
  };
  const [here, there] = [await listening(world.engine.url, {}), await listening(other.url, {})];
  for (let n = 0; n < 3; n++) await other.publish("news", n);
  const all = ["0", "1", "2"];
  assert.deepEqual(await Promise.all([heard(here), heard(there)]), [all, all]);
  const { epoch, position } = here.left;
  await here.close();
  for (let n = 3; n < 6; n++) await publish("news", n);
  await heard(there);
  await other.close();
  other = await start();
  // From the one to the other, which was away itself meanwhile.
  const moved = await listening(other.url, { since: formatLsn(position), epoch });
  assert.deepEqual(await heard(moved), ["3", "4", "5"]);
  assert.deepEqual(await heard(await listening(other.url, { limit: 5 })), ["1", "2", "3", "4", "5"]);
  const lost = await RawClient.greeted(other.url);
  t.after(() => lost.close());
  lost.send({ kind: "listen", id: 1, messages: { topic: "news", since: "0/1", epoch: "another:1:1" } });
  assert.equal((await lost.control("listening")).cause?.code, "history_changed");
  assert.deepEqual(await heard(lost), []);
});

test("what is said in an ephemeral topic reaches those who are there, and only those who may say something do", async (t) => {
  const [ann, bob, eve] = await Promise.all(["ann", "bob", "eve"].map((name) => world.greeted(name)));
  for (const one of [ann!, bob!, eve!]) one.send({ kind: "meet", topic: "chat", secret: `${one.position}` });
  for (const one of [ann!, bob!]) await one.control("meeting", ({ members }) => members !== undefined);
  eve!.send({ kind: "part", topic: "chat" });
  eve!.send({ kind: "say", topic: "chat", payload: "from outside" });
  bob!.send({ kind: "say", topic: "chat", payload: "may not" });
  assert.equal((await bob!.control("error", ({ topic }) => topic === "chat")).error.code, "forbidden");
  ann!.send({ kind: "say", topic: "chat", payload: { x: 1, __proto__: null } });
  assert.deepEqual((await bob!.control("meeting", ({ said }) => said !== undefined)).said!.payload, { x: 1 });
  ann!.send({ kind: "say", topic: "chat", payload: "x".repeat(20_000) });
  assert.equal((await ann!.control("error", ({ topic }) => topic === "chat")).error.code, "too_large");
  for (const topic of ["nowhere", "staff", "closed", "__proto__"]) {
    bob!.send({ kind: "meet", topic, secret: "s" });
    const { error } = await bob!.control("error", (message) => message.topic === topic);
    assert.equal(error.code, topic === "staff" || topic === "closed" ? "forbidden" : "unknown_topic");
  }
  // More than anybody says by hand is dropped, and nothing waits for it.
  const started = performance.now();
  for (let n = 0; n < 1_000; n++) ann!.send({ kind: "say", topic: "chat", payload: n });
  ann!.send({ kind: "ping" });
  await ann!.control("pong");
  const seconds = (performance.now() - started) / 1_000;
  const heard = bob!.received.filter((one) => "control" in one && one.control.kind === "meeting" && one.control.said);
  // At once, and in each second; what was said before may still be there.
  assert.ok(heard.length <= 201 + 100 * seconds, `${heard.length} were said in ${seconds} s`);
  t.diagnostic(`${heard.length} of 1,000 were said`);
});

test("who comes and goes without reading is owed no more than who stays, and who may not speak any more is no member", async (t) => {
  const [bob, evil] = [await world.greeted("bob"), await world.greeted("ann")];
  const members = await Promise.all(Array.from({ length: 50 }, () => world.greeted("ann")));
  t.after(() => Promise.all([bob, evil, ...members].map((one) => one.close())));
  for (const [n, one] of [bob, ...members].entries()) one.send({ kind: "meet", topic: "board", secret: `member ${n}` });
  for (const one of members) one.send({ kind: "track", topic: "board", state: "x".repeat(4_000) });
  let here = 0;
  while (here < members.length) if ((await bob.control("meeting")).came) here++;
  const socket = (evil.socket as unknown as { _socket: import("node:net").Socket })._socket;
  socket.pause();
  const times = 300;
  for (let n = 1; n <= times; n++) {
    evil.send({ kind: "meet", topic: "board", secret: "eve's" });
    if (n < times) evil.send({ kind: "part", topic: "board" });
  }
  evil.send({ kind: "say", topic: "board", payload: "all was taken" });
  await bob.control("meeting", ({ said }) => said !== undefined);
  socket.resume();
  evil.send({ kind: "ping" });
  await evil.control("pong");
  const told = evil.received.filter((one) => "control" in one && one.control.kind === "meeting" && one.control.members);
  t.diagnostic(`${told.length} of ${times}`);
  assert.ok(told.length >= 1 && told.length < times / 2, `${told.length} times all members`);
  members[0]!.send({ kind: "authenticate", token: "carl" });
  await bob.control("meeting", ({ went }) => went !== undefined);
});

test("a member is seen to come, to change and to leave; one that loses its connection has a while to return", async (t) => {
  const network = await cuttable(t, world.engine.url);
  const bob = await world.greeted("bob");
  bob.send({ kind: "meet", topic: "chat", secret: "bob's" });
  await bob.control("meeting");
  const client = await connect(t, { url: network.url, token: "ann", backoff: { baseMs: 1, maxMs: 5 } });
  const chat = client.topic<string>("chat", { ephemeral: true });
  const names: string[] = [];
  const sizes: number[] = [];
  chat.subscribe({
    onConnect: ({ you }) => names.push(you),
    onPresence: ({ members }) => sizes.push(members.length),
  });
  chat.track({ cursor: 1 });
  chat.publish("hello");
  const came = (await bob.control("meeting", (one) => one.came !== undefined)).came!;
  assert.deepEqual(came.state, { cursor: 1 });
  assert.deepEqual((await bob.control("meeting", (one) => one.said !== undefined)).said, {
    from: came.member,
    payload: "hello",
  });
  // Whoever knows its name, and not what that was made of, is somebody else.
  bob.send({ kind: "meet", topic: "chat", secret: came.member });
  network.cut();
  await until(() => names.length === 2);
  assert.deepEqual(names, [came.member, came.member]);
  chat.track({ cursor: 2 });
  assert.deepEqual((await bob.control("meeting", (one) => one.came !== undefined)).came, {
    member: came.member,
    state: { cursor: 2 },
  });
  assert.ok(!bob.received.some((one) => "control" in one && one.control.kind === "meeting" && one.control.went));
  await until(() => chat.members.length === 1);
  await client.close();
  assert.equal((await bob.control("meeting", (one) => one.went !== undefined)).went, came.member);
  assert.deepEqual(sizes.slice(0, 1), [1]);
});
