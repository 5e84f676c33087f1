/**
 * Brings a database to where it can be streamed: Walcast's own schema, the publication, the permanent slot. Everything
 * here may run beside another engine doing the same, and again at every start.
 */
import { Kysely, PostgresDialect, type PostgresPool } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import type pg from "pg";
import type { Logger } from "pino";
import * as first from "../../migrations/0001_walcast.ts";
import * as second from "../../migrations/0002_descriptions.ts";
import * as third from "../../migrations/0003_messages.ts";
import { WalcastError } from "../errors.ts";
import { quoteIdentifier } from "../shapes/name.ts";
import { queryConfig, withConnection } from "./connection.ts";
import { ensureEventTriggers } from "./event-triggers.ts";
import { ensureSlot } from "./slot.ts";

const migrations: Readonly<Record<string, Migration>> = {
  "0001_walcast": first,
  "0002_descriptions": second,
  "0003_messages": third,
};

// One number for every engine on a database; "walcast" in ASCII, cut to what a bigint holds.
const setupLock = "8602801106394936";

export interface SetupOptions {
  readonly databaseUrl: string;
  readonly publication: string;
  readonly slot: string;
  /** How long the making of a slot may wait for the transactions that are open; 30 s by default. */
  readonly slotPatienceMs?: number;
  readonly log: Logger;
}

const slotPatienceMsDefault = 30_000;

export interface Prepared {
  /** The slot was made just now: transactions older than it were never streamed. */
  readonly slotIsNew: boolean;
  /** Without event triggers the engine learns of a schema change only when the next row of the table comes. */
  readonly eventTriggers: boolean;
  /** Of messages that `walcast.publish` and `walcast.revalidate` emitted; others' cannot have it. */
  readonly messagePrefix: string;
}

export function prepareDatabase(options: SetupOptions, signal?: AbortSignal): Promise<Prepared> {
  return withConnection(queryConfig(options.databaseUrl, "walcast setup"), signal, async (client) => {
    await requireLogicalWal(client);
    await client.query("select pg_advisory_lock($1)", [setupLock]);
    await applyMigrations(client);
    const eventTriggers = await ensureEventTriggers(client, options.log);
    await ensurePublication(client, options.publication);
    const { slot, slotPatienceMs = slotPatienceMsDefault, log } = options;
    const slotIsNew = await ensureSlot(client, slot, slotPatienceMs, log);
    return { slotIsNew, eventTriggers, messagePrefix: await readMessagePrefix(client) };
  });
}

async function readMessagePrefix(client: pg.Client): Promise<string> {
  const query = "select value from walcast.secrets where name = 'messages'";
  const { rows } = await client.query<{ value: string }>(query);
  return third.messagePrefix + rows[0]!.value;
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

/** Brings Walcast's own schema up to date. */
export function migrate(databaseUrl: string): Promise<void> {
  return withConnection(queryConfig(databaseUrl, "walcast migrate"), undefined, applyMigrations);
}

async function applyMigrations(client: pg.Client): Promise<void> {
  const session = Object.assign(client, { release: () => {} });
  const pool: PostgresPool = { connect: async () => session, end: async () => {}, options: {} };
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
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

/** DDL notes travel in the publication like rows of any table; tables join it when somebody first asks for them. */
export async function ensurePublication(client: Pick<pg.Client, "query">, publication: string): Promise<void> {
  const { rows } = await client.query<{ complete: boolean }>(
    `select puballtables or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = 'walcast.schema_changes'::regclass) as complete
     from pg_publication p where pubname = $1`,
    [publication],
  );
  const name = quoteIdentifier(publication);
  if (!rows[0]) await client.query(`create publication ${name} for table walcast.schema_changes`);
  else if (!rows[0].complete) await client.query(`alter publication ${name} add table walcast.schema_changes`);
  await publishGenerated(client, publication);
}

/** From PostgreSQL 18 on nobody could update a table with REPLICA IDENTITY FULL whose generated columns are not published. */
async function publishGenerated(client: Pick<pg.Client, "query">, publication: string): Promise<void> {
  const { rowCount } = await client.query(
    "select from pg_publication p where pubname = $1 and to_jsonb(p) ->> 'pubgencols' <> 's'",
    [publication],
  );
  if (rowCount)
    await client.query(`alter publication ${quoteIdentifier(publication)} set (publish_generated_columns = stored)`);
}
