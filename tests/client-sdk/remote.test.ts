/** Guests of a host, over message channels: what pages see of a replica that is in a worker. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { WalcastClient } from "../../client-sdk/client.ts";
import type { Client, ClientOptions, Delta } from "../../client-sdk/index.ts";
import { GuestClient, type GuestOptions } from "../../client-sdk/remote/guest.ts";
import { Host, type HostOptions } from "../../client-sdk/remote/host.ts";
import type { Link } from "../../client-sdk/remote/link.ts";
import { portOf, type ToGuest, type ToHost } from "../../client-sdk/remote/messages.ts";
import { until } from "../support/until.ts";
import { changes, orders, reached, sharedReplica } from "./clients.ts";
import { emptied } from "./emptied.ts";
import { commit, Peer, type PeerConnection } from "./peer.ts";

interface Guest {
  readonly client: Client;
  /** How many messages went to the host. */
  readonly sent: () => number;
  /** Gone without a word. */
  die(): void;
  move(host: Host): void;
}

async function startHost(
  t: TestContext,
  peer: Peer,
  options: Partial<ClientOptions> = {},
  hostOptions: HostOptions = {},
): Promise<Host> {
  const replica = await emptied(sharedReplica());
  const host = new Host(
    (token) => new WalcastClient({ url: peer.url, replica, backoff: { baseMs: 1, maxMs: 20 }, token, ...options }),
    hostOptions,
  );
  t.after(() => host.close());
  return host;
}

function join(t: TestContext, host: Host, options: Partial<ClientOptions> = {}): Guest {
  let link: Pick<Link, "attach" | "detach">;
  let leave = (): void => {};
  let sent = 0;
  const move = (to: Host): void => {
    const { port1, port2 } = new MessageChannel();
    const counted = portOf<ToHost, ToGuest>(port1);
    const post = counted.post;
    counted.post = (messages) => {
      sent++;
      post(messages);
    };
    link.attach(counted);
    leave = to.addGuest(portOf(port2));
  };
  const meeting = {
    start: (to: Pick<Link, "attach" | "detach">) => {
      link = to;
      move(host);
    },
    tokenChanged: async () => {},
    close: async () => {},
  };
  const client = new GuestClient<Record<string, Record<string, unknown>>, string>(
    { replica: "memory://", ...options } as GuestOptions<string>,
    meeting,
  );
  t.after(() => client.close());
  const die = (): void => {
    leave();
    link.detach();
  };
  return { client, sent: () => sent, die, move };
}

async function served(
  t: TestContext,
  hostOptions: HostOptions = {},
): Promise<{ peer: Peer; host: Host; guest: Guest; server: PeerConnection; id: number }> {
  const peer = await Peer.start(t);
  const host = await startHost(t, peer, {}, hostOptions);
  const guest = join(t, host, { shapes: { orders: { table: "orders" } } });
  const server = await peer.greeted();
  const id = await server.serve(
    orders,
    [
      ["1", "new"],
      ["2", "new"],
    ],
    16n,
  );
  await guest.client.preload();
  return { peer, host, guest, server, id };
}

const all = "select id, status from orders order by id";

test("guests share one shape and one live query, and see every commit at one position", async (t) => {
  const { host, guest, server, id } = await served(t);
  const other = join(t, host, { shapes: { orders: { table: "orders" } } });
  const lives = [guest.client.live<{ id: number }>(all), other.client.live<{ id: number }>(all)];
  const counts = guest.client.live<{ count: number }>("select count(*)::int as count from orders");
  await Promise.all([...lives, counts].map(({ ready }) => ready));
  const [kept] = lives[0]!.rows;
  const deltas = changes<Delta<object>>((tell) => lives[0]!.subscribe((_rows, delta) => tell(delta)));
  const seen: string[] = [];
  lives[0]!.subscribe((rows) => seen.push(`${rows.length} ${counts.rows[0]!.count} ${guest.client.position}`));
  await until(() => seen.length === 1);

  server.commits(32n, {
    [id]: [commit(32n, { kind: "update", row: ["2", "paid"] }, { kind: "insert", row: ["3", "new"] })],
  });
  await Promise.all([guest, other].map(({ client }) => client.awaitPosition("0/20")));
  for (const live of lives)
    assert.deepEqual(
      live.rows.map((row) => Object.values(row).join()),
      ["1,new", "2,paid", "3,new"],
    );
  assert.ok(lives[0]!.rows[0] === kept, "a row that stays is the same object");
  assert.deepEqual(deltas.at(-1), {
    position: "0/20",
    inserted: [{ id: 3, status: "new" }],
    updated: [{ id: 2, status: "paid" }],
    deleted: [],
  });
  assert.ok(deltas.at(-1)!.updated[0] === lives[0]!.rows[1], "the delta's rows are those of the result");
  assert.deepEqual(seen, ["2 2 0/10", "3 3 0/20"]);
  await until(() => guest.client.inspect().live.length === 2);
  assert.equal(guest.client.inspect().shapes.length, 1);
});

