/** The rights of a client that stays change under it: what it may not see any more leaves before anything else is shown. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { PGlite } from "@electric-sql/pglite";
import { SignJWT } from "jose";
import { type Client, createClient, type Shape } from "../../client-sdk/index.ts";
import { jwt, sql } from "../../engine/index.ts";
import { type Running, running } from "../sockets/running.ts";
import { emptyReplica } from "../support/replica.ts";
import { until } from "../support/until.ts";
import { becomes } from "./clients.ts";
import { cuttable } from "./cuttable.ts";
import { emptied } from "./emptied.ts";

const secret = "a secret of thirty-two characters";
let world: Running;
let replica: PGlite;

before(async () => {
  replica = await emptyReplica();
  world = await running(
    {
      auth: jwt({ secret }),
      tables: {
        notes: {
          read: ({ claims }) => (claims.sub === "root" ? true : sql`tenant = ${String(claims.sub)}`),
        },
        salaries: { read: ({ claims }) => claims.sub === "root" },
        news: { read: true },
      },
      // The engine shares this thread with PGlite, and a client takes twice that for silence.
      positionEveryMs: 2_000,
    },
    `create table notes (id int primary key, tenant text, v text);
     create table salaries (id int primary key, amount int);
     create table news (id int primary key);
     insert into notes select g, case when g % 2 = 0 then 'ada' else 'bob' end, 'v' from generate_series(1, 10) g;
     insert into salaries values (1, 100); insert into news values (1)`,
  );
});
after(async () => {
  await world.close();
  await replica.close();
});

const token = (sub: string, life = "1h"): Promise<string> =>
  new SignJWT({ sub })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime(life)
    .sign(new TextEncoder().encode(secret));

interface Watching {
  readonly client: Client;
  readonly notes: Shape;
  readonly news: Shape;
  /** What was shown since `as` last began, each state once: the tenants whose notes, how many news, how many salaries. */
  readonly states: string[];
  /** Goes on as somebody else. Resolves when everything is there that they may see. */
  as(sub: string): Promise<void>;
}

async function watching(t: TestContext, sub: string): Promise<Watching> {
  await emptied(replica);
  const client = createClient({
    url: world.engine.url,
    replica,
    token: await token(sub),
    backoff: { baseMs: 10, maxMs: 100 },
  });
  t.after(() => client.close());
  const [notes, news] = [client.sync({ table: "notes" }), client.sync({ table: "news" })];
  await Promise.all([notes.ready, news.ready]);
  const states: string[] = [];
  client
    .live<{ tenants: string }>(
      "select coalesce(string_agg(distinct tenant, '+' order by tenant), '') as tenants from notes",
    )
    .subscribe(([row]) => void states.push(row!.tenants));
  const settled = async (): Promise<void> => {
    await client.awaitPosition({ xid: await world.transaction("insert into news select max(id) + 1 from news") });
    await becomes(notes, "ready");
  };
  await settled();
  return {
    client,
    notes,
    news,
    states,
    async as(next) {
      states.length = 0;
      const { authentications, connections } = client.inspect();
      client.setToken(await token(next));
      // On a busy machine the connection may just have been lost, and the next one begins with it.
      await until(() => {
        const now = client.inspect();
        return now.authentications !== authentications || now.connections !== connections;
      });
      await settled();
    },
  };
}

test("another tenant never sees what the one before had: it leaves at once, and then their own comes", async (t) => {
  const { client, states, as } = await watching(t, "ada");
  assert.deepEqual(states, ["ada"]);
  await as("bob");
  assert.deepEqual(states, ["", "bob"]);
  assert.deepEqual(await client.query("select id from notes order by id"), odd());
  assert.deepEqual([client.inspect().purges, client.inspect().refetches], [1, 1]);
});

test("a right that got narrower takes away what it does not reach, and leaves other shapes as they are", async (t) => {
  const { client, states, as } = await watching(t, "root");
  assert.deepEqual(states, ["ada+bob"]);
  await as("bob");
  assert.deepEqual(states, ["", "bob"]);
  assert.deepEqual([client.inspect().purges, client.inspect().refetches], [1, 1], "the news stayed");
});

test("a table whose right is gone is emptied, its shape says why, and the others go on", async (t) => {
  const { client, as } = await watching(t, "root");
  const salaries = client.sync({ table: "salaries" });
  await salaries.ready;
  const counts: number[] = [];
  client
    .live<{ count: number }>("select count(*)::int as count from salaries")
    .subscribe(([row]) => void counts.push(row!.count));
  await as("ada");
  assert.deepEqual([salaries.status, salaries.error?.code], ["error", "forbidden"]);
  assert.equal(counts.at(-1), 0);
  await world.transaction("insert into salaries values (2, 200)");
  await client.awaitPosition({ xid: await world.transaction("insert into news select max(id) + 1 from news") });
  assert.equal(counts.at(-1), 0);
});

test("events are of rows that may be read, and who waits for a transaction is shown nothing of it", async (t) => {
  const { client } = await watching(t, "ada");
  const seen: unknown[] = [];
  const channel = client.channel<{ id: number }>("notes").on("*", ({ type, row }) => seen.push([type, row?.id]));
  await channel.subscribe().ready;
  await assert.rejects(client.channel("salaries").subscribe().ready, { code: "forbidden" });
  await client.awaitPosition({ xid: await world.transaction("update salaries set amount = amount + 1") });
  await client.awaitPosition({ xid: await world.transaction("update notes set v = 'x' where id in (1, 2)") });
  assert.deepEqual(seen, [["UPDATE", 2]]);
  await assert.rejects(client.query("select * from salaries"), { code: "query_failed" });
});

