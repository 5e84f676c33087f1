/**
 * What decides whether a database can be streamed: one function per question, each asking Postgres itself. Nothing is
 * changed. https://www.postgresql.org/docs/current/logical-replication-config.html
 */
import { Client } from "pg";
import { queryConfig, replicationConfig } from "../changes/connection.ts";
import { requireOwnSession } from "../changes/pooler.ts";
import { keepingSlot, readSlot } from "../changes/slot.ts";
import { type Config, isLoopback } from "../config.ts";
import { WalcastError } from "../errors.ts";
import { quoteIdentifier } from "../shapes/name.ts";
import { publication, servedTables } from "./examine-tables.ts";
import { fail, type Finding, ok, oneRow, warn } from "./finding.ts";

/** Rejects with `database_unreachable` where there is nobody to ask. */
export async function examine(config: Config): Promise<Finding[]> {
  const client = new Client(queryConfig(config.databaseUrl, "walcast doctor"));
  client.on("error", () => undefined); // The query under way rejects with the same.
  try {
    await client.connect();
  } catch (cause) {
    throw new WalcastError("database_unreachable", `connect to Postgres: ${(cause as Error).message}`, {
      cause,
      hint: "check --database-url",
    });
  }
  try {
    const findings: Finding[] = [];
    for (const question of questions) findings.push(...(await question(client, config)));
    return findings;
  } finally {
    await client.end();
  }
}

type Question = (client: Client, config: Config) => Promise<readonly Finding[]>;

const questions: readonly Question[] = [
  version,
  primary,
  pooler,
  encryption,
  connections,
  walLevel,
  replicationRights,
  schemaRights,
  slotRoom,
  slotState,
  walRetention,
  idleTimeout,
  senderTimeout,
  eventTriggers,
  publication,
  servedTables,
];

async function version(client: Client): Promise<Finding[]> {
  const { server_version: text, number } = await oneRow<{ server_version: string; number: number }>(
    client,
    "select current_setting('server_version') server_version, current_setting('server_version_num')::int number",
  );
  const what = `Postgres ${text}`;
  if (number < 140_000) return [fail(what, "Walcast needs Postgres 14 or newer")];
  const fixed = stalePublicationFixed[Math.floor(number / 10_000)];
  if (fixed !== undefined && number % 10_000 < fixed)
    return [
      warn(
        what,
        "update to the newest minor version: in this one the stream can miss a table that has just joined the publication",
      ),
    ];
  return [ok(what)];
}

/** The first minor of each major in which a walsender notices every ALTER PUBLICATION. */
const stalePublicationFixed: Readonly<Record<number, number>> = { 14: 18, 15: 13, 16: 9, 17: 5 };

async function primary(client: Client): Promise<Finding[]> {
  const { standby } = await oneRow<{ standby: boolean }>(client, "select pg_is_in_recovery() standby");
  return standby ? [fail("this server is a standby", "connect to the primary")] : [];
}

async function pooler(client: Client, { databaseUrl }: Config): Promise<Finding[]> {
  try {
    await requireOwnSession(client, databaseUrl);
    return [ok("sessions are ours alone: no pooler shares them")];
  } catch (error) {
    if (!(error instanceof WalcastError)) throw error;
    return [fail(error.message, error.hint ?? "")];
  }
}

async function encryption(client: Client, { databaseUrl }: Config): Promise<Finding[]> {
  const { ssl } = await oneRow<{ ssl: boolean | null }>(
    client,
    "select (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as ssl",
  );
  if (ssl === true || isLoopback(new URL(databaseUrl).hostname)) return [];
  return [
    warn("the connection is not encrypted", "add sslmode=verify-full to the URL, or keep the network to yourself"),
  ];
}

/** For questions, the stream, the lock, what comes and goes; and one for each load at a time. */
const connectionsNeeded = 8;

async function connections(client: Client, { limits }: Config): Promise<Finding[]> {
  const { free } = await oneRow<{ free: number }>(
    client,
    "select current_setting('max_connections')::int - (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as free",
  );
  const needed = connectionsNeeded + limits.snapshots;
  if (free >= needed) return [];
  return [
    warn(
      `${free} connections are free, and the engine takes up to ${needed}`,
      "raise max_connections, or use fewer elsewhere",
    ),
  ];
}

async function walLevel(client: Client): Promise<Finding[]> {
  const { level } = await oneRow<{ level: string }>(client, "select current_setting('wal_level') level");
  if (level === "logical") return [ok("wal_level is logical")];
  return [
    fail(
      `wal_level is ${level}`,
      "run ALTER SYSTEM SET wal_level = logical and restart Postgres (on a hosted one: turn on logical replication)",
    ),
  ];
}

/** Hosted Postgres grants replication in ways of its own, so we do not look for a flag but try. */
async function replicationRights(_: Client, { databaseUrl }: Config): Promise<Finding[]> {
  const client = new Client({
    ...replicationConfig(databaseUrl, "walcast doctor"),
    replication: "database",
  } as ConstructorParameters<typeof Client>[0]);
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query("IDENTIFY_SYSTEM");
    return [ok("the role may replicate")];
  } catch (error) {
    return [
      fail(
        `a replication connection is refused: ${(error as Error).message}`,
        "run ALTER ROLE … REPLICATION, and allow it in pg_hba.conf",
      ),
    ];
  } finally {
    await client.end();
  }
}