test("a query is one message each way, with values as PGlite gives them and errors with their code", async (t) => {
  const { guest } = await served(t);
  const before = guest.sent();
  const at = new Date("2026-01-02T03:04:05Z");
  assert.deepEqual(
    await guest.client.query(
      "select $1::timestamptz as at, 2::int8 ^ 0 as one, '\\x01'::bytea as bytes, id from orders where id = $2",
      [at, 2],
    ),
    [{ at, one: 1, bytes: new Uint8Array([1]), id: 2 }],
  );
  assert.equal(guest.sent() - before, 1);
  await assert.rejects(guest.client.query("select nothing"), { name: "WalcastError", code: "query_failed" });
  await assert.rejects(guest.client.query("insert into orders values (9)"), { code: "query_failed" });
  await assert.rejects(guest.client.query("select $1::text", [() => 1]), { code: "query_failed" });
  await assert.rejects(guest.client.awaitPosition("0/20", { timeoutMs: 1 }), { code: "await_timeout" });
});

test("a shape's rows leave when the last guest that asked for it lets go of it", async (t) => {
  const { host, guest, server, id } = await served(t);
  const other = join(t, host);
  const shape = other.client.sync({ table: "orders" });
  await shape.ready;
  assert.equal((await shape.describe()).table, '"public"."orders"');
  await guest.client.shapes.orders!.unsubscribe();
  assert.equal((await other.client.query(all)).length, 2);
  const left = shape.unsubscribe();
  assert.equal((await server.message("unsubscribe")).id, id);
  server.send({ kind: "unsubscribed", id });
  await left;
  assert.equal((await other.client.query(all)).length, 0);
});

test("a transaction sees one state, and one whose guest is gone is rolled back", async (t) => {
  const { host, guest } = await served(t);
  const counted = await guest.client.kysely
    .transaction()
    .setIsolationLevel("repeatable read")
    .execute(async (trx) => {
      const { length } = await trx.selectFrom("orders").selectAll().execute();
      return [length, (await trx.selectFrom("orders").select("id").execute()).length];
    });
  assert.deepEqual(counted, [2, 2]);
  await assert.rejects(
    guest.client.kysely.transaction().execute((trx) => trx.selectFrom("nowhere").selectAll().execute()),
    { code: "query_failed" },
  );

  const other = join(t, host);
  const held = other.client.kysely.startTransaction().execute();
  const transaction = await held;
  const waiting = guest.client.query(all);
  const lost = assert.rejects(transaction.selectFrom("orders").selectAll().execute(), { code: "connection_lost" });
  await Promise.resolve();
  other.die();
  await lost;
  assert.equal((await waiting).length, 2, "nobody waits for the dead");
});

test("a transaction whose page says nothing is rolled back, and others go on", async (t) => {
  const { guest } = await served(t, { silenceMs: 20 });
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const silent = await guest.client.kysely.startTransaction().execute();
  await silent.selectFrom("orders").selectAll().execute();
  const others = guest.client.query(all);
  t.mock.timers.tick(20);
  t.mock.timers.reset();
  assert.equal((await others).length, 2);
  await assert.rejects(silent.selectFrom("orders").selectAll().execute(), { code: "query_failed", message: /20 ms/ });
});