test("a client without a replica hears of what it may read, and with another token of what that may", async (t) => {
  const client = createClient({
    url: world.engine.url,
    token: await token("ada"),
    backoff: { baseMs: 10, maxMs: 100 },
  });
  t.after(() => client.close());
  const seen: unknown[] = [];
  const channel = client.channel<{ id: number }>("notes").on("*", ({ type, row }) => seen.push([type, row?.id]));
  await channel.subscribe().ready;
  await assert.rejects(client.channel("salaries").subscribe().ready, { code: "forbidden" });
  const touch = async (v: string): Promise<void> =>
    client.awaitPosition({ xid: await world.transaction(`update notes set v = '${v}' where id in (1, 2)`) });
  await touch("y");
  assert.deepEqual(seen.splice(0), [["UPDATE", 2]]);
  client.setToken(await token("bob"));
  await until(() => client.inspect().authentications === 1 && client.status === "live");
  await touch("z");
  assert.deepEqual(seen.splice(0), [["UPDATE", 1]]);
});

test("a new token of the same user loads nothing anew, and loses nothing that happens meanwhile", async (t) => {
  const { client, states, as } = await watching(t, "ada");
  const returning = as("ada");
  for (let i = 0; i < 10; i++) await world.transaction(`update notes set v = 'w${i}' where id = 2`);
  await returning;
  await client.awaitPosition({ xid: await world.transaction("insert into news select max(id) + 1 from news") });
  assert.deepEqual(await client.query("select v from notes where id = 2"), [{ v: "w9" }]);
  assert.ok(states.every((tenants) => tenants === "ada"));
  assert.deepEqual([client.inspect().purges, client.inspect().refetches], [0, 0]);
});

test("a token that expires is renewed on the open connection, and nobody notices", async (t) => {
  await emptied(replica);
  // The next one is asked for when a fifth of that is left: more than this thread is ever busy.
  const client = createClient({ url: world.engine.url, replica, token: () => token("ada", "8s") });
  t.after(() => client.close());
  const notes = client.sync({ table: "notes" });
  await notes.ready;
  await until(() => client.inspect().authentications > 0);
  await client.awaitPosition({ xid: await world.transaction("update notes set v = 'renewed' where id = 4") });
  assert.deepEqual(await client.query("select v from notes where id = 4"), [{ v: "renewed" }]);
  const { connections, purges, refetches, lastError } = client.inspect();
  assert.deepEqual([connections, purges, refetches, lastError], [1, 0, 0, undefined]);
});

test("rows that mean the same under another right stay, also when their table changes later", async (t) => {
  await emptied(replica);
  let user = "ada";
  const network = await cuttable(t, world.engine.url);
  const backoff = { baseMs: 10, maxMs: 100 };
  const client = createClient({ url: network.url, replica, token: () => token(user), backoff });
  t.after(() => client.close());
  const notes = client.sync({ table: "notes", where: "tenant = 'ada'" });
  await notes.ready;
  user = "root";
  network.cut();
  await until(() => client.inspect().resumes === 1 && client.status === "live");
  await world.transaction("alter table notes alter column v type varchar(20)");
  await until(() => client.inspect().refetches > 0 && notes.status === "ready");
  assert.equal(client.inspect().purges, 0);
});

for (const [change, length] of [
  ["with its next connection", 30],
  ["on its connection", 40],
  ["on its connection before their table gets a column", 50],
  ["while they come", 60],
] as const)
  test(`rows that mean the same under another right, which a client has ${change}, stay, also when their table changes while it is away`, async (t) => {
    const holder = await world.db.pool.connect();
    t.after(() => holder.release(true));
    await emptied(replica);
    let user = "ada";
    const network = await cuttable(t, world.engine.url);
    const backoff = { baseMs: 10, maxMs: 100 };
    const client = createClient({ url: network.url, replica, token: () => token(user), backoff });
    t.after(() => client.close());
    const isComing = change === "while they come";
    if (isComing) await holder.query("begin; lock table notes in access exclusive mode");
    // Nobody has asked for those columns before, so they have to be read.
    const columns = isComing ? ["id", "tenant"] : ["id", "tenant", "v"];
    const notes = client.sync({ table: "notes", where: "tenant = 'ada'", columns });
    const statuses: string[] = [];
    const waiting = "select from pg_locks where relation = 'notes'::regclass and not granted";
    if (isComing) await until(async () => (await world.db.pool.query(waiting)).rowCount! > 0);
    else await notes.ready;
    user = "root";
    const { resumes, authentications } = client.inspect();
    if (change === "with its next connection") network.cut();
    else client.setToken(() => token(user));
    await until(() => client.inspect().resumes + client.inspect().authentications > resumes + authentications);
    await holder.query("commit");
    await until(() => client.status === "live");
    notes.on("status", (status) => statuses.push(status));
    if (change.includes("column"))
      await client.awaitPosition({ xid: await world.transaction("alter table notes add column later int") });
    await network.away(() => world.transaction(`alter table notes alter column v type varchar(${length})`));
    await until(() => client.inspect().refetches > 0 && notes.status === "ready");
    assert.deepEqual([client.inspect().purges, statuses], [0, ["resyncing", "ready"]]);
  });

const odd = (): { id: number }[] => [1, 3, 5, 7, 9].map((id) => ({ id }));