async function schemaRights(client: Client, { publication }: Config): Promise<Finding[]> {
  const sql = `select current_user::text as role, current_database()::text as database, has_database_privilege(current_database(), 'CREATE') as may,
    exists (select from pg_namespace where nspname = 'walcast') as schema, exists (select from pg_publication where pubname = $1) as publication`;
  const row = await oneRow<{ role: string; database: string; may: boolean; schema: boolean; publication: boolean }>(
    client,
    sql,
    [publication],
  );
  if (row.may) return [ok("the role may make Walcast's schema and publication")];
  const mend = `run GRANT CREATE ON DATABASE ${quoteIdentifier(row.database)} TO ${quoteIdentifier(row.role)}`;
  if (row.schema && row.publication)
    return [
      warn(
        "the role may not create in this database, so updates of Walcast's schema need another role",
        `run walcast migrate as that one, or ${mend}`,
      ),
    ];
  return [fail("the role may not make Walcast's schema and publication", mend)];
}

async function slotRoom(client: Client, { slot }: Config): Promise<Finding[]> {
  const sql = `select current_setting('max_replication_slots')::int slots, current_setting('max_wal_senders')::int senders,
    (select count(*)::int from pg_replication_slots where slot_name <> $1) used_slots, (select count(*)::int from pg_stat_replication) used_senders`;
  const row = await oneRow<{ slots: number; senders: number; used_slots: number; used_senders: number }>(client, sql, [
    slot,
  ]);
  const findings: Finding[] = [];
  if (row.used_slots >= row.slots)
    findings.push(
      fail(
        `all ${row.slots} replication slots are taken`,
        "drop one that nobody uses, or raise max_replication_slots and restart",
      ),
    );
  if (row.used_senders >= row.senders)
    findings.push(fail(`all ${row.senders} WAL senders are taken`, "raise max_wal_senders and restart"));
  return findings;
}

interface SlotRow {
  readonly plugin: string;
  readonly database: string;
  readonly here: boolean;
  readonly active: boolean;
  readonly wal_status: string;
  readonly retained: string;
}

async function slotState(client: Client, { slot }: Config): Promise<Finding[]> {
  const sql = `select plugin::text, database::text, database = current_database() as here, active, wal_status,
    pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) as retained from pg_replication_slots where slot_name = $1`;
  const { rows } = await client.query<SlotRow>(sql, [slot]);
  const row = rows[0];
  if (!row) return [ok(`the slot ${slot} will be made at the first start`)];
  if (row.plugin !== "pgoutput" || !row.here)
    return [fail(`the slot ${slot} belongs to ${row.plugin} in ${row.database}`, "choose another with --slot")];
  const invalid = (await readSlot(client, slot))?.invalid ?? null;
  if (invalid !== null)
    return [
      warn(
        `Postgres has given up the slot ${slot} (${invalid})`,
        `the next start makes it anew and clients load again; ${keepingSlot(invalid)}`,
      ),
    ];
  const what = `the slot ${slot} is ${row.active ? "in use" : "idle"} and keeps ${row.retained} of WAL`;
  return [
    row.wal_status === "unreserved"
      ? warn(what, "start the engine soon: Postgres is about to drop WAL it needs")
      : ok(what),
  ];
}

async function walRetention(client: Client): Promise<Finding[]> {
  const { size } = await oneRow<{ size: string }>(client, "select current_setting('max_slot_wal_keep_size') size");
  if (size !== "-1") return [ok(`a stopped engine makes Postgres keep at most ${size} of WAL`)];
  return [
    warn(
      "a stopped engine makes Postgres keep WAL until the disk is full",
      "set max_slot_wal_keep_size, to about half of what is free",
    ),
  ];
}

/** From PostgreSQL 18 on. */
async function idleTimeout(client: Client): Promise<Finding[]> {
  const sql = "select current_setting('idle_replication_slot_timeout', true) as timeout";
  const { timeout } = await oneRow<{ timeout: string | null }>(client, sql);
  if (timeout === null || timeout === "0") return [];
  return [
    warn(
      `the slot of an engine that is stopped for longer than ${timeout} is given up, and clients load again`,
      "set idle_replication_slot_timeout to 0, or to longer than any stop",
    ),
  ];
}

async function senderTimeout(client: Client): Promise<Finding[]> {
  const { ms } = await oneRow<{ ms: string }>(
    client,
    "select setting ms from pg_settings where name = 'wal_sender_timeout'",
  );
  return ms === "0"
    ? [warn("wal_sender_timeout is 0: Postgres never notices an engine that is gone", "set it to 60s")]
    : [];
}

async function eventTriggers(client: Client): Promise<Finding[]> {
  const { there, may } = await oneRow<{ there: boolean; may: boolean }>(
    client,
    "select exists (select from pg_event_trigger where evtname = 'walcast_schema_change') as there, (select rolsuper from pg_roles where rolname = current_user) as may",
  );
  if (there || may) return [];
  return [
    warn(
      "the role may not make event triggers, so schema changes are looked for every few seconds",
      "run walcast start once as a role that may, if sooner matters",
    ),
  ];
}
