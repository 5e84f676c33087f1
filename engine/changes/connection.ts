/**
 * How every connection to Postgres is opened. A value must have one text form whichever way it came, so the settings
 * that shape text output are pinned for snapshots and for replication alike. They travel as startup options: an
 * `ALTER ROLE … SET DateStyle` has no say.
 * https://www.postgresql.org/docs/current/runtime-config-client.html
 */
import pg from "pg";
import type { Logger } from "pino";
import { WalcastError } from "../errors.ts";

const pinned: Readonly<Record<string, string>> = {
  DateStyle: "ISO,MDY",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  bytea_output: "hex",
  extra_float_digits: "1",
  client_encoding: "UTF8",
  standard_conforming_strings: "on",
  lc_monetary: "C",
  xmloption: "content",
  // What regclass and its like print depends on what is visible without its schema.
  search_path: "pg_catalog",
  // With RLS in force a snapshot would be filtered and the stream would not: fail instead.
  row_security: "off",
};

// A commit of ours must not wait for a standby: others' commits may be held up there, and ours are the way to see past them.
const forQueries = { synchronous_commit: "local" };

export function queryConfig(databaseUrl: string, name: string): pg.ClientConfig {
  return connectionConfig(databaseUrl, name, { ...pinned, ...forQueries });
}

export function replicationConfig(databaseUrl: string, name: string): pg.ClientConfig {
  return connectionConfig(databaseUrl, name, pinned);
}

/** An open connection, or `database_unreachable`. Once it breaks, the query that is under way rejects, and so do all later ones. */
export async function connect(config: pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client(config);
  client.on("error", () => {});
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

/**
 * A connection that breaks is replaced at the next use; queries under way reject by themselves. The pool listens to its idle
 * connections only, and an error that nobody listens to would end the process.
 */
export function openPool(
  databaseUrl: string,
  name: string,
  max: number,
  { log, queryTimeoutMs }: { log?: Logger; queryTimeoutMs?: number } = {},
): pg.Pool {
  const timeout = queryTimeoutMs === undefined ? {} : { query_timeout: queryTimeoutMs };
  const pool = new pg.Pool({ ...queryConfig(databaseUrl, name), ...timeout, max });
  pool.on("connect", (client) => client.on("error", (error) => log?.debug({ err: error }, "a connection broke")));
  pool.on("error", () => {});
  return pool;
}

const keepAliveAfterMs = 10_000;

/** pg would let options in the URL take the place of ours; poolers and hosts need theirs, so ours come after them and win. */
function connectionConfig(
  databaseUrl: string,
  name: string,
  settings: Readonly<Record<string, string>>,
): pg.ClientConfig {
  const url = new URL(databaseUrl);
  const theirs = url.searchParams.get("options") ?? "";
  url.searchParams.delete("options");
  return {
    connectionString: url.href,
    application_name: name,
    options: `${theirs} ${asOptions(settings)}`.trim(),
    keepAlive: true,
    // The system's default is two hours, and a connection whose packets go nowhere is silent for as long.
    keepAliveInitialDelayMillis: keepAliveAfterMs,
  };
}

/** The connection broke or cannot be made: nothing is wrong with what was asked, and it may be asked again. */
export function isPostgresAway(error: unknown): boolean {
  const { code = "", message = "" } = error as { code?: string; message?: string };
  return awayCodes.test(code) || awayMessages.test(message);
}

// Connection exceptions, shutting down or starting up, too many connections; and the operating system's names for the same.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const awayCodes =
  /^(08...|57P0[1-35]|53300|ECONN\w+|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN|ENOTFOUND|ENOENT)$/;
// pg has no code for these.
const awayMessages =
  /^(Connection terminated|Client was closed|Client has encountered a connection error|timeout exceeded when trying to connect)/;

function asOptions(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(" ");
}