test("a page that wakes up wakes the one connection", async (t) => {
  const peer = await Peer.start(t);
  const host = await startHost(t, peer, { backoff: { baseMs: 1e9, maxMs: 1e9 } });
  const guest = join(t, host);
  const server = await peer.greeted();
  await reached(guest.client, "live");
  server.socket.terminate();
  await reached(guest.client, "offline");
  guest.client.wake();
  await peer.greeted();
  await reached(guest.client, "live");
});

test("a shape with a ttl stays warm in the host for the next page that asks for it", async (t) => {
  const { host, guest, server } = await served(t);
  const shape = { table: "orders", where: "id > 1", ttl: 60_000 };
  const first = guest.client.sync(shape);
  const { id } = await server.message("subscribe");
  server.describe(id, orders);
  server.join(16n, { [id]: [] });
  await first.ready;
  await first.unsubscribe();
  const other = join(t, host);
  const second = other.client.sync(shape);
  await second.ready;
  await Promise.race([second.describe(), server.message("subscribe").then(() => assert.fail("asked for again"))]);
});

test("pages that share a replica are one member of an ephemeral topic, and hear each other", async (t) => {
  const { peer, host, guest, server } = await served(t);
  const other = join(t, host);
  const heard: string[] = [];
  const seen: string[] = [];
  const enter = (name: string, { client }: Guest) => {
    const topic = client.topic("chat", { ephemeral: true });
    const end = topic.subscribe({
      onConnect: ({ you }) => heard.push(`${name} is ${you}`),
      onMessage: ({ payload, from }) => heard.push(`${name} hears ${String(payload)} from ${from}`),
      onPresence: ({ members, joined, left }) =>
        seen.push(`${name}: ${members.length} ${joined.length} ${left.length}`),
    });
    return { topic, end };
  };
  const here = enter("here", guest);
  here.topic.publish("early");
  await server.message("meet");
  server.send({ kind: "meeting", topic: "chat", you: "me", members: [] });
  assert.equal((await server.message("say")).payload, "early");
  const there = enter("there", other);
  await until(() => heard.length === 2);
  there.topic.publish("hello");
  assert.equal((await server.message("say")).payload, "hello");
  server.send({ kind: "meeting", topic: "chat", said: { payload: "hi", from: "her" } });
  await until(() => heard.length === 5);
  assert.deepEqual(heard, [
    "here is me",
    "there is me",
    "here hears hello from me",
    "here hears hi from her",
    "there hears hi from her",
  ]);

  server.send({ kind: "meeting", topic: "chat", came: { member: "her", state: 1 } });
  server.send({ kind: "meeting", topic: "chat", went: "her" });
  await until(() => seen.length === 4);
  assert.deepEqual(
    seen.filter((one) => one.startsWith("here")),
    ["here: 1 1 0", "here: 0 0 1"],
  );
  here.topic.track({ in: 1 });
  assert.deepEqual((await server.message("track")).state, { in: 1 });
  there.topic.track({ in: 2 });
  assert.deepEqual((await server.message("track")).state, { in: 2 });
  other.die();
  assert.deepEqual((await server.message("track")).state, { in: 1 }, "the state of a page that is still there");

  heard.length = 0;
  guest.die();
  await host.close();
  guest.move(await startHost(t, peer));
  const next = await peer.greeted();
  await next.message("meet");
  next.send({ kind: "meeting", topic: "chat", you: "me", members: [] });
  assert.deepEqual((await next.message("track")).state, { in: 1 });
  assert.deepEqual(heard, ["here is me"]);
  next.send({ kind: "error", topic: "chat", error: { code: "forbidden", message: "no" } });
  here.end();
  next.send({ kind: "meeting", topic: "chat", said: { payload: "late", from: "her" } });
  await guest.client.query("select 1");
  assert.equal(heard.length, 1);
});

