/** A client that was here before says where it left off, and gets exactly what came since. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { jwt, sql } from "../../engine/index.ts";
import {
  type Commit,
  decodeCommits,
  formatLsn,
  type Lsn,
  parseLsn,
  type ShapeRequest,
  type Told,
} from "../../engine/protocol.ts";
import { SignJWT } from "jose";
import { until } from "../support/until.ts";
import { RawClient } from "./raw-client.ts";
import { type Running, running } from "./running.ts";

const secret = "a secret of thirty-two characters";

interface Visit {
  readonly left: RawClient["left"];
  readonly identity: string;
  readonly access: string | undefined;
}

describe("a client that returns", () => {
  let server: Running;
  before(
    async () =>
      (server = await running(
        {
          auth: jwt({ secret }),
          tables: {
            notes: { read: (auth) => sql`tenant = ${String(auth.claims.sub)}` },
            items: { read: true },
            secrets: { read: (auth) => auth.claims.sub === "root" },
            narrow: { read: true, columns: ["id", "v"] },
            told: { read: true },
            remade: { read: (auth) => sql`tenant = ${String(auth.claims.sub)}` },
          },
          positionEveryMs: 50,
        },
        `create table notes (id int primary key, tenant text, v text);
         create table items (id int primary key, v text);
         create table secrets (id int primary key);
         create table narrow (id int primary key, v text, hidden text);
         create table told (id int primary key, v text);
         create table remade (id int primary key, tenant text);
         insert into notes select g, case when g % 2 = 0 then 'ada' else 'bob' end, 'v' from generate_series(1, 10) g;
         insert into secrets values (1)`,
      )),
  );
  after(() => server.close());

  const token = (sub: string): Promise<string> =>
    new SignJWT({ sub })
      .setProtectedHeader({ alg: "HS256" })
      .setExpirationTime("1h")
      .sign(new TextEncoder().encode(secret));

  /** Joined, then gone. Gives what it knows. */
  async function visited(sub: string, shape: ShapeRequest, changes = false): Promise<Visit> {
    const client = await server.greeted(await token(sub));
    const { table } = await client.load(1, shape, changes);
    await client.close();
    return { left: client.left, identity: table.identity, access: table.access };
  }

  async function returned(sub: string, left: RawClient["left"]): Promise<RawClient> {
    const client = await server.greeted(await token(sub), left);
    assert.equal(client.welcome!.resumes, true);
    return client;
  }

  test("at its last position gets exactly what is missing, once and in order, and then what comes", async () => {
    const { left, identity } = await visited("ada", { table: "items" });
    const xids: bigint[] = [];
    for (let i = 1; i <= 20; i++) xids.push(BigInt(await server.transaction(`insert into items values (${i}, 'a')`)));
    const client = await returned("ada", left);
    client.claim(1, { table: "items" }, identity);
    client.send({ kind: "resume" });
    await client.control("resumed", ({ id }) => id === 1);
    xids.push(BigInt(await server.transaction("update items set v = 'b' where id = 20")));
    await client.awaitXid(1, String(xids.at(-1)));
    assert.deepEqual(
      commitsOf(client, 1).map(({ xid }) => xid),
      xids,
    );
    assert.equal(
      client.received.some((one) => "control" in one && one.control.kind === "described"),
      false,
    );
    await client.close();
  });

  test("that ends a subscription before it goes on gets nothing of it", async () => {
    const { left } = await visited("ada", { table: "items" });
    const client = await returned("ada", left);
    client.subscribe(1, { table: "items" });
    await client.control("described");
    // It shares the snapshot, and joins when that is all there is to wait for.
    const other = await server.greeted(await token("ada"));
    await other.load(1, { table: "items" });
    client.send({ kind: "unsubscribe", id: 1 });
    await client.control("unsubscribed");
    const from = client.received.length;
    client.send({ kind: "resume" });
    await client.awaitXid(2, await server.transaction("insert into items values (1000, 'late')"));
    const sections = client.received.slice(from).flatMap((one) => ("frame" in one ? one.frame.sections : []));
    assert.deepEqual(sections, []);
    await client.close();
    await other.close();
  });

  describe("and was told changes", () => {
    const shape = { table: "told", where: "id > 0" };
    let earlier: Visit;
    let after: Told;
    const missed: string[] = [];

    before(async () => {
      earlier = await visited("ada", shape);
      await server.transaction("insert into told values (1, 'a')");
      const { left, identity } = await visited("ada", shape, true);
      after = { identity, epoch: left.epoch, position: formatLsn(left.position) };
      missed.push(await server.transaction("insert into told values (2, 'a')", "insert into told values (-2, 'a')"));
      missed.push(await server.transaction("update told set v = 'b' where id = 2"));
    });

    async function told(client: RawClient, since: Told): Promise<string[]> {
      client.send({ kind: "subscribe", id: 1, shape, changes: true, after: since });
      const { commits } = await client.joined(1);
      const xid = await server.transaction("update told set v = 'c' where id = 1");
      assert.equal(String((await client.commit(1)).xid), xid);
      await client.close();
      return commits.map((commit) => String(commit.xid));
    }

    test("goes on after the last of them, on a new connection and on one that goes on from elsewhere", async () => {
      assert.deepEqual(await told(await server.greeted(await token("ada")), after), missed);
      const client = await returned("ada", earlier.left);
      client.send({ kind: "resume" });
      const later = await told(client, after);
      assert.deepEqual(later.slice(0, 2), missed);
    });

    test("of something else, or in another history, or in a form that is no more, goes on from now", async () => {
      for (const other of [{ identity: earlier.identity + "x" }, { epoch: "another" }])
        assert.deepEqual(await told(await server.greeted(await token("ada")), { ...after, ...other }), []);
      await server.transaction("alter table told alter column v type varchar(10)");
      assert.deepEqual(await told(await server.greeted(await token("ada")), after), []);
      const client = await server.greeted(await token("ada"));
      client.send({ kind: "subscribe", id: 1, shape, changes: true, after: { ...after, position: "1" } });
      assert.equal((await client.refused(1)).code, "malformed_message");
      await client.close();
    });
  });

  test("that missed nothing is told that it is up to date, and goes on", async () => {
    const { left, identity } = await visited("ada", { table: "items", where: "id > 1000" });
    const client = await returned("ada", left);
    client.claim(1, { table: "items", where: "id > 1000" }, identity);
    client.send({ kind: "resume" });
    await client.control("resumed");
    await client.awaitXid(1, await server.transaction("insert into items values (1001, 'x')"));
    assert.equal(commitsOf(client, 1).length, 1);
    await client.close();
  });

  test("with several shapes resumes those it has, and loads the others beside them", async () => {
    const { left, identity } = await visited("ada", { table: "notes" });
    const client = await returned("ada", left);
    client.subscribe(1, { table: "items" });
    client.claim(2, { table: "notes" }, identity);
    client.send({ kind: "resume" });
    await client.joined(1);
    assert.ok(
      client.received.some((one) => "control" in one && one.control.kind === "resumed" && one.control.id === 2),
    );
    await client.close();
  });

  test("with what another tenant had is to purge it, and loads its own", async () => {
    const { left, identity } = await visited("ada", { table: "notes" });
    const client = await returned("bob", left);
    client.claim(1, { table: "notes" }, identity);
    client.send({ kind: "resume" });
    const resync = await client.control("resync");
    assert.deepEqual([resync.id, resync.purge, resync.cause.code], [1, true, "access_changed"]);
    const { lines } = await client.joined(1);
    assert.equal(lines.length, 5);
    assert.ok(lines.every((line) => line.includes("bob")));
    await client.close();
  });

  test("that does not go on, and shows what another tenant had, is to purge it before anything is loaded", async () => {
    const { access } = await visited("ada", { table: "notes" });
    for (const [sub, expected] of [
      ["bob", ["resync", "described"]],
      ["ada", ["described"]],
    ] as const) {
      const client = await server.greeted(await token(sub));
      client.send({ kind: "subscribe", id: 1, shape: { table: "notes" }, shown: access });
      await client.joined(1);
      const told = client.received.flatMap((one) => ("control" in one ? one.control : []));
      assert.deepEqual(
        told.flatMap(({ kind }) => (kind === "resync" || kind === "described" ? kind : [])),
        expected,
      );
      assert.ok(told.every((one) => one.kind !== "resync" || one.purge === true));
      await client.close();
    }
  });

  test("with another shape than it claims is to purge it", async () => {
    const { left, identity } = await visited("ada", { table: "items", columns: ["id"] });
    const client = await returned("ada", left);
    const others: ShapeRequest[] = [
      { table: "items" },
      { table: "items", columns: ["id"], where: "id > 1" },
      { table: "narrow", columns: ["id"] },
    ];
    for (const [i, shape] of others.entries()) client.claim(i + 1, shape, identity);
    client.claim(4, { table: "items", columns: ["id"] }, identity, true);
    client.claim(5, { table: "items", columns: ["id"] }, "made up");
    client.send({ kind: "resume" });
    const purged = new Set<number>();
    while (purged.size < 5) {
      const { id, purge } = await client.control("resync");
      assert.equal(purge, true);
      purged.add(id);
    }
    await client.close();
  });

  test("whose table has got another form keeps its rows until the new ones come", async () => {
    const { left, identity } = await visited("ada", { table: "narrow" });
    await server.transaction("alter table narrow alter column v type varchar(20)");
    const client = await returned("ada", left);
    client.claim(1, { table: "narrow" }, identity);
    client.send({ kind: "resume" });
    const resync = await client.control("resync");
    assert.deepEqual([resync.id, resync.purge, resync.cause.code], [1, undefined, "schema_changed"]);
    await client.joined(1);
    await client.close();
  });

  test("whose table was dropped and made anew keeps the old rows until the new ones come, if it may read them", async () => {
    const shape = { table: "remade", where: "id > 0" };
    const { left, identity, access } = await visited("ada", shape);
    await server.transaction("drop table remade", "create table remade (id bigint primary key, tenant text)");
    for (const [sub, purges] of [
      ["ada", undefined],
      ["bob", true],
    ] as const) {
      const client = await returned(sub, left);
      client.send({ kind: "subscribe", id: 1, shape, identity, shown: access });
      client.send({ kind: "resume" });
      const { id, purge } = await client.control("resync");
      assert.deepEqual([id, purge], [1, purges]);
      assert.notEqual((await client.joined(1)).table.identity, identity);
      await client.close();
    }
  });

  test("without the right it had gets an error for that shape, and the others go on", async () => {
    const { left, identity } = await visited("root", { table: "secrets" });
    const client = await returned("ada", left);
    client.claim(1, { table: "secrets" }, identity);
    client.subscribe(2, { table: "items" });
    client.send({ kind: "resume" });
    assert.equal((await client.refused(1)).code, "forbidden");
    await client.joined(2);
    await client.close();
  });

  test("from another history, or with an unknown one, is told so and loads anew", async () => {
    const { left } = await visited("ada", { table: "items" });
    for (const epoch of ["1:2:3", "", left.epoch.replace(/^\d+/, "1")]) {
      const client = await server.greeted(await token("ada"), { epoch, position: left.position });
      assert.equal(client.welcome!.resumes, undefined);
      assert.equal(client.welcome!.cause?.code, "history_changed");
      await client.load(1, { table: "items" });
      await client.close();
    }
  });

  test("from before the log's beginning is told so", async () => {
    const { left } = await visited("ada", { table: "items" });
    const client = await server.greeted(await token("ada"), { epoch: left.epoch, position: 1n as Lsn });
    assert.deepEqual([client.welcome!.resumes, client.welcome!.cause?.code], [undefined, "position_too_old"]);
    await client.load(1, { table: "items" });
    await client.close();
  });

  test("that is ahead of the engine waits until the engine is there, and is told meanwhile that it is connected", async () => {
    const { left, identity } = await visited("ada", { table: "items" });
    const { rows: walsenders } = await server.db.query(
      "select active_pid as pid from pg_replication_slots where slot_name = $1",
      [server.db.name],
    );
    const { pid } = walsenders[0] as { pid: number };
    process.kill(pid, "SIGSTOP");
    let client: RawClient;
    try {
      await server.transaction("insert into items values (5000, 'another engine has told of it')");
      const { rows } = await server.db.query("select pg_current_wal_lsn()::text as lsn");
      const ahead = parseLsn((rows[0] as { lsn: string }).lsn);
      client = await returned("ada", { epoch: left.epoch, position: ahead });
      client.claim(1, { table: "items" }, identity);
      client.send({ kind: "resume" });
      await client.control("resumed");
      assert.equal((await client.frame()).position, ahead);
    } finally {
      process.kill(pid, "SIGCONT");
    }
    const xid = await server.transaction("delete from items where id >= 5000");
    await client.awaitXid(1, xid);
    assert.deepEqual(
      commitsOf(client, 1).map((commit) => commit.xid),
      [BigInt(xid)],
    );
    await client.close();
  });

  test("that is further than Postgres itself was told so by another history", async () => {
    const { left } = await visited("ada", { table: "items" });
    const { rows } = await server.db.query("select pg_current_wal_insert_lsn()::text as lsn");
    // Further than the other files, which have the same server, can write meanwhile.
    const beyond = (parseLsn((rows[0] as { lsn: string }).lsn) + (1n << 40n)) as Lsn;
    const client = await server.greeted(await token("ada"), { epoch: left.epoch, position: beyond });
    const { resumes, cause } = client.welcome!;
    assert.deepEqual([resumes, cause?.code], [undefined, "history_changed"]);
    assert.match(cause!.message, /write-ahead log ends at/);
    await client.close();
  });

  test("200 at once share their readings of the log", async () => {
    const { left, identity } = await visited("ada", { table: "items" });
    for (let i = 0; i < 50; i++) await server.transaction(`insert into items values (${20_000 + i}, 'many')`);
    const clients = await Promise.all(Array.from({ length: 200 }, () => returnedAt(left)));
    const before = await server.metric("walcast_catch_up_passes_total");
    for (const client of clients) {
      client.claim(1, { table: "items" }, identity);
      client.send({ kind: "resume" });
    }
    const last = await server.transaction("delete from items where id >= 20000");
    for (const client of clients) await client.awaitXid(1, last);
    for (const client of clients) assert.equal(commitsOf(client, 1).length, 51);
    const passes = (await server.metric("walcast_catch_up_passes_total")) - before;
    // One, or some more where this machine is busy, as they come at different moments; never one for each.
    assert.ok(passes <= clients.length / 10, `${passes} passes`);
    await Promise.all(clients.map((client) => client.close()));
  });

  async function returnedAt(left: RawClient["left"]): Promise<RawClient> {
    return returned("ada", left);
  }
});

