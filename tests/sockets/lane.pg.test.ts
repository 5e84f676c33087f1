/** A subscription's life: loaded, joined, followed, loaded anew when its table changes, ended. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type pg from "pg";
import type { Snapshots } from "../../engine/changes/snapshot.ts";
import type { Log } from "../../engine/log/log.ts";
import { formatLsn, type Lsn, type WalcastError } from "../../engine/protocol.ts";
import { Xids } from "../../engine/sockets/xids.ts";
import { until } from "../support/until.ts";
import { rowsOf } from "./raw-client.ts";
import { type Running, running } from "./running.ts";

describe("a subscription", () => {
  let server: Running;
  before(async () => (server = await running({ positionEveryMs: 50 })));
  after(() => server.close());

  async function tableOf(name: string, rows = 3): Promise<void> {
    await server.db.query(
      `create table ${name} (id int primary key, v text); insert into ${name} select g, 'v' || g from generate_series(1, ${rows}) g`,
    );
  }

  /** Resolves when somebody waits for a lock on the table. */
  function waitingFor(table: string): Promise<void> {
    const query = "select from pg_locks where relation = $1::regclass and not granted";
    return until(async () => (await server.db.query(query, [table])).rowCount !== 0);
  }

  test("brings its rows, then every change, at positions that only grow", async () => {
    await tableOf("plain");
    const client = await server.greeted();
    const { lines, table } = await client.load(1, { table: "plain" });
    assert.deepEqual(rowsOf(lines), [
      ["1", "v1"],
      ["2", "v2"],
      ["3", "v3"],
    ]);
    assert.deepEqual([table.schema, table.name, table.key], ["public", "plain", ["id"]]);
    const xid = await server.transaction(
      "insert into plain values (4, null)",
      "update plain set v = 'x' where id = 1",
      "update plain set id = 9 where id = 2",
      "delete from plain where id = 3",
    );
    const commit = await client.commit(1);
    assert.equal(commit.xid, BigInt(xid));
    assert.deepEqual(commit.operations, [
      { kind: "insert", row: ["4", null] },
      { kind: "update", row: ["1", "x"] },
      { kind: "update", oldKey: ["2"], row: ["9", "v2"] },
      { kind: "delete", key: ["3"] },
    ]);
    await client.close();
  });

  test("in changes mode brings no rows first, and whole old rows", async () => {
    await tableOf("watched");
    const client = await server.greeted();
    assert.deepEqual((await client.load(1, { table: "watched", where: "id < 100" }, true)).lines, []);
    await server.transaction(
      "update watched set v = 'x' where id = 1",
      "delete from watched where id = 2",
      "update watched set id = 200 where id = 3",
      "truncate watched",
    );
    assert.deepEqual((await client.commit(1)).operations, [
      { kind: "update", old: ["1", "v1"], row: ["1", "x"] },
      { kind: "delete", old: ["2", "v2"] },
      { kind: "delete", old: ["3", "v3"] },
      { kind: "truncate" },
    ]);
    await client.close();
  });

  test("in changes mode is described as its table is once a change of form under way is over", async () => {
    await tableOf("reformed");
    const client = await server.greeted();
    await client.load(1, { table: "reformed" }, true);
    const altering = await server.db.pool.connect();
    await altering.query("begin; alter table reformed add column extra int default 7");
    client.subscribe(2, { table: "reformed" }, true);
    await waitingFor("reformed");
    await altering.query("commit");
    altering.release();
    const { table } = await client.joined(2);
    assert.deepEqual(
      table.columns.map((column) => column.name),
      ["id", "v", "extra"],
    );
    await server.transaction("insert into reformed values (9, 'v9', 9)");
    assert.deepEqual((await client.commit(2)).operations, [{ kind: "insert", row: ["9", "v9", "9"] }]);
    await client.close();
  });

  test("shares one frame with the others that a transaction changed", async () => {
    await tableOf("left_side");
    await tableOf("right_side");
    const client = await server.greeted();
    await client.load(1, { table: "left_side" });
    await client.load(2, { table: "right_side" });
    await client.load(3, { table: "right_side", where: "id = 1000" });
    await server.transaction("delete from left_side where id = 1", "delete from right_side where id = 1");
    const frame = await client.frame((one) => one.kind === "commits");
    assert.deepEqual(
      frame.sections.map((section) => section.subscription),
      [1, 2],
    );
    assert.equal(frame.boundary, true);
    await client.close();
  });

  test("that ended brings nothing more", async () => {
    await tableOf("ended");
    const client = await server.greeted();
    await client.load(1, { table: "ended" });
    await client.load(2, { table: "ended", where: "id > 0" });
    client.send({ kind: "unsubscribe", id: 1 });
    await client.control("unsubscribed", (message) => message.id === 1);
    await server.transaction("delete from ended where id = 1");
    const frame = await client.frame((one) => one.kind === "commits");
    assert.deepEqual(
      frame.sections.map((section) => section.subscription),
      [2],
    );
    await client.close();
  });

  test("that ends while it loads brings nothing more, and its snapshot ends too", async () => {
    await tableOf("long_one", 200_000);
    const client = await server.greeted();
    client.subscribe(1, { table: "long_one" });
    await client.frame((one) => one.kind === "copy");
    client.send({ kind: "unsubscribe", id: 1 });
    await client.control("unsubscribed");
    const from = client.received.length;
    await client.awaitXid(1, await server.transaction("delete from long_one where id = 1"));
    assert.equal(
      client.received.slice(from).some((one) => "frame" in one && one.frame.kind !== "position"),
      false,
    );
    await client.close();
  });

  test("is loaded anew when its table changes, and the old rows stay until the new ones join", async () => {
    await tableOf("altered");
    const client = await server.greeted();
    const before = await client.load(1, { table: "altered" });
    await server.transaction(
      "insert into altered values (4, 'v4')",
      "alter table altered add column extra int default 7",
    );
    const { id, cause } = await client.control("resync");
    assert.deepEqual([id, cause.code], [1, "schema_changed"]);
    const { table, lines } = await client.joined(1);
    assert.deepEqual(
      table.columns.map((column) => column.name),
      ["id", "v", "extra"],
    );
    assert.notEqual(table.version, before.table.version);
    assert.deepEqual(rowsOf(lines).at(-1), ["4", "v4", "7"]);
    await server.transaction("delete from altered where id = 4");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "delete", key: ["4"] }]);
    await client.close();
  });

  test("is announced to be loaded anew before the connection's position passes the change", async () => {
    await tableOf("changing");
    await tableOf("steady");
    const client = await server.greeted();
    await client.load(1, { table: "changing" });
    await client.load(2, { table: "steady" });
    await server.transaction("alter table changing drop column v", "delete from steady where id = 1");
    await client.commit(2);
    const order = client.received
      .map((one) => ("control" in one ? one.control.kind : one.frame.kind))
      .filter((kind) => kind === "resync" || kind === "commits");
    assert.deepEqual(order, ["resync", "commits"]);
    await client.close();
  });

  const alterations: readonly (readonly [string, string])[] = [
    ["a renamed column", "alter table %t rename column v to w"],
    ["a dropped column", "alter table %t drop column v"],
    ["another type", "alter table %t alter column v type varchar(40)"],
    ["a rewritten heap", "alter table %t alter column id type bigint"],
    ["another replica identity", "alter table %t replica identity default"],
    ["another key", "alter table %t drop constraint %t_pkey, add primary key (id, v)"],
  ];
  for (const [i, [what, statement]] of alterations.entries()) {
    test(`survives ${what}`, async () => {
      await tableOf(`alteration_${i}`);
      const client = await server.greeted();
      await client.load(1, { table: `alteration_${i}` });
      await server.db.query(statement.replaceAll("%t", `alteration_${i}`));
      await client.control("resync");
      assert.equal((await client.joined(1)).lines.length, 3);
      await client.close();
    });
  }

  test("is loaded anew when something below its columns changes, and refused when its schema has another name", async () => {
    await server.db
      .query(`create schema deep; create type deep.mood as enum ('calm'); create type deep.pair as (a int, b deep.mood); create domain deep.code as text;
      create table deep.t (id int primary key, p deep.pair[], c deep.code); insert into deep.t values (1, '{"(1,calm)"}', 'x')`);
    const client = await server.greeted();
    await client.load(1, { table: "deep.t" });
    for (const [statement, line] of [
      ["alter type deep.pair add attribute c int", '1\t{"(1,calm,)"}\tx'],
      ["drop domain deep.code cascade", '1\t{"(1,calm,)"}'],
    ] as const) {
      await server.db.query(statement);
      await client.control("resync");
      assert.deepEqual((await client.joined(1)).lines, [line], statement);
    }
    await server.db.query("alter schema deep rename to shallow");
    assert.equal((await client.refused(1)).code, "unknown_table");
    await client.close();
  });

  test("fails when its table is dropped or renamed, and others go on", async () => {
    await tableOf("dropped");
    await tableOf("renamed");
    await tableOf("staying");
    const client = await server.greeted();
    for (const [i, table] of ["dropped", "renamed", "staying"].entries()) await client.load(i + 1, { table });
    await server.db.query("drop table dropped");
    assert.equal((await client.refused(1)).code, "unknown_table");
    await server.db.query("alter table renamed rename to another");
    assert.equal((await client.refused(2)).code, "unknown_table");
    await server.transaction("delete from staying where id = 1");
    await client.commit(3);
    await client.close();
  });

  test("comes back under the name of a table that was dropped and made again", async () => {
    await tableOf("phoenix");
    const client = await server.greeted();
    const { table } = await client.load(1, { table: "phoenix" });
    await server.transaction(
      "drop table phoenix",
      "create table phoenix (id text primary key)",
      "insert into phoenix values ('new')",
    );
    const again = await client.joined(1);
    assert.notEqual(again.table.oid, table.oid);
    assert.deepEqual(again.lines, ["new"]);
    await client.close();
  });

  test("that matches another's exactly gets the same bytes from one snapshot", async () => {
    await tableOf("shared_one", 50_000);
    const clients = await Promise.all([1, 2, 3].map(() => server.greeted()));
    const { snapshotsTotal } = server.engine.stats();
    const loaded = await Promise.all(
      clients.map((client) => client.load(1, { table: "shared_one", where: "id > $1 and v <> 'x'", params: [5] })),
    );
    assert.equal(new Set(loaded.map(({ lines }) => lines.join("\n"))).size, 1);
    assert.ok(server.engine.stats().snapshotsTotal - snapshotsTotal < 3);
    for (const client of clients) await client.close();
  });

  test("that cannot be served says how to mend it", async () => {
    await server.db
      .query(`create table keyless (v text); create view a_view as select 1 as id; create unlogged table unlogged_one (id int primary key);
      create sequence a_sequence`);
    await tableOf("ordinary");
    const refusals: readonly (readonly [Record<string, unknown>, string])[] = [
      [{ table: "keyless" }, "table_without_key"],
      [{ table: "a_view" }, "table_unsupported"],
      [{ table: "unlogged_one" }, "table_unsupported"],
      [{ table: "a_sequence" }, "unknown_table"],
      [{ table: "a.b.c" }, "unknown_table"],
      [{ table: "" }, "unknown_table"],
      [{ table: "__proto__" }, "unknown_table"],
      [{ table: "ordinary", columns: ["v"] }, "columns_without_key"],
      [{ table: "ordinary", columns: ["id", "__proto__"] }, "unknown_column"],
      [{ table: "ordinary", where: "id >" }, "where_syntax"],
      [{ table: "ordinary", where: "true) or (true" }, "where_syntax"],
      [{ table: "ordinary", where: "id = (select 1)" }, "where_unsupported"],
      [{ table: "ordinary", where: "pg_sleep(1) is null" }, "where_unsupported"],
      [{ table: "ordinary", where: "id = 'x'" }, "where_type"],
      [{ table: "ordinary", where: "id = $2", params: [1] }, "where_params"],
    ];
    const client = await server.greeted();
    for (const [i, [shape, code]] of refusals.entries()) {
      client.subscribe(i + 1, shape as never);
      assert.equal((await client.refused(i + 1)).code, code, JSON.stringify(shape));
    }
    await client.close();
  });
});

