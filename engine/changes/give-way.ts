/**
 * A snapshot that runs holds its table's lightest lock, and only ACCESS EXCLUSIVE has to wait for that: somebody's DDL, and
 * behind it everybody who reads or writes the table. So a snapshot that DDL has waited for is cancelled. Whoever wanted it
 * tries again, and queues behind the DDL.
 * https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
 */
import type pg from "pg";
import type { Logger } from "pino";

/** The application_name of the connections that take snapshots. */
export const snapshotApplication = "walcast snapshot";

/** Cancels the snapshots that DDL has waited for longer than this. To be called on a timer. */
export async function giveWay(control: Pick<pg.Pool, "query">, waitedMs: number, log: Logger): Promise<void> {
  const { rows } = await control.query<{ pid: number; table: string }>(inTheWay, [snapshotApplication, waitedMs]);
  for (const { pid, table } of rows)
    log.info({ pid, table }, "a snapshot gives way to a lock that waits for its table");
}

const inTheWay = `
  select held.pid, held.relation::regclass::text as table, pg_cancel_backend(held.pid)
  from pg_stat_activity snapshot join pg_locks held on held.pid = snapshot.pid and held.locktype = 'relation' and held.granted
  where snapshot.application_name = $1 and snapshot.datname = current_database() and snapshot.usename = current_user
    and exists (
      select from pg_locks waiting
      where waiting.locktype = 'relation' and waiting.database = held.database and waiting.relation = held.relation
        and not waiting.granted and waiting.mode = 'AccessExclusiveLock'
        and waiting.waitstart < clock_timestamp() - make_interval(secs => $2::float8 / 1000))`;
