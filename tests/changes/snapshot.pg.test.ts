/**
 * Where the first rows end and the stream begins: whatever was under way while the snapshot was taken is in the one or in
 * the other, exactly once. Commits that are streamed before they are visible are in tests/splice.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { describeTable } from "../../engine/changes/catalog.ts";
import { isPostgresAway, openPool } from "../../engine/changes/connection.ts";
import { snapshotApplication } from "../../engine/changes/give-way.ts";
import { withoutTimeouts } from "../../engine/changes/reading.ts";
import { Snapshots } from "../../engine/changes/snapshot.ts";
import { resolveShape } from "../../engine/shapes/shape.ts";
import { openLog } from "../log/support.ts";
import { testDatabase } from "../support/postgres.ts";
import { rowsOf } from "../sockets/raw-client.ts";
import { type Running, running } from "../sockets/running.ts";
import { until } from "../support/until.ts";

describe("a snapshot", () => {
  let server: Running;
  before(async () => (server = await running()));
  after(() => server.close());

  async function tableOf(name: string): Promise<void> {
    await server.db.query(
      `create table ${name} (id int primary key, v text); insert into ${name} values (1, 'a'), (2, 'b')`,
    );
    // In the publication, so that the next who asks need not wait for those who write meanwhile.
    const client = await server.greeted();
    await client.load(1, { table: name, where: "id = 0" });
    await client.close();
  }

  async function writer(...statements: string[]): Promise<{ commit: () => Promise<void> }> {
    const client = await server.db.pool.connect();
    for (const statement of ["begin", ...statements]) await client.query(statement);
    return {
      commit: async () => {
        await client.query("commit");
        client.release();
      },
    };
  }

  async function lockIsWaitedFor(): Promise<void> {
    const query =
      "select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
    await until(async () => (await server.db.query(query)).rows.length > 0);
  }

  test("does not see a transaction that is open across it, and the stream brings it, once", async () => {
    await tableOf("crossed");
    const open = await writer(
      "insert into crossed values (3, 'c')",
      "update crossed set v = 'x' where id = 1",
      "delete from crossed where id = 2",
    );
    const client = await server.greeted();
    const { lines, commits } = await client.load(1, { table: "crossed" });
    assert.deepEqual(rowsOf(lines), [
      ["1", "a"],
      ["2", "b"],
    ]);
    assert.deepEqual(commits, []);
    await open.commit();
    assert.deepEqual((await client.commit(1)).operations, [
      { kind: "insert", row: ["3", "c"] },
      { kind: "update", row: ["1", "x"] },
      { kind: "delete", key: ["2"] },
    ]);
    await client.close();
  });

  test("sees what committed before it, and the stream does not bring that again", async () => {
    await tableOf("settled");
    const client = await server.greeted();
    for (let id = 3; id < 40; id++) {
      await server.transaction(`insert into settled values (${id}, 'c')`);
      const { lines, commits } = await client.load(id, { table: "settled", where: `id <= ${id}` });
      const inserted = commits.flatMap(({ operations }) => operations);
      assert.equal(lines.length + inserted.length, id, JSON.stringify(inserted));
      assert.equal(
        new Set([
          ...rowsOf(lines).map(([key]) => key),
          ...inserted.map((one) => (one.kind === "insert" ? one.row[0] : "none")),
        ]).size,
        id,
      );
    }
    await client.close();
  });

  test("waits for a TRUNCATE in flight, and begins after it", async () => {
    await tableOf("emptied");
    const open = await writer("truncate emptied", "insert into emptied values (9, 'z')");
    const client = await server.greeted();
    client.subscribe(1, { table: "emptied" });
    await lockIsWaitedFor();
    await open.commit();
    const { lines, commits } = await client.joined(1);
    assert.deepEqual([rowsOf(lines), commits], [[["9", "z"]], []]);
    await client.close();
  });

  test("waits for a rewriting ALTER in flight, and describes the table as it is then", async () => {
    await tableOf("rewritten");
    const open = await writer("alter table rewritten alter column id type bigint, add column extra text default 'd'");
    const client = await server.greeted();
    client.subscribe(1, { table: "rewritten" });
    await lockIsWaitedFor();
    await open.commit();
    const { table, lines } = await client.joined(1);
    assert.deepEqual(
      table.columns.map(({ name, type }) => [name, type]),
      [
        ["id", "bigint"],
        ["v", "text"],
        ["extra", "text"],
      ],
    );
    assert.deepEqual(rowsOf(lines), [
      ["1", "a", "d"],
      ["2", "b", "d"],
    ]);
    await client.close();
  });

  test("has rows of any size, whole and in order", async () => {
    const v = "repeat('0123456789', case when i in (700, 1400) then 300000 else i % 3000 end)";
    await server.db.query(
      `create table sized (id int primary key, v text); insert into sized select i, ${v} from generate_series(1, 2000) i`,
    );
    const client = await server.greeted();
    const { lines } = await client.load(1, { table: "sized" });
    const { rows } = await server.db.query("select id, v from sized");
    assert(
      lines.every((line, i) => line === `${rows[i].id}\t${rows[i].v}`),
      "every row as it is",
    );
    assert.equal(lines.length, 2_000);
    await client.close();
  });

  test("of a table that was not published before waits for those who wrote it until then", async () => {
    await server.db.query("create table early (id int primary key)");
    const open = await writer("insert into early values (1)");
    const client = await server.greeted();
    client.subscribe(1, { table: "early" });
    await client.awaitXid(1, await server.transaction("select 1"));
    assert.equal(
      client.received.some((one) => "control" in one && one.control.kind === "described"),
      false,
    );
    await open.commit();
    const { lines, commits } = await client.joined(1);
    assert.deepEqual([lines, commits], [["1"], []]);
    await client.close();
  });
});

test("no timeout that the database sets ends a reading", async (t) => {
  const db = await testDatabase(t);
  const names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
  for (const name of names) await db.query(`alter database ${db.name} set ${name} = '1s'`);
  const pool = openPool(db.url, snapshotApplication, 1, { prepare: withoutTimeouts });
  t.after(() => pool.close());
  for (const name of names) assert.deepEqual((await pool.query(`show ${name}`)).rows, [{ [name]: "0" }]);
});

test("what Postgres has not answered for too long, as the table was locked, say, may be asked again", async (t) => {
  const db = await testDatabase(t);
  const pool = openPool(db.url, "slow", 1, { queryTimeoutMs: 20 });
  t.after(() => pool.close());
  // Whoever drops the database ends it.
  await assert.rejects(pool.query("select pg_sleep(600)"), isPostgresAway);
});

const readingNow =
  "select from pg_stat_activity where application_name = $1 and datname = current_database() and state <> 'idle'";

describe("rows that were read before", () => {
  let server: Running;
  before(async () => (server = await running({ limits: { snapshots: 1 } })));
  after(() => server.close());

  /** Read once, and nobody holds it any more. */
  async function keptTable(name: string, rows = 3, v = "'v' || i"): Promise<{ readings: number }> {
    await server.db.query(
      `create table ${name} (id int primary key, v text); insert into ${name} select i, ${v} from generate_series(1, ${rows}) i`,
    );
    const client = await server.greeted();
    // Had the note of its publication not come by, the table would seem to have changed while it was read.
    await client.load(1, { table: name, where: "id < 0" });
    await client.awaitXid(1, await server.transaction("select 1"));
    await client.load(2, { table: name });
    await client.close();
    return { readings: await readings() };
  }

  const readings = (): Promise<number> => server.metric("walcast_snapshots_total");

  async function streamed(xid: string): Promise<void> {
    const client = await server.greeted();
    await client.awaitXid(1, xid);
    await client.close();
  }

  /** What somebody who comes now shows once it has joined. */
  async function shown(table: string, id = 1): Promise<Map<string, string | null>> {
    const client = await server.greeted();
    const { lines, commits } = await client.load(id, { table });
    await client.close();
    const rows = new Map(rowsOf(lines).map(([key, v]) => [key!, v!]));
    for (const one of commits.flatMap(({ operations }) => operations))
      if (one.kind === "insert" || one.kind === "update") rows.set(one.row[0] as string, one.row[1] as string);
      else if (one.kind === "delete") rows.delete((one.key ?? one.old)![0]!);
      else rows.clear();
    return rows;
  }

  test("serve whoever asks later, with what was committed since", async () => {
    const { readings: before } = await keptTable("read_once");
    await server.transaction("update read_once set v = 'x' where id = 1", "delete from read_once where id = 2");
    await server.transaction("insert into read_once values (4, 'v4')");
    assert.deepEqual(
      [...(await shown("read_once"))],
      [
        ["1", "x"],
        ["3", "v3"],
        ["4", "v4"],
      ],
    );
    await server.transaction("truncate read_once", "insert into read_once values (5, 'v5')");
    assert.deepEqual([...(await shown("read_once"))], [["5", "v5"]]);
    assert.equal(await readings(), before);
    assert.equal(await server.metric("walcast_snapshots_reused_total"), 2);
  });

  test("serve a crowd, packed on disk", async () => {
    const { readings: before } = await keptTable("packed", 30_000, "repeat('v', 40) || i");
    while ((await server.metric("walcast_snapshots_kept_bytes")) === 0);
    await server.transaction("update packed set v = 'x' where id = 30000");
    const crowd = await Promise.all(Array.from({ length: 8 }, () => shown("packed")));
    for (const rows of crowd) assert.deepEqual([rows.size, rows.get("30000")], [30_000, "x"]);
    assert.equal(await readings(), before);
  });

  test("go on with a transaction that was open while they were read", async () => {
    await server.db.query("create table spanned (id int primary key, v text); insert into spanned values (1, 'v1')");
    await (await server.greeted()).load(1, { table: "spanned", where: "id = 0" });
    const open = await server.db.pool.connect();
    await open.query("begin; update spanned set v = 'x' where id = 1");
    assert.equal((await shown("spanned")).get("1"), "v1");
    const before = await readings();
    assert.equal((await shown("spanned")).get("1"), "v1");
    await open.query("commit");
    open.release();
    assert.equal((await shown("spanned")).get("1"), "x");
    assert.equal(await readings(), before);
  });

  for (const [what, statement] of [
    ["its form", "alter table %t add column extra int default 7"],
    ["its form and back", "alter table %t add column extra int; alter table %t drop column extra"],
    ["its heap", "alter table %t alter column v type text using v || '!'"],
    ["its replica identity", "alter table %t replica identity default"],
  ] as const)
    test(`are not used once the table changed ${what}`, async () => {
      const table = `changed_${what.replaceAll(" ", "_")}`;
      const { readings: before } = await keptTable(table);
      await streamed(await server.transaction(statement.replaceAll("%t", table)));
      const { rows } = await server.db.query(`select id::text, v from ${table} order by id`);
      assert.deepEqual(
        [...(await shown(table))],
        rows.map(({ id, v }) => [id, v]),
      );
      assert.equal(await readings(), before + 1);
    });

  /** Cut off after the first frame of rows. Gives what came, and what it would say of that. */
  async function cutOff(table: string): Promise<{ lines: string[]; load: { id: string; frames: number } }> {
    const client = await server.greeted();
    client.subscribe(1, { table });
    const described = await client.control("described");
    const frame = await client.frame((one) => one.kind === "copy");
    await client.close();
    const text = Buffer.from(frame.sections[0]!.payload).toString();
    return { lines: text.slice(0, -1).split("\n"), load: { id: described.load!, frames: 1 } };
  }

  test("go on where a client was cut off", async () => {
    const { readings: before } = await keptTable("cut", 30_000, "repeat('v', 40) || i");
    const { lines, load } = await cutOff("cut");
    assert(lines.length < 10_000);
    await server.transaction("update cut set v = 'x' where id = 1");
    const client = await server.greeted();
    client.send({ kind: "subscribe", id: 1, shape: { table: "cut" }, load });
    const described = await client.control("described");
    assert.deepEqual([described.load, described.continues], [load.id, true]);
    const rest = await client.joined(1, described.table);
    assert.equal(new Set(rowsOf([...lines, ...rest.lines]).map(([id]) => id)).size, 30_000);
    assert.equal(lines.length + rest.lines.length, 30_000);
    assert.deepEqual(rest.commits[0]?.operations, [{ kind: "update", row: ["1", "x"] }]);
    await client.close();
    assert.equal(await readings(), before);
  });

  test("begin anew where they are not those that the client had, or not of what it may have", async () => {
    await keptTable("cut_anew", 30_000, "repeat('v', 40) || i");
    const { load } = await cutOff("cut_anew");
    const client = await server.greeted();
    for (const [id, shape, part] of [
      [1, { table: "cut_anew" }, { ...load, id: "another" }],
      [2, { table: "cut_anew", where: "id > 10" }, load],
    ] as const) {
      client.send({ kind: "subscribe", id, shape, load: part });
      const described = await client.control("described");
      assert.equal(described.continues, undefined);
      assert.equal((await client.joined(id, described.table)).lines.length, id === 1 ? 30_000 : 29_990);
    }
    await client.close();
  });

  test("are read to their end while somebody who was cut off may come back", async () => {
    const { readings: before } = await keptTable("lingering");
    await server.db.query("insert into lingering select i, repeat('v', 100) || i from generate_series(4, 60000) i");
    const held = await server.db.pool.connect();
    await held.query("begin; lock table lingering in access exclusive mode");
    const client = await server.greeted();
    client.subscribe(1, { table: "lingering", where: "id > 0" });
    while ((await readings()) === before);
    await client.close();
    await held.query("rollback");
    held.release();
    while ((await server.db.query(readingNow, [snapshotApplication])).rowCount !== 0);
    const back = await server.greeted();
    assert.equal((await back.load(1, { table: "lingering", where: "id > 0" })).lines.length, 60_000);
    assert.equal(await readings(), before + 1);
    await back.close();
  });

  test("are read anew once replaying would cost more", async () => {
    const { readings: before } = await keptTable("busy");
    let xid = "";
    for (let i = 0; i < 4; i++)
      xid = await server.transaction(`update busy set v = repeat(md5('${i}'), 4000) where id = 1`);
    await streamed(xid);
    assert.equal((await shown("busy")).size, 3);
    assert.equal(await readings(), before + 1);
  });

  test("serve nobody where the barrier after them did not come: Postgres may have crashed, and lost what they contain", async (t) => {
    await keptTable("unproven");
    const { db, dataDir } = server;
    const oid = await db.query("select 'unproven'::regclass::oid::int8::float8 as oid");
    const shape = resolveShape(
      { table: "unproven" },
      (await describeTable(db.pool, oid.rows[0].oid))!,
      true,
      undefined,
      false,
    );
    const { log } = await openLog(t);
    const [pool, control] = [2, 1].map((connections) => openPool(db.url, "unproven", connections));
    const stream = { slot: db.name, publication: "walcast" };
    const options = {
      pool: pool!,
      control: control!,
      log,
      stream,
      directory: dataDir,
      pieceBytes: 1 << 16,
      keptBytesMax: 1 << 20,
    };
    const snapshots = new Snapshots(options);
    t.after(async () => {
      snapshots.close();
      await Promise.all([pool!.close(), control!.close()]);
    });
    const { rows } = await control!.query<{ pid: number }>("select pg_backend_pid() as pid");
    process.kill(rows[0]!.pid, "SIGSTOP");
    const [first, second] = [await snapshots.open(shape), await snapshots.open(shape)];
    assert.equal(second.id, first.id);
    assert.notEqual(await first.spool.piece(0), undefined);
    control!.breakOff();
    process.kill(rows[0]!.pid, "SIGCONT");
    await assert.rejects(first.barrier);
    await assert.rejects(second.barrier);
    for (const one of [first, second]) one.release({ mayReturn: false });
    assert.equal(snapshots.kept.size, 0);
    const third = await snapshots.open(shape);
    assert.notEqual(third.id, first.id);
    third.release({ mayReturn: false });
  });

  test("wanted together are read in one transaction", async () => {
    await keptTable("together", 1_000);
    const clients = await Promise.all(Array.from({ length: 40 }, () => server.greeted()));
    const before = await server.metric("walcast_snapshot_transactions_total");
    const loaded = clients.map((client, i) => client.load(1, { table: "together", where: "id <= $1", params: [i] }));
    for (const [i, { lines }] of (await Promise.all(loaded)).entries()) assert.equal(lines.length, i);
    const transactions = (await server.metric("walcast_snapshot_transactions_total")) - before;
    assert(transactions <= 8, `${transactions} transactions for ${clients.length} shapes`);
    for (const client of clients) await client.close();
  });
});