test("keys are told to every page that listens, and all of them where some may have been missed", async (t) => {
  const { peer, host, guest, server } = await served(t);
  const other = join(t, host);
  const told: string[] = [];
  const listen = (name: string, { client }: Guest) =>
    client.onRevalidate(["posts", "users"], ({ keys, missed }) =>
      told.push(`${name}: ${keys.join()} ${missed?.code ?? ""}`.trim()),
    );
  listen("here", guest);
  const end = listen("there", other);
  const answer = async (connection: PeerConnection, position: bigint): Promise<number> => {
    const { id } = await connection.message("listen");
    connection.send({ kind: "listening", id, identity: "keys", from: "0/10" });
    connection.join(position, { [id]: [] });
    return id;
  };
  const id = await answer(server, 16n);
  server.commits(32n, { [id]: [commit(32n, { kind: "insert", row: ["posts"] })] });
  await until(() => told.length === 2);
  assert.deepEqual(told.sort(), ["here: posts", "there: posts"]);
  end();
  await other.client.query("select 1");
  server.commits(48n, { [id]: [commit(48n, { kind: "insert", row: ["users"] })] });
  await until(() => told.length === 3);

  guest.die();
  await host.close();
  guest.move(await startHost(t, peer));
  const next = await peer.greeted();
  await next.serve(orders, [], 48n);
  const after = await answer(next, 48n);
  await until(() => told.length === 4);
  next.commits(64n, { [after]: [commit(64n, { kind: "insert", row: ["users"] })] });
  await until(() => told.length === 5);
  assert.deepEqual(told.slice(2), ["here: users", "here: posts,users connection_lost", "here: users"]);
});

test("a call that three hosts did not survive is not asked of a fourth", async (t) => {
  const { host, guest } = await served(t);
  const held = await join(t, host).client.kysely.startTransaction().execute();
  const asked = guest.client.query("select 1 as one");
  const failed = assert.rejects(asked, { code: "connection_lost" });
  for (let lost = 0; lost < 3; lost++) {
    await guest.client.awaitPosition("0/1");
    guest.die();
    guest.move(host);
  }
  await failed;
  await held.rollback().execute();
  assert.deepEqual(await guest.client.query("select 1 as one"), [{ one: 1 }]);
});

test("a call that finds no host fails after ten seconds, also where there was one", async (t) => {
  const { host, guest } = await served(t);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  guest.die();
  const outcomes: string[] = [];
  for (let call = 0; call < 2; call++)
    guest.client.query("select 1").catch(({ code }: { code: string }) => outcomes.push(code));
  t.mock.timers.tick(9_999);
  await turn();
  assert.deepEqual(outcomes, []);
  t.mock.timers.tick(1);
  await turn();
  assert.deepEqual(outcomes, ["replica_failed", "replica_failed"]);
  t.mock.timers.reset();
  guest.move(host);
  assert.deepEqual(await guest.client.query("select 1 as one"), [{ one: 1 }]);
});

test("guests of a replica that crashes go on with the next host, and see nothing of it but why", async (t) => {
  const peer = await Peer.start(t);
  const failures: string[] = [];
  const options = { replica: "memory://", shapes: { orders: { table: "orders" } } } as const;
  let core!: WalcastClient<Record<string, Record<string, unknown>>, string>;
  const host = new Host((token) => (core = new WalcastClient({ url: peer.url, replica: "memory://", token })), {
    failed: ({ code }) => failures.push(code),
  });
  const guest = join(t, host, options);
  const server = await peer.greeted();
  await server.serve(orders, [["1", "new"]], 16n);
  await guest.client.preload();
  const live = guest.client.live(all);
  await live.ready;
  const statuses = changes((tell) => live.onChange(() => tell(live.status)));
  await core.pglite.close();
  const asked = guest.client.query("select 1 as one");
  const unsafe = assert.rejects(guest.client.pglite.exec("select 1"), { code: "connection_lost" });
  await unsafe;
  assert.deepEqual(failures, ["replica_failed"]);
  assert.equal(guest.client.inspect().lastError?.code, "replica_failed");
  assert.equal(guest.client.shapes.orders!.status, "ready");
  guest.move(await startHost(t, peer));
  assert.deepEqual(await asked, [{ one: 1 }]);
  const next = await peer.greeted();
  await next.serve(orders, [["1", "paid"]], 32n);
  await until(() => live.rows[0]!["status"] === "paid");
  assert.deepEqual([...new Set(statuses)], ["ready"]);
  await until(() => guest.client.inspect().position === "0/20");
  assert.equal(guest.client.inspect().lastError?.code, "replica_failed");
});

