/**
 * Which history this is. Positions mean something only within one: the same server, database and timeline, streamed by
 * a slot that nobody but us has moved.
 */
import type pg from "pg";
import { type Lsn, parseLsn } from "../protocol.ts";

export interface History {
  /** System identifier, database oid and timeline. */
  readonly epoch: string;
  /** The slot's confirmed position; undefined where there is no slot. */
  readonly confirmed: Lsn | undefined;
  /** A recent 64-bit xid. */
  readonly recentXid: bigint;
  /** 0: never times out. */
  readonly walSenderTimeoutMs: number;
}

export async function readHistory(db: pg.Pool, slot: string): Promise<History> {
  const { rows } = await db.query<{ epoch: string; confirmed: string | null; xid: string; timeout: string }>(
    `select concat_ws(':', (select system_identifier from pg_control_system()), (select oid from pg_database where datname = current_database()),
        (select timeline_id from pg_control_checkpoint())) as epoch,
      (select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1) as confirmed,
      pg_snapshot_xmax(pg_current_snapshot())::text as xid,
      (select setting from pg_settings where name = 'wal_sender_timeout') as timeout`,
    [slot],
  );
  const row = rows[0]!;
  const confirmed = row.confirmed === null ? undefined : parseLsn(row.confirmed);
  return { epoch: row.epoch, confirmed, recentXid: BigInt(row.xid), walSenderTimeoutMs: Number(row.timeout) };
}
