/**
 * Brings a database to where it can be streamed: Walcast's own schema, the publication, the permanent slot. Everything
 * here may run beside another engine doing the same, and again at every start.
 */
import { randomUUID } from "node:crypto";
import { Kysely, PostgresDialect } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import pg from "pg";
import type { Logger } from "pino";
import * as first from "../../migrations/0001_walcast.ts";
import { WalcastError } from "../errors.ts";
import { quoteIdentifier } from "../shapes/name.ts";
import { queryConfig } from "./connection.ts";

const migrations: Readonly<Record<string, Migration>> = { "0001_walcast": first };

// One number for every engine on a database; "walcast" in ASCII, cut to what a bigint holds.
const setupLock = "8602801106394936";

export interface SetupOptions {
  readonly databaseUrl: string;
  readonly publication: string;
  readonly slot: string;
  readonly log: Logger;
}

export interface Prepared {
  /** The slot was made just now: transactions older than it were never streamed. */
  readonly slotIsNew: boolean;
  /** Without event triggers the engine learns of a schema change only when the next row of the table comes. */
  readonly eventTriggers: boolean;
}

export async function prepareDatabase(options: SetupOptions): Promise<Prepared> {
  const client = await connect(options.databaseUrl);
  try {
    await requireLogicalWal(client);
    await client.query("select pg_advisory_lock($1)", [setupLock]);
    await migrate(options.databaseUrl);
    const eventTriggers = await ensureEventTriggers(client, options.log);
    await ensurePublication(client, options.publication);
    const slotIsNew = await ensureSlot(client, options);
    return { slotIsNew, eventTriggers };
  } finally {
    await client.end();
  }
}

async function connect(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client(queryConfig(databaseUrl, "walcast setup"));
  client.on("error", () => {}); // The query that is under way rejects with the same error.
  try {
    await client.connect();
    return client;
  } catch (cause) {
    const { message } = cause as Error;
    throw new WalcastError("database_unreachable", `connect to Postgres: ${message || String(cause)}`, {
      cause,
      hint: "check that Postgres runs and that --database-url (or WALCAST_DATABASE_URL) points at it",
    });
  }
}

async function requireLogicalWal(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ wal_level: string }>("show wal_level");
  const level = rows[0]?.wal_level;
  if (level !== "logical") {
    throw new WalcastError("database_unsuitable", `start replication: expected wal_level = logical, found ${level}`, {
      hint: "run `ALTER SYSTEM SET wal_level = logical` and restart Postgres",
    });
  }
}

/** Applies what is missing of migrations/. The caller holds the setup lock. */
export async function migrate(databaseUrl: string): Promise<void> {
  const db = new Kysely<unknown>({
    dialect: new PostgresDialect({ pool: new pg.Pool({ ...queryConfig(databaseUrl, "walcast migrate"), max: 1 }) }),
  });
  try {
    const migrator = new Migrator({
      db,
      provider: { getMigrations: async () => migrations },
      migrationTableSchema: "walcast",
    });
    const { error } = await migrator.migrateToLatest();
    if (error !== undefined)
      throw new WalcastError(
        "database_unsuitable",
        `apply the migrations: ${error instanceof Error ? error.message : JSON.stringify(error)}`,
        { cause: error, hint: "the role needs CREATE on the database" },
      );
  } finally {
    await db.destroy();
  }
}

const eventTriggers = {
  walcast_schema_change: "on ddl_command_end when tag in ('ALTER TABLE') execute function walcast.note_schema_change()",
  walcast_type_change:
    "on ddl_command_end when tag in ('ALTER TYPE', 'ALTER DOMAIN', 'ALTER SCHEMA') execute function walcast.note_type_change()",
  walcast_rewrite: "on table_rewrite execute function walcast.note_rewrite()",
  walcast_drop: "on sql_drop execute function walcast.note_drop()",
};

const insufficientPrivilege = "42501";

async function ensureEventTriggers(client: pg.Client, log: Logger): Promise<boolean> {
  const { rows } = await client.query<{ evtname: string }>("select evtname from pg_event_trigger");
  const present = new Set(rows.map((row) => row.evtname));
  try {
    for (const [name, rest] of Object.entries(eventTriggers))
      if (!present.has(name)) await client.query(`create event trigger ${name} ${rest}`);
    return true;
  } catch (error) {
    if ((error as pg.DatabaseError).code !== insufficientPrivilege) throw error;
    log.warn(
      "event triggers are not permitted to this role: schema changes are looked for in the catalog every few seconds",
    );
    return false;
  }
}

/** DDL notes travel in the publication like rows of any table; tables join it when somebody first asks for them. */
async function ensurePublication(client: pg.Client, publication: string): Promise<void> {
  const { rowCount } = await client.query("select from pg_publication where pubname = $1", [publication]);
  if (rowCount === 0)
    await client.query(`create publication ${quoteIdentifier(publication)} for table walcast.schema_changes`);
}

// A slot waits for every transaction that is open when it is made. Rather than hang for ever, say who holds it up.
const slotTimeoutMs = 30_000;

async function ensureSlot(client: pg.Client, { slot, log }: SetupOptions): Promise<boolean> {
  const { rows } = await client.query<{ plugin: string | null; database: string | null; here: boolean | null }>(
    "select plugin, database, database = current_database() as here from pg_replication_slots where slot_name = $1",
    [slot],
  );
  if (rows[0]) {
    requireOurs(slot, rows[0]);
    return false;
  }
  await client.query("delete from walcast.ready_tables where slot_name = $1", [slot]);
  await createSlot(client, slot, log);
  return true;
}

function requireOurs(
  slot: string,
  found: { plugin: string | null; database: string | null; here: boolean | null },
): void {
  if (found.plugin === "pgoutput" && found.here) return;
  throw new WalcastError(
    "database_unsuitable",
    `use the replication slot ${slot}: expected one of pgoutput in this database, found ${found.plugin === null ? "a physical one" : `one of ${found.plugin} in ${found.database}`}`,
    { hint: "set another `slot` in the config: slot names are shared by all databases of a server" },
  );
}

async function createSlot(client: pg.Client, slot: string, log: Logger): Promise<void> {
  const name = `walcast_setup_${randomUUID()}`;
  await client.query("select set_config('application_name', $1, false), set_config('statement_timeout', $2, false)", [
    name,
    String(slotTimeoutMs),
  ]);
  try {
    await client.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [slot]);
  } catch (cause) {
    throw new WalcastError(
      "database_unsuitable",
      `create the replication slot ${slot}: ${(cause as Error).message}; open transactions: ${await openTransactions(client)}`,
      { cause, hint: "end the transactions that it waits for, or raise max_replication_slots" },
    );
  } finally {
    await client.query("set statement_timeout = 0");
  }
  log.info({ slot }, "replication slot created");
}

async function openTransactions(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ pid: number; age: string }>(
    "select pid, (clock_timestamp() - xact_start)::text as age from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid() order by xact_start limit 5",
  );
  return rows.map((row) => `pid ${row.pid} since ${row.age}`).join(", ") || "none seen";
}
