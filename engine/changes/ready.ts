/**
 * A table on its way into the stream. Before its first snapshot it must be in the publication, whole; its old rows must
 * carry what the config asks for; and every transaction that could have written it unpublished must have ended: such a
 * writer would be in neither snapshot nor stream. Then it is *ready*, for this slot, and stays so in the database until
 * the publication or the role's rights change (`walcast.readiness`).
 */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import type { Logger } from "pino";
import { WalcastError } from "../errors.ts";
import { quoteIdentifier } from "../shapes/name.ts";
import { isPostgresAway } from "./connection.ts";
import { ensurePublication } from "./setup.ts";

export interface ReadyOptions {
  readonly publication: string;
  readonly slot: string;
  readonly log: Logger;
}

const lockTimeoutMs = 2_000;
const lockAttempts = 10;
const writerPollMs = 20;
const writerWarnMs = 5_000;

export class Ready {
  private readonly pool: pg.Pool;
  private readonly options: ReadyOptions;

  constructor(pool: pg.Pool, options: ReadyOptions) {
    this.pool = pool;
    this.options = options;
  }

  /**
   * `name` as in SQL. `full`: old rows shall be whole. A table without a key cannot be synced, and is left alone. Gives
   * whether it was not ready before: then what was written until now may be missing in the stream.
   */
  async make(oid: number, name: string, full: boolean): Promise<boolean> {
    const state = await this.stateOf(oid);
    if (!state.keyed) return false;
    if (state.readiness === null) await ensurePublication(this.pool, this.options.publication);
    if (!state.member) await this.publish(state, name, full);
    else if (full) await this.alter(identityFull(state)).catch(ignore(insufficientPrivilege, name));
    if (state.ready) return false;
    while (!(await this.become(oid, name)));
    return true;
  }

  /** Those of these tables that are not ready any more. */
  async lost(oids: readonly number[]): Promise<number[]> {
    const { rows } = await this.pool.query<{ oid: number }>(
      `select wanted::int8::float8 as oid from unnest($1::int8[]::oid[]) as wanted where not ${isReady}`,
      [oids, this.options.slot, this.options.publication],
    );
    return rows.map((row) => row.oid);
  }

  private async stateOf(oid: number): Promise<State> {
    const { slot, publication } = this.options;
    const { rows } = await this.pool.query<State>(stateQuery, [oid, slot, publication]);
    return rows[0]!;
  }

  /**
   * In one transaction: a published table whose old rows carry nothing cannot be updated by anybody. The publication
   * first: in the other order two engines that start together can deadlock.
   */
  private async publish(state: State, name: string, full: boolean): Promise<void> {
    const { publication } = this.options;
    if (state.bare && !(full && state.fullable)) throw identityMissing(name);
    const join = `alter publication ${quoteIdentifier(publication)} add table ${name}`;
    await this.alter([join, ...(full ? identityFull(state) : [])]).catch(ignore(duplicateObject, name));
  }

  /** ALTER TABLE queues behind every reader and everybody queues behind it: give way soon, and try again. */
  private async alter(statements: readonly string[]): Promise<void> {
    if (statements.length === 0) return;
    const script = ["begin", `set local lock_timeout = ${lockTimeoutMs}`, ...statements, "commit"].join("; ");
    for (let attempt = 1; ; attempt++) {
      try {
        return void (await this.pool.query(script));
      } catch (error) {
        if ((error as pg.DatabaseError).code !== lockNotAvailable || attempt === lockAttempts) throw error;
        await delay(lockTimeoutMs * Math.random());
      }
    }
  }

  /** False where it was altered meanwhile, and what was waited for says nothing. */
  private async become(oid: number, name: string): Promise<boolean> {
    const { readiness } = await this.stateOf(oid);
    if (readiness === null) throw sentInPart(name, this.options.publication);
    await this.outlast(await this.writers(oid), oid, name);
    await this.pool.query(
      `insert into walcast.ready_tables (slot_name, table_oid, publication, reader, readiness)
       values ($1, $2, $3, (select oid from pg_roles where rolname = current_user), $4)
       on conflict (slot_name, table_oid) do update set publication = excluded.publication, reader = excluded.reader, readiness = excluded.readiness`,
      [this.options.slot, oid, this.options.publication, readiness],
    );
    return (await this.stateOf(oid)).ready;
  }

  private async outlast(writers: readonly Writer[], oid: number, name: string): Promise<void> {
    const warnAt = performance.now() + writerWarnMs;
    let left = writers;
    let warned = false;
    while (left.length > 0) {
      if (!warned && performance.now() > warnAt) {
        this.options.log.warn(
          { table: name, pids: left.map((writer) => writer.pid) },
          "waiting for transactions that wrote this table before it was published",
        );
        warned = true;
      }
      await delay(writerPollMs);
      const now = new Set((await this.writers(oid)).map((writer) => writer.transaction));
      left = left.filter((writer) => now.has(writer.transaction));
    }
  }

