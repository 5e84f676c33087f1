/**
 * What an old row carries decides what can be synced: each replica identity with each kind of key. Where a shape is served,
 * an update that leaves a large value out of line (it does not travel then) changes nothing of it, whatever else it changes.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Client, createClient } from "../../client-sdk/index.ts";
import type { TableRule } from "../../engine/config.ts";
import { type Running, running } from "../sockets/running.ts";
import { emptyReplica } from "../support/replica.ts";

const keys = { "a primary key": "primary key", "a unique index": "not null unique", "no key": "not null" };
const identities = ["default", "full", "nothing", "using index %_code"];

interface Case {
  readonly table: string;
  readonly key: keyof typeof keys;
  readonly identity: string;
}

/** `code` has the unique index that a replica identity may use; `id` is what the key is about. */
const cases: Case[] = Object.keys(keys).flatMap((key, k) =>
  identities.map((identity, i) => ({ table: `t${k}${i}`, key: key as keyof typeof keys, identity })),
);

function create({ table, key, identity }: Case): string {
  return `create table ${table} (id int ${keys[key]}, code text not null, small text, large text, unused int);
    create unique index ${table}_code on ${table} (code);
    alter table ${table} alter large set storage external, replica identity ${identity.replace("%", table)};
    insert into ${table} select n, 'c' || n, 's' || n, repeat('x' || n, 4000) from generate_series(1, 6) n`;
}

/** By key and identity: which predicates are served; undefined where nothing is. */
const served: Readonly<Record<string, readonly string[]>> = {
  "a primary key, default": ["true", "id < 4"],
  "a primary key, full": ["true", "id < 4", "code < 'c4' collate \"C\"", "small <> 's4'", "large < 'x3' collate \"C\""],
  "a unique index, full": [],
  "no key, full": [],
  "a unique index, using index %_code": ["true", "code < 'c4' collate \"C\""],
  "no key, using index %_code": ["true", "code < 'c4' collate \"C\""],
};
const predicates = served["a primary key, full"]!;
const codes = new Set(["replica_identity_missing", "table_without_key"]);

let world: Running;
let client: Client;

before(async () => {
  const rule: TableRule = { read: true, replicaIdentity: "keep" };
  const tables = Object.fromEntries(cases.map(({ table }) => [table, rule]));
  world = await running({ tables }, cases.map(create).join(";"));
  client = createClient({ url: world.engine.url, replica: await emptyReplica() });
});
after(async () => {
  await client.close();
  await client.pglite.close();
  await world.close();
});

for (const one of cases) {
  const { table, key, identity } = one;
  const allowed = served[`${key}, ${identity}`] ?? [];
  test(`${key}, replica identity ${identity}: ${allowed.length} of ${predicates.length} predicates are served, the rest refused with the mend`, async () => {
    for (const where of predicates) {
      const shape = client.sync({ table, where });
      if (!allowed.includes(where))
        await assert.rejects(
          shape.ready,
          (error: { code: string; hint?: string }) => codes.has(error.code) && /ALTER TABLE/.test(error.hint ?? ""),
          where,
        );
      else {
        await shape.ready;
        await assertKept(table, where);
      }
      await shape.unsubscribe();
    }
  });
}

/** Updates that do not touch the large value: of the key, of what the predicate reads, of neither, and of both at once. */
async function assertKept(table: string, where: string): Promise<void> {
  const changes = [
    "unused = 1",
    "id = id + 10 where id in (1, 5)",
    "small = 's4' where small in ('s1', 's2')",
    "code = 'd' || code where code = 'c3'",
    "id = id - 10 where id > 10",
    "id = 7 - id",
    "code = code || '0', small = 's9', id = -id",
    "large = 'x1 short', id = -id where small = 's9'",
  ];
  for (const change of changes) {
    // All keys change places in one statement: a constraint that is checked row by row would not have it.
    const moves =
      change === "id = 7 - id" ? [`update ${table} set id = id + 100`, `update ${table} set id = 107 - id`] : [];
    const statements = moves.length > 0 ? moves : [`update ${table} set ${change}`];
    await client.awaitPosition({ xid: await world.transaction(...statements) });
    const query = `select id, code, small, md5(large) as large, unused from ${table}`;
    const { rows } = await world.db.query(`${query} where ${where} order by code collate "C"`);
    assert.deepEqual(await client.query(`${query} order by code collate "C"`), rows, `${where}: ${change}`);
  }
  await client.awaitPosition({
    xid: await world.transaction(
      `delete from ${table}`,
      `insert into ${table} select n, 'c' || n, 's' || n, repeat('x' || n, 4000) from generate_series(1, 6) n`,
    ),
  });
}