describe("a client that awaits", () => {
  let server: Running;
  before(
    async () =>
      (server = await running(
        { positionEveryMs: 3_600_000 },
        "create table items (id int primary key); create table others (id int primary key)",
      )),
  );
  after(() => server.close());

  test("a transaction hears of it after its rows", async () => {
    const client = await server.greeted();
    await client.load(1, { table: "items" });
    const xid = await server.transaction("insert into items values (1)");
    const position = await client.awaitXid(1, xid);
    const commits = client.received.flatMap((one) =>
      "frame" in one && one.frame.kind === "commits" ? [one.frame.position] : [],
    );
    assert.equal(commits.length, 1);
    assert.ok(position >= commits[0]!);
    await client.close();
  });

  test("a transaction that touched nothing of its own hears of it all the same", async () => {
    const client = await server.greeted();
    await client.load(1, { table: "items" });
    await client.awaitXid(1, await server.transaction("insert into others values (1)"));
    await client.awaitXid(2, await server.transaction("select 1"));
    await client.close();
  });

  test("a position gets there on an idle database, too", async () => {
    const client = await server.greeted();
    const { rows } = await server.db.query("select pg_current_wal_insert_lsn()::text as lsn");
    client.send({ kind: "await", id: 1, position: (rows[0] as { lsn: string }).lsn });
    await client.control("awaited");
    client.send({ kind: "await", id: 2, position: "0/1" });
    await client.control("awaited", ({ id }) => id === 2);
    await client.close();
  });

  test("a transaction in progress hears of it when it has committed", async () => {
    const client = await server.greeted();
    const writer = await server.db.pool.connect();
    await writer.query("begin");
    const { rows } = await writer.query<{ xid: string }>("select pg_current_xact_id()::text as xid");
    client.send({ kind: "await", id: 1, xid: rows[0]!.xid });
    // Answered although it was asked for later: the first one waits.
    await client.awaitXid(2, await server.transaction("insert into others values (2)"));
    await writer.query("commit");
    writer.release();
    await client.control("awaited", ({ id }) => id === 1);
    await client.close();
  });

  test("transactions in progress is one question to Postgres with all the others", async (t) => {
    const writers = await Promise.all([1, 2, 3].map(() => server.db.pool.connect()));
    t.after(() => writers.forEach((writer) => writer.release(true)));
    for (const writer of writers) await writer.query("begin");
    const xids = await Promise.all(
      writers.map(async (writer) => {
        const { rows } = await writer.query<{ xid: string }>("select pg_current_xact_id()::text as xid");
        return BigInt(rows[0]!.xid);
      }),
    );
    const alone: unknown[] = [];
    const together: number[] = [];
    const { promise: askedOften, resolve } = Promise.withResolvers<void>();
    const control = {
      query(text: string, values: unknown[]) {
        if (Array.isArray(values[0])) together.push(values[0].length);
        else alone.push(values[0]);
        if (together.filter((count) => count === xids.length).length === 3) resolve();
        return server.db.pool.query(text, values);
      },
    } as unknown as pg.Pool;
    const commitBarrier = (): Promise<Lsn> => Promise.resolve(7n as Lsn);
    const tail = { positionOf: (): undefined => undefined } as unknown as Log;
    const asked = new Xids(tail, control, { commitBarrier } as unknown as Snapshots);
    const gone = { is: false };
    const over = assert.rejects(
      asked.positionOf(xids[2]!, () => gone.is),
      { code: "closed" },
    );
    const answers = Array.from({ length: 19 }, (_, i) =>
      asked.positionOf(xids[i % 2]!, () => false).catch((error: WalcastError) => error.code),
    );
    await askedOften;
    assert.equal(alone.length, 20, "each once");
    gone.is = true;
    await over;
    await writers[0]!.query("commit");
    await writers[1]!.query("rollback");
    assert.deepEqual(new Set(await Promise.all(answers)), new Set([7n, "transaction_aborted"]));
  });

  test("what cannot come is told so, and the connection goes on", async () => {
    const client = await server.greeted();
    const writer = await server.db.pool.connect();
    await writer.query("begin");
    const { rows } = await writer.query<{ xid: string }>("select pg_current_xact_id()::text as xid");
    await writer.query("rollback");
    writer.release();
    const refusals: readonly (readonly [Record<string, string>, string])[] = [
      [{ xid: rows[0]!.xid }, "transaction_aborted"],
      [{ xid: "999999999999" }, "transaction_unknown"],
      [{ xid: "99999999999999999999" }, "transaction_unknown"],
      [{ xid: "0" }, "transaction_unknown"],
      [{ position: "0/1/2" }, "malformed_message"],
      [{}, "malformed_message"],
    ];
    for (const [i, [what, code]] of refusals.entries()) {
      client.send({ kind: "await", id: i + 1, ...what });
      assert.equal((await client.refused(i + 1)).code, code, JSON.stringify(what));
    }
    await client.awaitXid(100, await server.transaction("insert into items values (100)"));
    await client.close();
  });

  test("nothing hears of the position from time to time, on its own", async (t) => {
    const often = await running({ positionEveryMs: 10 }, "create table items (id int primary key)");
    t.after(() => often.close());
    const client = await often.greeted();
    await client.load(1, { table: "items", where: "id < 0" });
    await often.transaction("insert into items values (1)");
    const first = await client.frame((frame) => frame.kind === "position");
    await often.transaction("insert into items values (2)");
    await client.frame((frame) => frame.kind === "position" && frame.position > first.position);
    assert.match(formatLsn(first.position), /^[0-9A-F]+\/[0-9A-F]+$/);
    assert.equal(first.boundary, true);
    assert.deepEqual(first.sections, []);
  });
});
