/**
 * How every connection to Postgres is opened. A value must have one text form whichever way it came, so the settings
 * that shape text output are pinned for snapshots and for replication alike. They travel as startup options: an
 * `ALTER ROLE … SET DateStyle` has no say.
 * https://www.postgresql.org/docs/current/runtime-config-client.html
 */
import pg from "pg";

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
  // With RLS in force a snapshot would be filtered and the stream would not: fail instead.
  row_security: "off",
};

// A commit of ours must not wait for a standby: others' commits may be held up there, and ours are the way to see past them.
const forQueries = { synchronous_commit: "local", search_path: "pg_catalog" };

export function queryConfig(databaseUrl: string, name: string): pg.ClientConfig {
  return { connectionString: databaseUrl, application_name: name, options: asOptions({ ...pinned, ...forQueries }), keepAlive: true };
}

export function replicationConfig(databaseUrl: string, name: string): pg.ClientConfig {
  return { connectionString: databaseUrl, application_name: name, options: asOptions(pinned), keepAlive: true };
}

function asOptions(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(" ");
}
