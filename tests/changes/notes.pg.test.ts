/** What the event triggers write, in the transaction of the DDL: for which tables, and that nobody's DDL ever fails for it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pino } from "pino";
import { prepareDatabase } from "../../engine/changes/setup.ts";
import { parseDescription } from "../../engine/changes/catalog.ts";
import { Tables } from "../../engine/changes/tables.ts";
import { dropSlot, type TestDatabase, testDatabase } from "../support/postgres.ts";

interface Note {
  readonly name: string;
  readonly version: string | null;
  readonly description: object | null;
}

const log = pino({ level: "silent" });

const schema = `
  drop schema if exists v, w cascade; create schema v; set search_path = v;
  create type v.mood as enum ('calm');
  create domain v.temper as v.mood;
  create table v.t (id int primary key, n int, m v.temper);
  create table v.indexed (id int primary key, code text not null);
  create unique index indexed_code on v.indexed (code);
  alter table v.indexed replica identity using index indexed_code;
  create table v.plain (id int primary key);
  create table v.root (id int, k int, primary key (id, k)) partition by list (k);
  create table v.leaf_1 partition of v.root for values in (1);
  create table v.leaf_2 (k int not null, gone int, id int not null, primary key (id, k));
  alter table v.leaf_2 drop column gone;
  create table v.parent (id int primary key);
  reset search_path`;

describe("event triggers", () => {
  let db: TestDatabase;
  let tables: Tables;
  before(async () => {
    db = await testDatabase({ after: () => {} });
    const options = { publication: "walcast", slot: db.name, log };
    await prepareDatabase({ databaseUrl: db.url, ...options });
    tables = new Tables(db.pool, { ...options, isNoted: () => true });
  });
  after(async () => {
    await dropSlot(db, db.name);
    await db.drop();
  });

  /** Every table made ready for the stream, and then what is noted of a statement. */
  async function noted(statement: string): Promise<readonly Note[]> {
    await db.query(schema);
    for (const name of ["t", "plain", "root", "parent"]) await tables.get("v", name, true);
    await tables.get("v", "indexed", false);
    const { rows: oids } = await db.query(
      "select oid::text, relname as name from pg_class where relkind in ('r', 'p')",
    );
    const names = new Map(oids.map(({ oid, name }: { oid: string; name: string }) => [oid, name]));
    const { rows: last } = await db.query("select coalesce(max(id), 0) as id from walcast.schema_changes");
    await db.query(statement);
    const { rows } = await db.query(
      "select table_oid::text as oid, version, description from walcast.schema_changes where id > $1 order by id",
      [last[0].id],
    );
    return rows.map(({ oid, version, description }) => ({ name: names.get(oid) ?? "new", version, description }));
  }

  const described: readonly (readonly [string, readonly string[]])[] = [
    ["alter table v.t add column x int default 7", ["t"]],
    ["alter table v.t rename to other", ["t"]],
    ["create schema w; alter table v.t set schema w", ["t"]],
    ["alter table v.t replica identity default", ["t"]],
    ["alter type v.mood add value 'busy'", ["indexed", "parent", "plain", "root", "t"]],
    ["alter domain v.temper set default 'calm'", ["indexed", "parent", "plain", "root", "t"]],
    ["alter schema v rename to w", ["indexed", "parent", "plain", "root", "t"]],
    ["create table v.leaf_3 partition of v.root for values in (3)", ["root"]],
    ["alter table v.root attach partition v.leaf_2 for values in (2)", ["root"]],
    ["alter table v.leaf_1 add check (id > 0)", ["leaf_1", "root"]],
    ["drop table v.leaf_1", ["root"]],
    ["create table v.child () inherits (v.parent)", ["parent"]],
    ["drop index v.indexed_code", ["indexed"]],
    ["drop domain v.temper cascade", ["t"]],
    ["create table v.unrelated (id int)", []],
    ["create index on v.t (n)", []],
    ["comment on table v.t is 'a table'", []],
  ];
  for (const [statement, names] of described) {
    test(`describe what they find: ${statement}`, async () => {
      const notes = (await noted(statement)).filter(({ description }) => description !== null);
      assert.deepEqual([...new Set(notes.map(({ name }) => name))].sort(), names);
      for (const { version, description } of notes) {
        const table = parseDescription(JSON.stringify(description));
        assert.equal(table.version, version);
        const { rows } = await db.query("select walcast.table_version($1::int8::oid) as version", [table.oid]);
        assert.equal(rows[0].version, version);
      }
    });
  }

  const unready: readonly (readonly [string, readonly string[]])[] = [
    ["alter publication walcast drop table v.t", ["t"]],
    ["alter publication walcast drop table v.root", ["root"]],
    ["alter publication walcast set table walcast.schema_changes, v.plain", ["indexed", "parent", "root", "t"]],
    ["alter publication walcast set (publish = 'insert')", ["indexed", "parent", "plain", "root", "t"]],
    ["alter publication walcast set (publish_via_partition_root = true)", ["indexed", "parent", "plain", "root", "t"]],
    ["drop publication walcast", ["indexed", "parent", "plain", "root", "t"]],
    ["alter table v.t enable row level security", []],
    ["alter table v.root detach partition v.leaf_1", []],
    ["create publication another for table v.t; drop publication another", []],
    ["grant select on v.t to public", []],
    ["drop table v.t", ["t"]],
    ["alter table v.t alter n type bigint", ["t"]],
    ["alter table v.t alter n type int using n * 2", ["t"]],
    ["alter table v.t add column x float8 default random()", ["t"]],
  ];
  for (const [statement, names] of unready) {
    test(`note what cannot be continued: ${statement}`, async () => {
      const notes = (await noted(statement)).filter(({ version }) => version === null);
      assert.deepEqual([...new Set(notes.map(({ name }) => name))].sort(), names);
      if (statement.includes("publication walcast"))
        await prepareDatabase({ databaseUrl: db.url, publication: "walcast", slot: db.name, log });
      if (statement.includes("set ("))
        await db.query(
          "alter publication walcast set (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)",
        );
    });
  }

  test("note a role's rights when they change, and row-level security that applies to it", async () => {
    await db.query(schema);
    const role = `reader_${db.name}`;
    await db.query(`create role ${role}; grant usage on schema v to ${role}; grant select on v.t, v.plain to ${role}`);
    for (const name of ["t", "plain"]) await tables.get("v", name, true);
    const asRole = `update walcast.ready_tables set reader = '${role}'::regrole, readiness = walcast.readiness(table_oid, publication, '${role}'::regrole)`;
    const notes = async (statement: string): Promise<string[]> => {
      await db.query(`${asRole}; delete from walcast.schema_changes`);
      await db.query(statement);
      const { rows } = await db.query(
        "select distinct table_oid::regclass::text as name from walcast.schema_changes where version is null order by 1",
      );
      tables.forgetAll();
      const ready = await Promise.all(["t", "plain"].map((name) => tables.get("v", name, true)));
      assert.equal(ready.length, 2);
      return rows.map(({ name }: { name: string }) => name);
    };
    assert.deepEqual(await notes(`revoke select on v.t from ${role}`), ["v.t"]);
    assert.deepEqual(await notes(`grant select (id) on v.t to ${role}`), ["v.t"]);
    assert.deepEqual(await notes("alter table v.plain enable row level security"), ["v.plain"]);
    assert.deepEqual(await notes(`revoke usage on schema v from ${role}`), ["v.plain", "v.t"]);
    assert.deepEqual(await notes("grant select on v.plain to public"), []);
    await db.query(`drop owned by ${role}; drop role ${role}`);
  });

  test("never make DDL fail, whatever has become of what they write to, and whoever runs it", async () => {
    await db.query(schema);
    await tables.get("v", "t", true);
    const role = `ddl_${db.name}`;
    await db.query(
      `create role ${role}; grant all on schema v to ${role}; alter table v.t owner to ${role}; alter type v.mood owner to ${role}`,
    );
    const statements = [
      "alter table v.t add column x int",
      "alter table v.t alter n type bigint",
      "alter table v.t drop column n",
      "create table v.made (id int primary key)",
      "alter type v.mood add value 'busy'",
      "drop table v.made",
      "grant select on v.t to public",
    ];
    const run = async (): Promise<void> => {
      for (const statement of statements) await db.query(`set role ${role}; ${statement}; reset role`);
    };
    await run();
    const broken = [
      "alter table walcast.schema_changes rename to hidden",
      "alter function walcast.describe_table(oid) rename to hidden_describe_table",
      "alter table walcast.ready_tables rename to hidden_ready_tables",
      "alter function walcast.note_unready(oid[]) rename to hidden_note_unready",
    ];
    for (const change of broken) await db.query(change);
    await db.query(
      `drop table v.t; create table v.t (id int primary key, n int, m v.temper); alter table v.t owner to ${role}; drop type v.mood cascade; create type v.mood as enum ('calm'); alter type v.mood owner to ${role}`,
    );
    await run();
    await db.query("alter table walcast.hidden rename to schema_changes");
    await db.query("alter table walcast.hidden_ready_tables rename to ready_tables");
    await db.query("alter function walcast.hidden_note_unready(oid[]) rename to note_unready");
    await db.query("select pg_replication_slot_advance($1, pg_current_wal_lsn())", [db.name]);
    await db.query("alter table v.t add column y int");
    const { rows } = await db.query(
      `select substring(encode(data, 'escape') from 'walcast[.]unknown_change.*') as said, 'v.t'::regclass::oid::text as oid
       from pg_logical_slot_peek_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', 'walcast', 'messages', 'true')
       where encode(data, 'escape') like '%walcast.unknown_change%'`,
      [db.name],
    );
    assert.equal(rows.length, 1, "what cannot be described is noted without a description");
    assert.match(rows[0].said, new RegExp(`${rows[0].oid} function walcast.describe_table.* does not exist`));
    await db.query("alter function walcast.hidden_describe_table(oid) rename to describe_table");
    await db.query(`reassign owned by ${role} to current_user; drop owned by ${role}; drop role ${role}`);
  });

  test("do not make two statements wait for each other over old notes", async () => {
    await db.query(schema);
    await db.query("update walcast.schema_changes set noted_at = now() - interval '2 hours'");
    const [one, other] = [await db.pool.connect(), await db.pool.connect()];
    try {
      await one.query("begin; alter table v.t add column one int");
      await other.query("set lock_timeout = '5s'; begin; alter table v.plain add column other int; commit");
      await one.query("commit");
    } finally {
      one.release(true);
      other.release(true);
    }
  });

  test("go with the schema walcast, and DROP SCHEMA … CASCADE does not fail for them", async (t) => {
    const other = await testDatabase(t);
    await prepareDatabase({ databaseUrl: other.url, publication: "walcast", slot: other.name, log });
    await other.query(
      "create table public.t (id int primary key); drop schema walcast cascade; alter table public.t add x int",
    );
    await dropSlot(other, other.name);
  });
});
