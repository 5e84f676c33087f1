/**
 * Makes pgoutput.json: what a real Postgres says for each kind of message, and what its catalog says about the same
 * tables and transactions, so that the decoder is held against Postgres and not against our idea of it.
 *
 *     node --conditions=@walcast/source tests/changes/capture-pgoutput.ts && npm run format
 */
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { startPostgres } from "../../engine/embedded/postgres.ts";

export interface Capture {
  readonly postgres: string;
  readonly tables: readonly CapturedTable[];
  readonly scenarios: readonly Scenario[];
}

/** As the catalog has it. */
export interface CapturedTable {
  readonly oid: number;
  readonly name: string;
  readonly replicaIdentity: string;
  readonly columns: readonly { readonly name: string; readonly typeOid: number; readonly typmod: number }[];
}

export interface Scenario {
  readonly name: string;
  readonly sql: readonly string[];
  readonly messages: readonly CapturedMessage[];
  /** The same, as protocol 2 has it where Postgres sends every change at once, in hex. */
  readonly streamed: readonly string[];
}

export interface CapturedMessage {
  /** The position and the transaction that Postgres says the message has; a commit's is its end. */
  readonly lsn: string;
  readonly xid: number;
  /** begin, commit: when the transaction was committed, in microseconds since 2000-01-01. */
  readonly commitTime: string | null;
  readonly hex: string;
}

const wideColumns = Array.from({ length: 40 }, (_, index) => `c${index} int`).join(", ");

const tables = `
  create type mood as enum ('calm', 'busy');
  create table by_key (id bigint primary key, status text, amount numeric(12,2), note text);
  create table by_row (id bigint primary key, status text, amount numeric(12,2), note text);
  create table by_index (id bigint primary key, code text not null, note text);
  create unique index by_index_code on by_index (code);
  create table by_nothing (id bigint primary key, note text);
  create table no_columns ();
  create table wide (${wideColumns});
  create table typed (id uuid primary key, feeling mood, at timestamptz, tags text[]);
  create table "My ""Schéma""" (id int primary key, "a""b" text, "😀" text);
  create table orders (id int primary key, customer_id int not null, status text not null, amount numeric(10,2) not null);
  alter table by_row replica identity full;
  alter table by_index replica identity using index by_index_code;
  alter table by_nothing replica identity nothing;
  alter table orders replica identity full;
  alter table by_key alter note set storage external;
  alter table by_row alter note set storage external;
  create publication captured for all tables;
`;

// Long enough to be stored out of line, where an update that leaves it alone does not bring it along.
const toasted = "repeat('x', 2500)";

const scenarios: Readonly<Record<string, readonly string[]>> = {
  insert: [
    `insert into by_key values (1, 'new', 12.50, null), (2, '', -0.01, 'naïve ☃ 😀'), (3, null, 'NaN', ${toasted})`,
  ],
  "insert into a table of no columns": ["insert into no_columns default values"],
  "insert into a wide table": ["insert into wide (c0, c17, c39) values (0, 17, 39)"],
  "insert under replica identity nothing": ["insert into by_nothing values (1, 'n')"],
  "insert of user-defined types": [
    "insert into typed values ('00000000-0000-0000-0000-000000000001', 'busy', '2024-02-29 12:00:00.123456+00', '{a,NULL,\"b c\"}')",
  ],
  "insert into a table with an awkward name": [`insert into "My ""Schéma""" values (1, 'a', 'b')`],
  "update that leaves the key alone": ["update by_key set status = 'paid' where id = 1"],
  "update of the key": ["update by_key set id = 10 where id = 1"],
  "update that leaves a toasted value alone": ["update by_key set status = 'seen' where id = 3"],
  "update under replica identity full": [
    `insert into by_row values (1, null, 1.00, ${toasted})`,
    "update by_row set status = 'paid' where id = 1",
  ],
  "update of the identity index": [
    "insert into by_index values (1, 'a', 'n')",
    "update by_index set code = 'b' where id = 1",
  ],
  "delete by key": ["delete from by_key where id = 10"],
  "delete by index": ["delete from by_index where id = 1"],
  "delete under replica identity full": ["delete from by_row where id = 1"],
  truncate: ["truncate by_key"],
  "truncate of two tables with options": ["truncate by_key, by_row restart identity cascade"],
  "logical message": [
    "select pg_logical_emit_message(true, 'walcast', 'hé'), pg_logical_emit_message(true, '', ''::bytea), pg_logical_emit_message(true, 'bytes', '\\x00ff00'::bytea)",
  ],
  "logical message outside its transaction": [
    "begin; select pg_logical_emit_message(false, 'walcast', 'at once', true); rollback",
  ],
  "transaction from elsewhere": [
    `begin; select pg_replication_origin_session_setup('elsewhere'), pg_replication_origin_xact_setup('A/1234ABCD', now());
     insert into by_nothing values (2, 'o'); commit; select pg_replication_origin_session_reset()`,
  ],
  "savepoints rolled back": [
    `begin; insert into by_key values (20, 'kept', 1, null);
     savepoint a; insert into by_key values (21, 'gone', 1, null);
     savepoint b; insert into by_row values (22, 'gone', 1, null); release b;
     rollback to a; insert into by_key values (23, 'kept', 1, null);
     savepoint c; insert into by_key values (24, 'kept', 1, null); release c;
     commit`,
  ],
  "a table altered in a savepoint that is rolled back": [
    `begin; insert into by_index values (30, 'before', 'n');
     savepoint a; alter table by_index add extra int; insert into by_index values (31, 'gone', 'n', 1); rollback to a;
     insert into by_index values (32, 'after', 'n');
     commit`,
  ],
  "a transaction rolled back": ["begin; insert into by_key values (40, 'gone', 1, null); rollback"],
  // What bench/decode.ts repeats: the shape of a busy table's day.
  orders: [
    `begin;
     insert into orders select 100000 + i, 1 + i % 900, 'pending', 10 + i * 1.37 from generate_series(1, 4) i;
     update orders set status = 'paid' where id > 100000;
     update orders set status = 'shipped', amount = amount + 4.5 where id > 100002;
     delete from orders where id = 100001;
     commit`,
  ],
};

