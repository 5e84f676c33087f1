/**
 * The replication slot: Postgres' own note of how far we are, and what keeps its WAL for us while we are away. It is made
 * where it is missing, and made anew where Postgres has given it up; whether anything was lost by that is decided by
 * whoever compares its position with the log's.
 * https://www.postgresql.org/docs/current/view-pg-replication-slots.html
 */
import { randomUUID } from "node:crypto";
import pg from "pg";
import type { Logger } from "pino";
import { WalcastError } from "../errors.ts";
import { type Lsn, parseLsn } from "../protocol.ts";

export interface SlotState {
  /** Null for a physical slot. */
  readonly plugin: string | null;
  readonly database: string | null;
  /** Of the database that was asked. */
  readonly here: boolean;
  /** Everything before it was acknowledged, by us or by somebody who moved it. */
  readonly confirmed: Lsn | undefined;
  /** The walsender that streams it, and what its client calls itself. */
  readonly activePid: number | null;
  readonly activeName: string | null;
  /** Why Postgres has given it up, in a word; null while it is usable. */
  readonly invalid: string | null;
}

/** Undefined where there is none. Without parameters, which a replication connection does not take. */
export async function readSlot(client: pg.ClientBase, slot: string): Promise<SlotState | undefined> {
  // Older versions have neither invalidation_reason (17) nor conflicting (16): as JSON, what is missing is null.
  const { rows } = await client.query<Omit<SlotState, "confirmed"> & { confirmed: string | null }>(
    `select s.plugin, s.database, coalesce(s.database = current_database(), false) as here, s.confirmed_flush_lsn::text as confirmed,
      s.active_pid as "activePid", (select application_name from pg_stat_activity where pid = s.active_pid) as "activeName",
      coalesce(to_jsonb(s) ->> 'invalidation_reason', case when s.wal_status = 'lost' or to_jsonb(s) ->> 'conflicting' = 'true' then s.wal_status end) as invalid
    from pg_replication_slots s where s.slot_name = ${pg.escapeLiteral(slot)}`,
  );
  const row = rows[0];
  return row && { ...row, confirmed: row.confirmed === null ? undefined : parseLsn(row.confirmed) };
}

/**
 * Leaves a slot of ours that can be streamed. True: it was made just now, and what was committed before is not in it. Throws
 * `not_streaming` where that takes longer than `patienceMs`, as a slot waits for every transaction that is open.
 */
export async function ensureSlot(
  client: pg.ClientBase,
  slot: string,
  patienceMs: number,
  log: Logger,
): Promise<boolean> {
  const found = await readSlot(client, slot);
  if (found) requireOurs(slot, found);
  if (found && found.invalid === null) return false;
  if (found) await dropInvalid(client, slot, found.invalid!, log);
  await forgetReadyTables(client, slot);
  await createSlot(client, slot, patienceMs, log);
  return true;
}

/** Begins anew: what was committed before is not in it. */
export async function renewSlot(client: pg.ClientBase, slot: string, patienceMs: number, log: Logger): Promise<void> {
  await client.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", [
    slot,
  ]);
  await forgetReadyTables(client, slot);
  await createSlot(client, slot, patienceMs, log);
}

/** Who writes a table was waited for on behalf of the slot as it was: for a new one, or one that was moved, it is to be done again. */
export async function forgetReadyTables(client: pg.ClientBase, slot: string): Promise<void> {
  await client.query("delete from walcast.ready_tables where slot_name = $1", [slot]);
}

function requireOurs(slot: string, found: SlotState): void {
  if (found.plugin === "pgoutput" && found.here) return;
  throw new WalcastError(
    "database_unsuitable",
    `use the replication slot ${slot}: expected one of pgoutput in this database, found ${found.plugin === null ? "a physical one" : `one of ${found.plugin} in ${found.database}`}`,
    { hint: "set another `slot` in the config: slot names are shared by all databases of a server" },
  );
}

async function dropInvalid(client: pg.ClientBase, slot: string, invalid: string, log: Logger): Promise<void> {
  log.error(
    { slot, invalid },
    `Postgres has given up the replication slot, so it is made anew and clients load their rows again; ${keepingSlot(invalid)}`,
  );
  await client.query("select pg_drop_replication_slot($1)", [slot]);
}

/** What to do so that Postgres does not give up a slot again for the cause that pg_replication_slots tells, or its wal_status. */
export function keepingSlot(invalid: string): string {
  if (invalid === "wal_level_insufficient") return "keep wal_level = logical";
  const setting = invalid === "idle_timeout" ? "idle_replication_slot_timeout" : "max_slot_wal_keep_size";
  return `raise ${setting}, or do not leave the engine stopped for that long`;
}

const queryCanceled = "57014";

async function createSlot(client: pg.ClientBase, slot: string, patienceMs: number, log: Logger): Promise<void> {
  const name = `walcast_setup_${randomUUID()}`;
  await client.query("select set_config('application_name', $1, false), set_config('statement_timeout', $2, false)", [
    name,
    String(patienceMs),
  ]);
  try {
    await client.query(await creation(client), [slot]);
  } catch (cause) {
    throw (cause as pg.DatabaseError).code === queryCanceled
      ? await heldUp(client, slot, cause)
      : new WalcastError("database_unsuitable", `create the replication slot ${slot}: ${(cause as Error).message}`, {
          cause,
          hint: "raise max_replication_slots, or drop a slot that nobody uses",
        });
  } finally {
    await client.query("set statement_timeout = 0");
  }
  log.info({ slot }, "replication slot created");
}

/** Since 17 a slot can be kept on the standbys too, so that a failover need not cost it: nothing happens until they ask for it. */
async function creation(client: pg.ClientBase): Promise<string> {
  const { rows } = await client.query<{ version: number }>(
    "select current_setting('server_version_num')::int as version",
  );
  return rows[0]!.version >= 170_000
    ? "select pg_create_logical_replication_slot($1, 'pgoutput', failover => true)"
    : "select pg_create_logical_replication_slot($1, 'pgoutput')";
}

async function heldUp(client: pg.ClientBase, slot: string, cause: unknown): Promise<WalcastError> {
  const { rows } = await client.query<{ who: string }>(
    `select who from (
       select 'pid ' || pid || ' since ' || xact_start as who, xact_start as since from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
       union all select 'prepared transaction ' || gid || ' since ' || prepared, prepared from pg_prepared_xacts) as open
     order by since limit 5`,
  );
  const open = rows.map(({ who }) => who).join(", ") || "none any more";
  return new WalcastError(
    "not_streaming",
    `create the replication slot ${slot}: it waits for the transactions that were open before: ${open}`,
    { cause, hint: "end them, or leave it: it is tried again, with more patience each time" },
  );
}
