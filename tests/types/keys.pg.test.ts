/**
 * Every type that can be a key, as a key: alone and as a part of one, loaded, inserted, moved to another key and deleted.
 * And the shapes of keys that have misled others: declared in another order than the columns, shifted, swapped.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import { type Client, createClient } from "../../client-sdk/index.ts";
import { type Running, running } from "../sockets/running.ts";
import { emptyReplica } from "../support/replica.ts";
import { quoteLiteral } from "../../engine/shapes/name.ts";
import { literal, typesSchema, values } from "./values.ts";

/** No order that an index could use, or (the last) values that fit into no index. */
const keyless =
  /^(json|jsonpath|xml|point|box|circle|path|line|lseg|polygon|xid|cid|aclitem|pg_snapshot|txid_snapshot|int2vector|refcursor|json\[\]|box\[\])$/;
const types = Object.keys(values).filter((type) => values[type]!.length > 0 && !keyless.test(type));

/** What fits into a page of an index. */
function keysOf(type: string): string[] {
  return values[type]!.filter((value) => value.length < 1_000);
}

let world: Running;
let client: Client;
let postgres: pg.Client;

/** A key of the type alone, by turns with one that it is a part of. */
function tableOf(type: string, i: number): string {
  const keys = keysOf(type).map((key) => `(${literal(key, type)})`);
  const key = i % 2 === 0 ? "k" : "n, k";
  return `create table k${i} (v text, k ${type}, n int default 1, primary key (${key}));
    insert into k${i} (k, v) select k, 'loaded' from (values ${keys.join(", ")}) x (k) on conflict do nothing`;
}

before(async () => {
  world = await running({}, `${typesSchema}; create table all_types (id int); ${types.map(tableOf).join(";")}`);
  postgres = new pg.Client({ connectionString: world.db.url, options: "-c search_path=pg_catalog" });
  await postgres.connect();
  client = createClient({ url: world.engine.url, replica: await emptyReplica() });
});
after(async () => {
  await client.close();
  await client.pglite.close();
  await postgres.end();
  await world.close();
});

async function commit(...statements: string[]): Promise<void> {
  await client.awaitPosition({ xid: await world.transaction(...statements) });
}

async function assertSame(table: string, columns: string): Promise<void> {
  const query = `select ${columns} from public.${table}`;
  const { rows } = await postgres.query<object>(query);
  const texts = (list: readonly object[]): string[] => list.map((row) => JSON.stringify(row)).sort();
  assert.deepEqual(texts(await client.query(query)), texts(rows), table);
}

test(`each of ${types.length} types can be a key or a part of one: loaded, kept, deleted, inserted again, moved`, async () => {
  const shapes = types.map((_, i) => client.sync({ table: `k${i}` }));
  await Promise.all(shapes.map((shape) => shape.ready));
  const each = (statement: (i: number, key: (n: number) => string) => string): string[] =>
    types.map((type, i) => statement(i, (n) => literal(keysOf(type).at(n), type)));
  const is = (key: string): string => `format('%L', k) = format('%L', ${key})`;
  await commit(...each((i) => `update k${i} set v = 'changed'`));
  await commit(...each((i, key) => `delete from k${i} where ${is(key(-1))}`));
  await commit(...each((i, key) => `insert into k${i} (k, v) values (${key(-1)}, 'again')`));
  await commit(
    ...each((i, key) => `delete from k${i} where not (${is(key(0))})`),
    ...each((i, key) => `update k${i} set k = ${key(-1)}, v = 'moved', n = 2`),
  );
  for (const [i, type] of types.entries())
    await assertSame(`k${i}`, `${quoteLiteral(type)} as type, format('%L', k) as k, v, n`);
  for (const shape of shapes) await shape.unsubscribe();
});

test("values that are equal and written otherwise move from one spelling to the other", async () => {
  await world.db.query(`create table spelt (n numeric, f float8, i interval, c citext, primary key (n, f, i, c));
    insert into spelt values (1.0, 0, '24:00', 'a'), (2.0, 0, '24:00', 'a')`);
  const all = client.sync({ table: "spelt" });
  const some = client.sync({ table: "spelt", where: "n < 2" });
  await Promise.all([all.ready, some.ready]);
  await commit("update spelt set n = 1.00, f = '-0', i = '1 day', c = 'A' where n = 1");
  await assertSame("spelt", "n::text, f::text, i::text, c::text");
  await commit("delete from spelt where n = 1");
  await assertSame("spelt", "n::text, f::text, i::text, c::text");
});

test("keys declared in another order, that look alike joined, shifted and swapped, end where Postgres has them", async () => {
  await world.db.query(`create table ordered (v text, b text, a text, primary key (a, b));
    insert into ordered values ('1', 'b/c', 'a'), ('2', 'c', 'a/b');
    create table shifted (id bigint primary key, code text unique deferrable initially deferred);
    alter table shifted add column other int;
    insert into shifted select n * 2 + 9007199254740993, n::text, n from generate_series(1, 2000) n`);
  const shapes = [
    client.sync({ table: "ordered" }),
    client.sync({ table: "shifted" }),
    client.sync({ table: "shifted", where: "id > $1", params: ["9007199254741993"] }),
  ];
  await Promise.all(shapes.map((shape) => shape.ready));
  await commit("delete from ordered where a = 'a'", "update ordered set b = 'b/c', a = 'a'");
  await assertSame("ordered", "a, b, v");
  await commit(
    "update shifted set id = -id",
    "update shifted set id = -id + 2",
    "update shifted s set code = o.code from shifted o where o.id = s.id + case when s.id % 4 = 1 then 2 else -2 end",
  );
  await assertSame("shifted", "id::text, code, other");
  for (const shape of shapes) await shape.unsubscribe();
});

test("an update of 100,000 rows that changes nothing moves the acknowledgement on", async () => {
  await world.db.query("create table idle as select n as id, n as v from generate_series(1, 100000) n");
  await world.db.query("alter table idle add primary key (id)");
  const shape = client.sync({ table: "idle", where: "id < 10" });
  await shape.ready;
  const { rows } = await world.db.query("select pg_current_wal_insert_lsn()::text as position");
  await commit("update idle set v = v");
  await assertSame("idle where id < 10", "id, v");
  const acknowledged = "select confirmed_flush_lsn > $1::pg_lsn as done from pg_replication_slots where slot_name = $2";
  while (!(await world.db.query(acknowledged, [rows[0].position, world.db.name])).rows[0].done)
    await commit("update idle set v = v where id = 1");
  await shape.unsubscribe();
});
