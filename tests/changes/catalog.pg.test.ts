/** What a table is, as the catalog tells it, and what makes it another one. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { pino } from "pino";
import { describeTable, findTable } from "../../engine/changes/catalog.ts";
import { ensureEventTriggers } from "../../engine/changes/event-triggers.ts";
import { migrate } from "../../engine/changes/setup.ts";
import type { Table } from "../../engine/changes/table.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { postgresMajor } from "../versions/programs.ts";

describe("the catalog", () => {
  let db: TestDatabase;
  before(async () => {
    db = await testDatabase({ after: () => {} });
    await migrate(db.url);
    const client = new pg.Client(db.url);
    await client.connect();
    await ensureEventTriggers(client, pino({ level: "silent" }));
    await client.end();
  });
  after(() => db.drop());

  async function tableOf(name: string, schema = "public"): Promise<Table> {
    // As the engine asks: names come out the same whatever is on the path.
    const client = await db.pool.connect();
    try {
      await client.query("set search_path = pg_catalog");
      return (await describeTable(client, await findTable(client, schema, name)))!;
    } finally {
      client.release(true);
    }
  }

  const names = (table: Table, positions: readonly number[]): string[] =>
    positions.map((position) => table.columns[position]!.name);

  test("user-defined types are told from the bottom up, each once, arrays and multiranges with their elements", async () => {
    await db.query(`
      create type mood as enum ('calm', 'busy');
      create domain first_domain as mood;
      create domain second_domain as first_domain;
      create type pair as (a second_domain, b numeric(5,1)[]);
      create type price_range as range (subtype = numeric);
      create domain price as numeric(8,2);
      create table typed (id price primary key, m mood, d second_domain[], p pair, ps pair[], r price_range, mr price_multirange)`);
    const { types, columns } = await tableOf("typed");
    const order = types.map((type) => type.name);
    assert.deepEqual([...order].sort(), ["first_domain", "mood", "pair", "price", "price_range", "second_domain"]);
    assert.ok(order.indexOf("mood") < order.indexOf("first_domain"));
    assert.ok(order.indexOf("first_domain") < order.indexOf("second_domain"));
    assert.ok(order.indexOf("second_domain") < order.indexOf("pair"));
    assert.deepEqual(
      types.find((type) => type.name === "mood"),
      { kind: "enum", schema: "public", name: "mood", labels: ["calm", "busy"] },
    );
    assert.deepEqual(
      types.find((type) => type.name === "second_domain"),
      { kind: "domain", schema: "public", name: "second_domain", base: "public.first_domain" },
    );
    assert.deepEqual(
      types.find((type) => type.name === "pair"),
      {
        kind: "composite",
        schema: "public",
        name: "pair",
        attributes: [
          { name: "a", type: "public.second_domain" },
          { name: "b", type: "numeric(5,1)[]" },
        ],
      },
    );
    assert.deepEqual(
      types.find((type) => type.name === "price_range"),
      {
        kind: "range",
        schema: "public",
        name: "price_range",
        subtype: "numeric",
        multirange: { schema: "public", name: "price_multirange" },
      },
    );
    assert.deepEqual(
      columns.map((column) => column.type),
      [
        "public.price",
        "public.mood",
        "public.second_domain[]",
        "public.pair",
        "public.pair[]",
        "public.price_range",
        "public.price_multirange",
      ],
    );
    const [id, , d] = columns;
    assert.deepEqual([id!.baseTypeKind, id!.baseTypmod, d!.baseTypeKind], ["b", ((8 << 16) | 2) + 4, "b"]);
  });

  test("a domain over a domain over an enum has the enum's labels, in the enum's order", async () => {
    await db.query(`create type size as enum ('s', 'l'); alter type size add value 'm' before 'l'; create domain one as size; create domain two as one;
      create table sized (id int primary key, v two)`);
    const column = (await tableOf("sized")).columns[1]!;
    assert.deepEqual([column.type, column.baseTypeKind, column.enumLabels], ["public.two", "e", ["s", "m", "l"]]);
  });

  test("the types that the description names can be created in its order on an empty database", async (t) => {
    const other = await testDatabase({ after: (release) => t.after(release) });
    for (const type of (await tableOf("typed")).types) await other.query(ddl(type));
    const { columns } = await tableOf("typed");
    await other.query(`create table copy (${columns.map((column) => `"${column.name}" ${column.type}`).join(", ")})`);
  });

  test("dropped columns are not there, nor generated ones that are not sent: stored ones are, from 18 on", async () => {
    const virtual = postgresMajor() < 18 ? "" : "virtual int generated always as (a * 3) virtual,";
    await db.query(
      `create table gaps (a int, b int, id int primary key, double int generated always as (a * 2) stored, ${virtual} c int default 7); alter table gaps drop column b`,
    );
    const table = await tableOf("gaps");
    assert.deepEqual(
      table.columns.map((column) => column.name),
      (await sendsGenerated()) ? ["a", "id", "double", "c"] : ["a", "id", "c"],
    );
    assert.deepEqual(names(table, table.key), ["id"]);
  });

  test("a key has its own order, and not the columns that it merely includes", async () => {
    await db.query("create table keyed (a int, b text, c int, note text, primary key (c, a) include (note))");
    const table = await tableOf("keyed");
    assert.deepEqual(names(table, table.key), ["c", "a"]);
    assert.deepEqual(names(table, table.identityColumns), ["c", "a"]);
  });

  async function sendsGenerated(): Promise<boolean> {
    const { rows } = await db.query("select current_setting('server_version_num')::int >= 180000 as sends");
    return (rows[0] as { sends: boolean }).sends;
  }

  test("a key with a generated column in it is none where that is not sent", async () => {
    await db.query("create table half_keyed (a int, b int generated always as (a % 2) stored, primary key (a, b))");
    assert.deepEqual((await tableOf("half_keyed")).key, (await sendsGenerated()) ? [0, 1] : []);
  });

  const identities: readonly (readonly [string, string, readonly string[]])[] = [
    ["default", "d", ["id"]],
    ["full", "f", ["id", "code", "v"]],
    ["nothing", "n", []],
    ["using index identified_code", "i", ["code"]],
  ];
  for (const [clause, letter, carried] of identities) {
    test(`replica identity ${clause} tells what an old row carries, and the key stays the primary key`, async () => {
      await db.query(`create table if not exists identified (id int primary key, code text not null, v int); create unique index if not exists identified_code on identified (code) include (v);
        alter table identified replica identity ${clause}`);
      const table = await tableOf("identified");
      assert.deepEqual(
        [table.replicaIdentity, names(table, table.identityColumns), names(table, table.key)],
        [letter, carried, ["id"]],
      );
    });
  }

  test("names are what they are, however unusual", async () => {
    const long = "é".repeat(31);
    await db.query(
      `create schema "My Schema"; create table "My Schema"."Ta""ble" ("select" int, "__proto__" text, "a""b" text, "ID" int, id int, "😀" int, "${long}" int, primary key ("__proto__", "select"))`,
    );
    const table = await tableOf('Ta"ble', "My Schema");
    assert.deepEqual(
      table.columns.map((column) => column.name),
      ["select", "__proto__", 'a"b', "ID", "id", "😀", long],
    );
    assert.deepEqual(names(table, table.key), ["__proto__", "select"]);
  });

  test("collations say whether equality is byte equality and order is byte order", async () => {
    await db.query(`create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      create table collated (id int primary key, plain text, c text collate "C", nocase text collate nocase)`);
    const [id, , c, nocase] = (await tableOf("collated")).columns;
    assert.equal(id!.collation, undefined);
    assert.deepEqual([c!.collation!.isC, c!.collation!.deterministic], [true, true]);
    assert.deepEqual(
      [nocase!.collation!.isC, nocase!.collation!.deterministic, nocase!.collation!.schema],
      [false, false, "public"],
    );
  });

  test("what is not an ordinary table is refused by what it is, and what is the system's does not exist", async () => {
    await db.query(
      `create view seen as select 1 as id; create materialized view kept as select 1 as id; create unlogged table fast (id int);
       create table parent (id int primary key); create table child () inherits (parent);
       create table fast_parts (id int) partition by list (id); create unlogged table fast_part partition of fast_parts default`,
    );
    for (const [name, kind] of [
      ["seen", /a view/],
      ["kept", /materialized/],
      ["fast", /unlogged/],
      ["fast_parts", /an unlogged table among its partitions \(.*fast_part\)/],
      ["parent", /inherit/],
    ] as const) {
      await assert.rejects(findTable(db.pool, "public", name), { code: "table_unsupported", message: kind });
    }
    for (const [schema, name] of [
      ["pg_catalog", "pg_class"],
      ["walcast", "ready_tables"],
      ["public", "absent"],
      ["absent", "typed"],
      ["public", "typed_pkey"],
    ] as const) {
      await assert.rejects(findTable(db.pool, schema, name), { code: "unknown_table" });
    }
  });

  test("a table that is gone has no description", async () => {
    await db.query("create table passing (id int primary key)");
    const oid = await findTable(db.pool, "public", "passing");
    await db.query("drop table passing");
    assert.equal(await describeTable(db.pool, oid), undefined);
  });

  // ── Versions ───────────────────────────────────────────────────────────────────────────────────────────────────────

  const fresh = `
    drop schema if exists v, w cascade;
    create schema v;
    create type v.mood as enum ('calm');
    create domain v.inner_domain as v.mood;
    create domain v.outer_domain as v.inner_domain;
    create type v.pair as (a int, b v.mood);
    create table v.t (id int primary key, n numeric(8,2), d v.outer_domain, p v.pair[], s text, r int4range)`;
  const makesAnother: readonly string[] = [
    "alter table v.t add column x int",
    "alter table v.t drop column n",
    "alter table v.t rename column n to m",
    "alter table v.t alter n type numeric(9,2)",
    "alter table v.t alter s type varchar",
    'alter table v.t alter s type text collate "C"',
    "alter table v.t alter n set not null",
    "alter table v.t drop constraint t_pkey",
    "alter table v.t drop constraint t_pkey, add primary key (id, s)",
    "alter table v.t replica identity full",
    "alter table v.t rename to t2",
    "create schema w; alter table v.t set schema w",
    "alter schema v rename to w",
    "alter type v.mood add value 'busy'",
    "alter type v.mood rename value 'calm' to 'quiet'",
    "alter type v.mood rename to temper",
    "alter type v.pair add attribute c int",
    "alter type v.pair rename attribute a to z",
    "alter domain v.outer_domain rename to outermost",
    "drop type v.outer_domain cascade",
  ];
  const makesNone: readonly string[] = [
    "insert into v.t values (1)",
    "comment on table v.t is 'a table'",
    "create index on v.t (n)",
    "alter table v.t add check (id > 0)",
    "alter table v.t alter s set default 'x'",
    "alter table v.t alter s set storage external",
    "alter table v.t add unique (s)",
    "grant select on v.t to public",
    "alter table v.t set (fillfactor = 50)",
    "alter domain v.outer_domain set default 'calm'",
    "create type v.other as enum ('x')",
    "analyze v.t",
  ];

  async function versions(statement: string): Promise<{ before: string; after: string }> {
    await db.query(fresh);
    const { rows } = await db.query("select 'v.t'::regclass::oid::text as oid");
    const { oid } = rows[0] as { oid: string };
    const version = async (): Promise<string> =>
      ((await db.query("select walcast.table_version($1::text::oid) as version", [oid])).rows[0] as { version: string })
        .version;
    const was = await version();
    await db.query(statement);
    return { before: was, after: await version() };
  }

  for (const statement of makesAnother) {
    test(`another version: ${statement}`, async () => {
      const { before: was, after: is } = await versions(statement);
      assert.notEqual(was, is);
    });
  }
  for (const statement of makesNone) {
    test(`the same version: ${statement}`, async () => {
      const { before: was, after: is } = await versions(statement);
      assert.equal(was, is);
    });
  }
});

function ddl(type: Table["types"][number]): string {
  const name = `${type.schema}.${type.name}`;
  switch (type.kind) {
    case "enum":
      return `create type ${name} as enum (${type.labels.map((label) => `'${label}'`).join(", ")})`;
    case "domain":
      return `create domain ${name} as ${type.base}`;
    case "composite":
      return `create type ${name} as (${type.attributes.map((attribute) => `${attribute.name} ${attribute.type}`).join(", ")})`;
    case "range":
      return `create type ${name} as range (subtype = ${type.subtype})`;
    case "opaque":
      throw new Error("there is none in this test");
  }
}