test("pglite's own functions work over the link, its others say so", async (t) => {
  const { guest } = await served(t);
  const { pglite } = guest.client;
  assert.deepEqual((await pglite.query("select 1 as one")).rows, [{ one: 1 }]);
  await pglite.exec("begin read write; create table notes (id int); commit");
  const written = await pglite.transaction(async (trx) => {
    await trx.query("set transaction read write");
    await trx.query("insert into notes values ($1)", [7]);
    return (await trx.query("select id from notes")).rows;
  });
  assert.deepEqual(written, [{ id: 7 }]);
  const live = guest.client.live("select id from notes order by id");
  await live.ready;
  await pglite.transaction((trx) => trx.exec("set transaction read write; insert into notes values (8)"));
  await until(() => live.rows.length === 2);
  assert.throws(() => pglite.dumpDataDir(), { code: "config_invalid" });
});

test("the token is the page's, asked for when it is needed", async (t) => {
  const peer = await Peer.start(t);
  let asked = 0;
  const host = await startHost(t, peer);
  const guest = join(t, host, { token: () => `token ${++asked}` });
  const connection = await peer.connection();
  assert.equal((await connection.message("hello")).token, "token 1");
  connection.send({ kind: "welcome", epoch: "epoch", position: "0/1", positionEveryMs: 60_000 });
  await reached(guest.client, "live");
  guest.client.setToken("another");
  assert.equal((await connection.message("authenticate")).token, "another");
});

test("a guest goes on with the next host: rows stay, and the delta is what differs", async (t) => {
  const { peer, host, guest, server } = await served(t);
  const live = guest.client.live(all);
  await live.ready;
  const channel = guest.client.channel("orders").subscribe();
  const { id: watched } = await server.message("subscribe");
  server.describe(watched, orders);
  server.join(16n, { [watched]: [] });
  await channel.ready;
  const [kept] = live.rows;
  const deltas = changes((tell) => live.subscribe((rows, delta) => tell([rows.length, delta.inserted, delta.deleted])));
  await until(() => deltas.length === 1);
  const statuses = changes<string>((tell) => guest.client.shapes.orders!.on("status", tell));

  const stuck = guest.client.kysely.startTransaction().execute();
  await stuck;
  const asked = guest.client.query("select 1 as one");
  await Promise.resolve();
  guest.die();
  await host.close();
  assert.equal(guest.client.status, "connecting");
  assert.equal(live.rows.length, 2);

  guest.move(await startHost(t, peer));
  const next = await peer.greeted();
  await guest.client.query("select 1 as one");
  assert.equal(guest.client.position, "0/10", "which never goes back");
  const subscribed = [await next.message("subscribe"), await next.message("subscribe")];
  const shape = subscribed.find(({ changes }) => !changes)!.id;
  const changing = subscribed.find(({ changes }) => changes)!.id;
  for (const subscription of [shape, changing]) next.describe(subscription, orders);
  next.copy(shape, [
    ["1", "new"],
    ["3", "paid"],
  ]);
  next.join(32n, { [shape]: [], [changing]: [] });
  await until(() => deltas.length === 2);
  assert.deepEqual(deltas[1], [2, [{ id: 3, status: "paid" }], [{ id: 2, status: "new" }]]);
  assert.ok(live.rows[0] === kept);
  assert.deepEqual(await asked, [{ one: 1 }]);
  await until(() => statuses.at(-1) === "ready");
  assert.deepEqual(statuses, ["resyncing", "ready"]);
});

test("closing leaves nothing that waits", async (t) => {
  const { guest, host } = await served(t);
  const live = guest.client.live("select * from nowhere");
  await host.close();
  const asked = guest.client.query(all);
  await guest.client.close();
  await assert.rejects(asked, { code: "closed" });
  await assert.rejects(live.ready, { code: "closed" });
  await assert.rejects(guest.client.query(all), { code: "closed" });
  assert.equal(guest.client.status, "closed");
});
