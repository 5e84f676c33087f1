/** Tables on their way into the stream: what is handed out under a name is the table that has it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pino } from "pino";
import { migrate, prepareDatabase } from "../../engine/changes/setup.ts";
import { Tables } from "../../engine/changes/tables.ts";
import { dropSlot, type TestDatabase, testDatabase } from "../support/postgres.ts";

describe("a table", () => {
  let db: TestDatabase;
  let tables: Tables;
  let isNoted = true;
  const readied: number[] = [];
  before(async () => {
    db = await testDatabase({ after: () => {} });
    const log = pino({ level: "silent" });
    await prepareDatabase({ databaseUrl: db.url, publication: "walcast", slot: db.name, log });
    const onReadied = (oid: number): void => void readied.push(oid);
    tables = new Tables(db.pool, { publication: "walcast", slot: db.name, isNoted: () => isNoted, onReadied, log });
  });
  after(async () => {
    await dropSlot(db, db.name);
    await db.drop();
  });

  test("that was given another's name is never handed out under its old one", async () => {
    await db.query("create table open_to_all (id int primary key); create table secret (id int primary key)");
    const open = await tables.get("public", "open_to_all", false);
    const secret = await tables.get("public", "secret", false);
    // Renamed behind our back: the stream has not told yet, so what was described is still kept.
    await db.query("alter table open_to_all rename to other; alter table secret rename to open_to_all");
    const found = await tables.get("public", "open_to_all", false);
    assert.deepEqual([found.oid, found.name], [secret.oid, "open_to_all"]);
    await assert.rejects(tables.get("public", "secret", false), { code: "unknown_table" });
    assert.equal((await tables.get("public", "other", false)).oid, open.oid);
    assert.equal(tables.known("public", "open_to_all"), found);
    tables.forget(found.oid);
    assert.equal(tables.known("public", "open_to_all"), undefined);
  });

  const refresh = (): void => tables.forgetAll();

  test("that was taken out of the publication and put in again waits for those who wrote it meanwhile", async () => {
    await db.query("create table gapped (id int primary key)");
    await tables.get("public", "gapped", true);
    await db.query("alter publication walcast drop table gapped");
    const writer = await db.pool.connect();
    await writer.query("begin; insert into gapped values (1)");
    await db.query("alter publication walcast add table gapped");
    refresh();
    let isReady = false;
    const ready = tables.get("public", "gapped", true).then(() => (isReady = true));
    // Its state is asked for again and again while it waits.
    for (let i = 0; i < 20; i++) await db.query("select pg_sleep(0.01)");
    assert.equal(isReady, false);
    await writer.query("commit");
    writer.release();
    await ready;
  });

  test("that somebody took out of the publication is put in again, and rows that were read before are void", async () => {
    await db.query("create table taken_out (id int primary key)");
    const { oid } = await tables.get("public", "taken_out", true);
    refresh();
    await tables.get("public", "taken_out", true);
    const times = (): number => readied.filter((one) => one === oid).length;
    assert.equal(times(), 1);
    await db.query("alter publication walcast drop table taken_out");
    refresh();
    await tables.get("public", "taken_out", true);
    const { rowCount } = await db.query("select from pg_publication_tables where tablename = 'taken_out'");
    assert.deepEqual([rowCount, times()], [1, 2]);
  });

  const parts = [
    ["a row filter", "alter publication walcast add table partial where (id > 5)"],
    ["a column list", "alter publication walcast add table partial (id)"],
    ["fewer operations", "alter publication walcast set (publish = 'insert')"],
    ["partitions under their root's name", "alter publication walcast set (publish_via_partition_root = true)"],
  ] as const;
  for (const [what, statement] of parts) {
    test(`whose publication has ${what} is refused with what to run, and served once that was run`, async (t) => {
      const { rows } = await db.query("select current_setting('server_version_num')::int as version");
      if (what.startsWith("a ") && (rows[0] as { version: number }).version < 150_000)
        return t.skip("from PostgreSQL 15 on");
      await db.query("drop table if exists partial; create table partial (id int primary key, v text)");
      await db.query(statement);
      refresh();
      const refused = tables.get("public", "partial", true);
      await assert.rejects(refused, { code: "table_unsupported", hint: /ALTER PUBLICATION "walcast"/ });
      const { hint } = (await refused.catch((error: unknown) => error)) as { hint: string };
      for (const [, mend] of hint.matchAll(/`([^`]*)`/g)) await db.query(mend!).catch(() => {});
      await tables.get("public", "partial", true);
    });
  }

  test("that nobody could update any more once it is published is refused before it is", async () => {
    await db.query(
      "create table bare (id int primary key, v text); alter table bare replica identity nothing; insert into bare values (1)",
    );
    await assert.rejects(tables.get("public", "bare", false), {
      code: "replica_identity_missing",
      hint: /REPLICA IDENTITY FULL/,
    });
    await db.query("create table keyless (v text); insert into keyless values ('x')");
    await tables.get("public", "keyless", true);
    await db.query("update bare set v = 'y'; update keyless set v = 'y'");
    await tables.get("public", "bare", true);
    await db.query("update bare set v = 'z'");
  });

  test("that is partitioned gets a whole old row on each leaf, also on one that comes later", async () => {
    await db.query(`create table parted (id int primary key) partition by range (id); create table leaf_1 partition of parted for values from (0) to (10);
      create table inner_parted partition of parted for values from (10) to (30) partition by range (id); create table leaf_2 partition of inner_parted for values from (10) to (20)`);
    const identities = async (): Promise<unknown> =>
      (await db.query("select relname, relreplident from pg_class where relname ~ '^leaf_.$' order by 1")).rows.map(
        ({ relname, relreplident }: { relname: string; relreplident: string }) => `${relname} ${relreplident}`,
      );
    const first = await tables.get("public", "parted", true);
    assert.deepEqual(
      [first.leaves!.length, first.replicaIdentity, await identities()],
      [2, "f", ["leaf_1 f", "leaf_2 f"]],
    );
    await db.query("create table leaf_3 partition of inner_parted for values from (20) to (30)");
    tables.forget(first.oid);
    const second = await tables.get("public", "parted", true);
    assert.deepEqual(
      [second.leaves!.length, second.replicaIdentity, await identities()],
      [3, "f", ["leaf_1 f", "leaf_2 f", "leaf_3 f"]],
    );
    assert.notEqual(first.version, second.version);
  });

  test("without a key is looked at again each time, and has one when it was given one", async () => {
    await db.query("create table late (id int not null)");
    assert.deepEqual((await tables.get("public", "late", true)).key, []);
    await db.query("alter table late add primary key (id)");
    const table = await tables.get("public", "late", true);
    assert.deepEqual([table.key, table.replicaIdentity], [[0], "f"]);
  });

  test("is told to have moved by its version, where nobody notes it, and by what made it ready", async (t) => {
    t.after(() => (isNoted = true));
    await db.query("create table watched (id int primary key); create table steady (id int primary key)");
    const [watched, steady] = [await tables.get("public", "watched", true), await tables.get("public", "steady", true)];
    const versions = new Map([watched, steady].map(({ oid, version }) => [oid, version]));
    isNoted = false;
    assert.deepEqual(await tables.moved(versions), []);
    await db.query("alter table watched add column v int");
    assert.deepEqual(await tables.moved(versions), [watched.oid]);
    isNoted = true;
    assert.deepEqual(await tables.moved(versions), []);
    await db.query("alter publication walcast drop table watched; alter publication walcast add table watched");
    assert.deepEqual(await tables.moved(versions), [watched.oid]);
  });

  test("that was not published for a while is described anew to whoever asks, where nobody notes that", async () => {
    const bare = await testDatabase({ after: () => {} });
    await migrate(bare.url);
    const log = pino({ level: "silent" });
    const asked = new Tables(bare.pool, { publication: "p", slot: bare.name, isNoted: () => false, log });
    await bare.query("create table t (id int primary key)");
    const { version } = await asked.get("public", "t", true);
    assert.equal((await asked.get("public", "t", true)).version, version);
    await bare.query("alter publication p drop table t");
    await bare.query("insert into t values (1)");
    await bare.query("alter publication p add table t");
    const again = await asked.get("public", "t", true);
    assert.notEqual(again.version, version);
    await bare.query("alter publication p drop table t");
    assert.notEqual((await asked.get("public", "t", true)).version, again.version, "it has put it in again itself");
    await bare.drop();
  });

  test("has another version once it was rewritten or not published for a while, where nobody notes that", async () => {
    const bare = await testDatabase({ after: () => {} });
    await migrate(bare.url);
    await bare.query(
      "create table t (id int primary key, n int); insert into t values (1, 1); create publication p for table t",
    );
    const version = async (statement: string): Promise<string> => {
      await bare.query(statement);
      const { rows } = await bare.query("select walcast.table_version('t'::regclass) as version");
      return (rows[0] as { version: string }).version;
    };
    const first = await version("insert into t values (2, 2)");
    assert.equal(await version("truncate t"), first);
    assert.equal(await version("vacuum full t"), first);
    const rewritten = await version("alter table t alter n type int using n * 2");
    assert.notEqual(rewritten, first);
    const again = await version("alter publication p drop table t; alter publication p add table t");
    assert.notEqual(again, rewritten);
    const everything = await version("create publication everything for all tables");
    const part = await version("alter publication everything set (publish = 'insert')");
    const whole = await version("alter publication everything set (publish = 'insert, update, delete, truncate')");
    assert.equal(new Set([again, everything, part, whole]).size, 4);
    await bare.drop();
  });

  test("with generated columns can still be updated by everybody once it is published", async () => {
    const { rows } = await db.query("select current_setting('server_version_num')::int as version");
    const virtual = (rows[0] as { version: number }).version >= 180_000 ? "virtual" : "stored";
    await db.query(`create table generated (id int primary key, n int, g int generated always as (n * 2) stored); insert into generated values (1, 1);
      create table virtual (id int primary key, n int, g int generated always as (n * 2) ${virtual}); insert into virtual values (1, 1);
      create table later (id int primary key, n int); insert into later values (1, 1)`);
    const generated = await tables.get("public", "generated", true);
    const found = await tables.get("public", "virtual", true);
    assert.deepEqual([generated.replicaIdentity, found.replicaIdentity], ["f", virtual === "virtual" ? "d" : "f"]);
    await tables.get("public", "later", true);
    await db.query(`alter table later add column g int generated always as (n * 2) ${virtual}`);
    await db.query("update generated set n = 2; update virtual set n = 2; update later set n = 2; delete from later");
  });
});
