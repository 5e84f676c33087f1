/**
 * What decides whether a database can be streamed: one function per question, each asking Postgres itself. Nothing is
 * changed. https://www.postgresql.org/docs/current/logical-replication-config.html
 */
import { Client } from "pg";
import { queryConfig, replicationConfig } from "../changes/connection.ts";
import { type Config, ruleFor } from "../config.ts";
import { WalcastError } from "../errors.ts";
import { parseTableName, quoteIdentifier } from "../shapes/name.ts";

export interface Finding {
  /** fail: the engine would not start, or could not be right. warn: it works, and something will hurt. */
  readonly state: "ok" | "warn" | "fail";
  readonly what: string;
  /** What to run or to set. */
  readonly mend?: string;
}

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
  walLevel,
  replicationRights,
  schemaRights,
  slotRoom,
  slotState,
  walRetention,
  senderTimeout,
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

/** A pooler hands out process ids of its own in the handshake. */
async function pooler(client: Client): Promise<Finding[]> {
  const { pid } = await oneRow<{ pid: number }>(client, "select pg_backend_pid() pid");
  if ((client as unknown as { processID: number | null }).processID === pid)
    return [ok("connected directly, with no pooler between")];
  return [fail("a pooler is between Walcast and Postgres", "use the direct connection's host and port")];
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
  if (row.wal_status === "lost")
    return [
      fail(
        `the slot ${slot} is lost: Postgres has dropped WAL it needed`,
        "run walcast doctor --drop-slot; clients start anew",
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

async function senderTimeout(client: Client): Promise<Finding[]> {
  const { ms } = await oneRow<{ ms: string }>(
    client,
    "select setting ms from pg_settings where name = 'wal_sender_timeout'",
  );
  return ms === "0"
    ? [warn("wal_sender_timeout is 0: Postgres never notices an engine that is gone", "set it to 60s")]
    : [];
}

// ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

interface TableRow {
  readonly kind: string;
  readonly readable: boolean;
  readonly owned: boolean;
  readonly published: boolean;
  readonly keyed: boolean;
  readonly identity: string;
  /** Row-level security would filter what this role reads. */
  readonly secured: boolean;
}

async function servedTables(client: Client, config: Config): Promise<Finding[]> {
  if (config.tables === "all") return [];
  const findings: Finding[] = [];
  for (const name of config.tables.keys()) findings.push(...(await oneTable(client, config, name)));
  return findings;
}

async function oneTable(client: Client, config: Config, name: string): Promise<Finding[]> {
  const row = await tableRow(client, config, name);
  if (!row) return [fail(`there is no table ${name}`, "create it, or take it out of the config")];
  const full = ruleFor(config, parseTableName(name))?.replicaIdentity !== "keep";
  const found = tableFindings(row, name, full);
  return found.length > 0 ? found : [ok(`${name} can be served`)];
}

async function tableRow(client: Client, { publication }: Config, name: string): Promise<TableRow | undefined> {
  const table = parseTableName(name);
  const sql = `select c.relkind::text as kind, has_table_privilege(c.oid, 'SELECT') as readable, pg_has_role(c.relowner, 'USAGE') as owned,
      exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $3 and r.prrelid = c.oid) as published,
      exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) as keyed, c.relreplident::text as identity,
      c.relrowsecurity and row_security_active(c.oid) as secured
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`;
  const { rows } = await client.query<TableRow>(sql, [table.schema, table.name, publication]);
  return rows[0];
}

function tableFindings(row: TableRow, name: string, full: boolean): Finding[] {
  if (row.kind !== "r" && row.kind !== "p")
    return [fail(`${name} is not a table`, "only tables have changes in the WAL: serve the tables behind it")];
  const findings: Finding[] = [];
  if (!row.readable) findings.push(fail(`${name} may not be read`, `run GRANT SELECT ON ${name} TO the role`));
  if (!row.keyed && row.identity !== "i")
    findings.push(fail(`${name} has no primary key`, `run ALTER TABLE ${name} ADD PRIMARY KEY (…)`));
  if (row.secured)
    findings.push(
      fail(
        `${name} has row-level security that applies to this role: it would filter first rows and not changes`,
        "give the role BYPASSRLS",
      ),
    );
  if (!row.published && !row.owned)
    findings.push(
      fail(
        `${name} is not in the publication and is somebody else's`,
        "let its owner run ALTER PUBLICATION … ADD TABLE, or make the role its owner",
      ),
    );
  if (row.identity !== "f" && full && !row.owned)
    findings.push(
      warn(
        `${name} does not have REPLICA IDENTITY FULL: only predicates over its key can be served`,
        `let its owner run ALTER TABLE ${name} REPLICA IDENTITY FULL`,
      ),
    );
  return findings;
}

async function oneRow<Row extends object>(client: Client, sql: string, params: readonly unknown[] = []): Promise<Row> {
  const { rows } = await client.query<Row>(sql, [...params]);
  return rows[0]!;
}

function ok(what: string): Finding {
  return { state: "ok", what };
}

function warn(what: string, mend: string): Finding {
  return { state: "warn", what, mend };
}

function fail(what: string, mend: string): Finding {
  return { state: "fail", what, mend };
}