const port = 20_000 + Math.floor(Math.random() * 10_000);
const dataDir = await mkdtemp(join(tmpdir(), "walcast-capture-"));
await chmod(dataDir, 0o755);
const postgres = await startPostgres({ dataDir, port, flags: { track_commit_timestamp: "on", autovacuum: "off" } });
const client = new Client({ connectionString: postgres.url });
try {
  await client.connect();
  await writeFile(join(import.meta.dirname, "pgoutput.json"), `${JSON.stringify(await capture(), null, 2)}\n`);
} finally {
  await client.end();
  await postgres.stop();
  await rm(dataDir, { recursive: true, force: true });
}

async function capture(): Promise<Capture> {
  await client.query(tables);
  await client.query(
    `select pg_create_logical_replication_slot('captured', 'pgoutput'), pg_create_logical_replication_slot('streamed', 'pgoutput'),
      pg_replication_origin_create('elsewhere'), set_config('debug_logical_replication_streaming', 'immediate', false)`,
  );
  const captured: Scenario[] = [];
  for (const [name, sql] of Object.entries(scenarios)) {
    for (const statement of sql) await client.query(statement);
    captured.push({ name, sql, messages: await messages(), streamed: await streamed() });
  }
  const { rows } = await client.query<{ server_version: string }>("show server_version");
  return { postgres: rows[0]!.server_version, tables: await catalog(), scenarios: captured };
}

async function messages(): Promise<CapturedMessage[]> {
  const { rows } = await client.query<CapturedMessage>(`
    select lsn::text, xid::text::bigint::int as xid, encode(data, 'hex') as hex,
      case when get_byte(data, 0) in (66, 67)
        then (extract(epoch from pg_xact_commit_timestamp(xid) - '2000-01-01Z') * 1e6)::bigint::text end as "commitTime"
    from pg_logical_slot_get_binary_changes('captured', null, null, 'proto_version', '1', 'publication_names', 'captured', 'messages', 'true')`);
  return rows;
}

async function streamed(): Promise<string[]> {
  const { rows } = await client.query<{ hex: string }>(`
    select encode(data, 'hex') as hex
    from pg_logical_slot_get_binary_changes('streamed', null, null, 'proto_version', '2', 'streaming', 'on', 'publication_names', 'captured', 'messages', 'true')`);
  return rows.map(({ hex }) => hex);
}

async function catalog(): Promise<CapturedTable[]> {
  const { rows } = await client.query<CapturedTable>(`
    select c.oid::int, relname as name, relreplident as "replicaIdentity",
      coalesce(json_agg(json_build_object('name', attname, 'typeOid', atttypid::int, 'typmod', atttypmod) order by attnum) filter (where attnum > 0), '[]') as columns
    from pg_class c left join pg_attribute on attrelid = c.oid and attnum > 0
    where relkind = 'r' and relnamespace = 'public'::regnamespace group by c.oid order by relname`);
  return rows;
}