  /** Whoever wrote the table, or a partition, holds a lock on it to the end of its transaction, prepared ones (without a pid) included. */
  private async writers(oid: number): Promise<Writer[]> {
    const { rows } = await this.pool.query<Writer>(
      `select distinct virtualtransaction as transaction, pid from pg_locks
       where locktype = 'relation' and granted and database = (select oid from pg_database where datname = current_database())
         and relation in (select $1::int8::oid union select relid from pg_partition_tree($1::int8::oid))
         and mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`,
      [oid],
    );
    return rows;
  }
}

interface State {
  readonly keyed: boolean;
  /** Named in the publication, or everything is. */
  readonly member: boolean;
  /** Null where the publication does not send all of it. */
  readonly readiness: string | null;
  readonly ready: boolean;
  /** No virtual generated column is in the way of REPLICA IDENTITY FULL: nobody could update such a table any more. */
  readonly fullable: boolean;
  /** Names of those that do not have it and can: itself, or its leaves. */
  readonly notFull: readonly string[] | null;
  /** Old rows, or some leaf's, carry nothing at all. */
  readonly bare: boolean;
}

/** Whether the table `wanted` is ready, as SQL; all three are expressions. */
export function isReadySql(wanted: string, slot: string, publication: string): string {
  return `exists (select from walcast.ready_tables r where r.slot_name = ${slot} and r.table_oid = ${wanted} and r.publication = ${publication}
    and r.readiness = walcast.readiness(${wanted}, ${publication}, (select oid from pg_roles where rolname = current_user)))`;
}

// Of the table `wanted`, the slot $2 and the publication $3.
const readiness = "walcast.readiness(wanted, $3, (select oid from pg_roles where rolname = current_user))";
const isReady = isReadySql("wanted", "$2", "$3");

/** Itself, or its leaves. */
const ownRows =
  "select l.oid from pg_class l where l.relkind = 'r' and (l.oid = wanted or l.oid in (select relid from pg_partition_tree(wanted)))";

const hasVirtual =
  "exists (select from pg_attribute a where a.attrelid = l.oid and a.attgenerated = 'v' and not a.attisdropped)";

const stateQuery = `
  select walcast.key_columns(wanted) is not null as keyed, ${readiness} as readiness, ${isReady} as ready,
    exists (select from pg_publication p where p.pubname = $3 and (p.puballtables or exists (
      select from pg_publication_rel r where r.prpubid = p.oid and (r.prrelid = wanted or r.prrelid in (select relid from pg_partition_ancestors(wanted)))))) as member,
    (select json_agg(l.oid::regclass::text) from pg_class l where l.oid in (${ownRows}) and l.relreplident <> 'f' and not ${hasVirtual}) as "notFull",
    not exists (select from pg_class l where l.oid in (${ownRows}) and ${hasVirtual}) as fullable,
    exists (select from pg_class l where l.oid in (${ownRows}) and json_array_length(walcast.identity_columns(l.oid)) = 0) as bare
  from (select $1::int8::oid as wanted) as asked`;

interface Writer {
  readonly transaction: string;
  readonly pid: number | null;
}

const duplicateObject = "42710";
const insufficientPrivilege = "42501";
const lockNotAvailable = "55P03";

function identityFull({ notFull }: State): string[] {
  return (notFull ?? []).map((name) => `alter table ${name} replica identity full`);
}

/** Not ours to change: shapes that can do without are served, others are refused with the statement to run. */
function ignore(code: string, name: string): (error: pg.DatabaseError) => void {
  return (error) => {
    if (error.code === code) return;
    if (isPostgresAway(error)) throw error;
    throw new WalcastError("database_unsuitable", `prepare ${name} for the stream: ${error.message}`, { cause: error });
  };
}

function identityMissing(name: string): WalcastError {
  return new WalcastError(
    "replica_identity_missing",
    `sync ${name}: without a replica identity nobody could update it any more once it is published`,
    { hint: `run \`ALTER TABLE ${name} REPLICA IDENTITY FULL\`` },
  );
}

function sentInPart(name: string, publication: string): WalcastError {
  const quoted = quoteIdentifier(publication);
  return new WalcastError(
    "table_unsupported",
    `sync ${name}: expected the publication ${quoted} to send every change of it, found a row filter, a column list or other options`,
    {
      hint: `run \`ALTER PUBLICATION ${quoted} DROP TABLE ${name}\` (Walcast adds it again), and for the options \`ALTER PUBLICATION ${quoted} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)\`, with publish_generated_columns = stored from PostgreSQL 18 on`,
    },
  );
}