describe("a client that claims to return", () => {
  let server: Running;
  /** Says no more than that it was here. */
  let silent: RawClient;
  before(async () => {
    // Ample: on a busy machine those who do say what they have may be late by a second.
    server = await running({ limits: { helloMs: 5_000 } }, "create table items (id int primary key)");
    // Its time passes while the others are tested.
    silent = await server.greeted(undefined, await left());
  });
  after(() => server.close());

  async function left(): Promise<RawClient["left"]> {
    const client = await server.greeted();
    await client.load(1, { table: "items" });
    await client.close();
    return client.left;
  }

  test("and has another token before it says what it has is in time when it says so", async () => {
    const client = await server.greeted(undefined, await left());
    client.send({ kind: "authenticate", token: "another" });
    await client.control("authenticated");
    client.send({ kind: "resume" });
    const later = new RawClient(server.engine.url);
    assert.deepEqual(await later.closed, { code: 4408, reason: "hello_timeout" });
    client.send({ kind: "ping" });
    await client.control("pong");
    await client.close();
  });

  test("without a position to return to, or twice, is closed with 4400", async () => {
    const fresh = await server.greeted();
    fresh.send({ kind: "resume" });
    assert.equal((await fresh.closed).code, 4400);
    const named = await server.greeted();
    named.claim(1, { table: "items" }, "x");
    assert.equal((await named.closed).code, 4400);
    const twice = await server.greeted(undefined, await left());
    twice.send({ kind: "resume" });
    twice.send({ kind: "resume" });
    assert.equal((await twice.closed).code, 4400);
  });

  test("with more shapes than a connection may have is refused those", async () => {
    const client = await server.greeted(undefined, await left());
    for (let id = 1; id <= 201; id++) client.claim(id, { table: "items", where: `id = ${id}` }, "x");
    client.send({ kind: "resume" });
    assert.equal((await client.refused(201)).code, "too_many");
    await client.close();
  });

  test("ten thousand times leaves nothing behind", async () => {
    const from = await left();
    const client = await server.greeted(undefined, from);
    client.send({ kind: "resume" });
    for (let i = 0; i < 10_000; i++) client.send({ kind: "resume" });
    assert.equal((await client.closed).code, 4400);
    for (let i = 0; i < 50; i++) await (await server.greeted(undefined, from)).close();
    await until(() => server.engine.stats().connections <= 1);
  });

  test("and never says what it has is closed with 4408", async () => {
    assert.equal(silent.welcome!.resumes, true);
    assert.deepEqual(await silent.closed, { code: 4408, reason: "hello_timeout" });
    await until(() => server.engine.stats().connections === 0);
  });
});

export function commitsOf(client: RawClient, id: number): Commit[] {
  return client.received.flatMap((one) =>
    "frame" in one && one.frame.kind === "commits"
      ? one.frame.sections
          .filter(({ subscription }) => subscription === id)
          .flatMap(({ payload }) => decodeCommits(payload))
      : [],
  );
}
