/**
 * A value has one text everywhere: in Postgres, in the rows of a snapshot, in the stream, and on the replica. Every type,
 * with the values that something on the way might change: by COPY, by INSERT, by UPDATE, in one row and in many.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import { type Client, createClient, type Shape } from "../../client-sdk/index.ts";
import { type Running, running } from "../sockets/running.ts";
import { emptyReplica } from "../support/replica.ts";
import { literal, typesSchema, values } from "./values.ts";

const types = Object.keys(values).filter((type) => values[type]!.length > 0);
const columns = types.map((type, i) => `c${i} ${type}`).join(", ");
const names = types.map((_, i) => `c${i}`).join(", ");
const set = types.map((_, i) => `c${i} = n.c${i}`).join(", ");
const rowCount = Math.max(...types.map((type) => values[type]!.length));

let world: Running;
let client: Client;
let shape: Shape;
let postgres: pg.Client;

before(async () => {
  world = await running(
    {},
    `${typesSchema}; create table all_types (id int primary key, ${columns}); insert into all_types ${rows(0, 0)}`,
  );
  // What regclass and its like print depends on what is visible without its schema.
  postgres = new pg.Client({ connectionString: world.db.url, options: "-c search_path=pg_catalog" });
  await postgres.connect();
  client = createClient({ url: world.engine.url, replica: await emptyReplica() });
  shape = client.sync({ table: "all_types" });
  await shape.ready;
});
after(async () => {
  await client.close();
  await client.pglite.close();
  await postgres.end();
  await world.close();
});

/** Rows whose columns each go through all the values of their type, `turn` values ahead. The last row is NULLs. */
function rows(from: number, turn: number): string {
  const list = Array.from({ length: rowCount }, (_, i) =>
    types.map((type) => literal(values[type]![(i + turn) % values[type]!.length], type)),
  );
  const all = [...list, types.map((type) => literal(undefined, type))];
  return `values ${all.map((row, i) => `(${from + i}, ${row.join(", ")})`).join(", ")}`;
}

/** Both what the type's output function says (format) and what the cast to text makes of that. */
const texts = types.map((_, i) => `format('%L', c${i}) as f${i}, c${i}::text as t${i}`).join(", ");

async function assertSame(): Promise<void> {
  const query = `select id, ${texts} from public.all_types order by id`;
  const expected = await postgres.query(query);
  const found = await client.query(query);
  assert.equal(found.length, expected.rows.length);
  found.forEach((row, i) => {
    for (const [name, value] of Object.entries(expected.rows[i] as Record<string, unknown>))
      assert.equal(row[name], value, `${types[Number(name.slice(1))] ?? name} in row ${i}`);
  });
}

async function commit(...statements: string[]): Promise<void> {
  await client.awaitPosition({ xid: await world.transaction(...statements) });
}

test("what COPY brought reads on the replica as it does in Postgres", assertSame);

test("what INSERT brought reads on the replica as it does in Postgres, many rows a transaction and one", async () => {
  await commit(`insert into all_types ${rows(1_000, 1)}`);
  for (let i = 0; i < rowCount; i++)
    await commit(`insert into all_types select ${2_000 + i}, ${names} from all_types where id = ${i}`);
  await assertSame();
});

test("what UPDATE brought reads on the replica as it does in Postgres, many rows a transaction and one", async () => {
  const change = (turn: number): string =>
    `update all_types t set ${set} from (${rows(0, turn)}) n (id, ${names}) where n.id = t.id`;
  await commit(change(2));
  for (let i = 0; i < rowCount; i++) await commit(`${change(3)} and n.id = ${i}`);
  await assertSame();
});

test("an event has the values that a query gives, with a replica and without", async () => {
  const bare = createClient({ url: world.engine.url });
  const told = [client, bare].map((one) => {
    const rows: object[] = [];
    return {
      rows,
      channel: one
        .channel("all_types")
        .on("INSERT", ({ row }) => rows.push(row!))
        .subscribe(),
    };
  });
  try {
    await Promise.all(told.map(({ channel }) => channel.ready));
    const xid = await world.transaction(`insert into all_types ${rows(5_000, 4)}`);
    await Promise.all([client, bare].map((one) => one.awaitPosition({ xid })));
    const expected = await client.query("select * from public.all_types where id >= 5000 order by id");
    assert.equal(expected.length, rowCount + 1);
    for (const { rows: found } of told)
      found.forEach((row, i) => {
        for (const [name, value] of Object.entries(row))
          assert.deepEqual(value, expected[i]![name], `${types[Number(name.slice(1))] ?? name} in row ${i}`);
      });
    assert.deepEqual(
      told.map((one) => one.rows.length),
      [expected.length, expected.length],
    );
  } finally {
    await Promise.all([bare.close(), told[0]!.channel.unsubscribe()]);
  }
});

test("what a shape says of its columns is how they are on the replica, and why some are text", async () => {
  const { columns } = await shape.describe();
  const names = columns.map(({ name }) => name);
  const local = columns.map(({ localType }) => localType);
  const differing = await client.query(
    `SELECT name, type FROM unnest($1::text[], $2::text[]) u(name, type)
      JOIN pg_attribute a ON a.attrelid = 'public.all_types'::regclass AND a.attname = u.name WHERE a.atttypid <> u.type::regtype`,
    [names, local],
  );
  assert.deepEqual(differing, []);
  assert.equal(columns.length, types.length + 1);
  for (const { type, localType, reason } of columns) assert.equal(reason === undefined, type === localType, type);
  const textual = columns.filter(({ reason }) => reason !== undefined).map(({ type }) => type);
  assert.ok(textual.includes("regclass"), textual.join());
});
