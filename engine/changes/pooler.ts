/**
 * Is a session ours for as long as its connection lasts, with the settings we asked for? A pooler may give each transaction
 * another session, and leave settings out: locks would be nobody's, and values would come in other forms than from the
 * stream. A proxy that passes one connection on as one session is fine, as some hosts have in front of every database.
 *
 * Both hand out process ids of their own in the handshake, so that alone says only that something is in between. Then
 * a second connection begins a transaction: what shares sessions gives it the one that was idle, or gives us another one.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
import type pg from "pg";
import { WalcastError } from "../errors.ts";
import { queryConfig, withConnection } from "./connection.ts";

/** Throws `database_unsuitable` with what to do. `session` is outside of a transaction. */
export async function requireOwnSession(session: pg.Client, databaseUrl: string, signal?: AbortSignal): Promise<void> {
  const { pid, settings } = await ask(session);
  if ((session as unknown as { processID: number | null }).processID === pid) return;
  if (!settings) throw between("leaves out settings that make values comparable");
  if (await isShared(session, pid, databaseUrl, signal)) throw between("shares its sessions");
}

interface Answer {
  readonly pid: number;
  /** Those that we pin are in force. */
  readonly settings: boolean;
}

async function ask(client: pg.Client): Promise<Answer> {
  const { rows } = await client.query<Answer>(
    `select pg_backend_pid() as pid, current_setting('search_path') = 'pg_catalog' and current_setting('row_security') = 'off'
      and current_setting('IntervalStyle') = 'postgres' and current_setting('TimeZone') = 'UTC' as settings`,
  );
  return rows[0]!;
}

function isShared(session: pg.Client, pid: number, databaseUrl: string, signal?: AbortSignal): Promise<boolean> {
  return withConnection(queryConfig(databaseUrl, "walcast claim"), signal, async (other) => {
    await other.query("begin");
    const theirs = await ask(other);
    const ours = await ask(session);
    return ours.pid !== pid || theirs.pid === pid;
  });
}

function between(how: string): WalcastError {
  return new WalcastError("database_unsuitable", `connect to Postgres: a pooler is in between that ${how}`, {
    hint: "use the direct connection's host and port",
  });
}
