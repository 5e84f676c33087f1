/**
 * Tables on their way into the stream. Before the first snapshot of a table it must be in the publication, carry the
 * replica identity that the config asks for, and every transaction that could have written it unpublished must have
 * ended: such a writer would be in neither snapshot nor stream. Descriptions are kept until the stream says that they
 * are out of date.
 */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import type { Logger } from "pino";
import { WalcastError } from "../errors.ts";
import { qualifiedName, quoteIdentifier } from "../shapes/name.ts";
import { isPostgresAway } from "./connection.ts";
import { describeTable, findTable, unknownTable } from "./catalog.ts";
import type { Table } from "./table.ts";

export interface TablesOptions {
  readonly publication: string;
  readonly slot: string;
  readonly log: Logger;
}

const lockTimeoutMs = 2_000;
const lockAttempts = 10;
const writerPollMs = 20;
const writerWarnMs = 5_000;

export class Tables {
  private readonly pool: pg.Pool;
  private readonly options: TablesOptions;
  private readonly ready = new Map<number, Promise<void>>();
  private readonly described = new Map<number, Promise<Table>>();

  constructor(pool: pg.Pool, options: TablesOptions) {
    this.pool = pool;
    this.options = options;
  }

  /**
   * The table that has this name now, in the stream from here on. `full`: old rows shall be whole. A description under
   * another name is no answer: it was renamed since it was found, and what may be read follows from the name.
   */
  async get(schema: string, name: string, full: boolean): Promise<Table> {
    for (;;) {
      const oid = await findTable(this.pool, schema, name);
      await once(this.ready, oid, () => this.makeReady(oid, qualifiedName(schema, name), full));
      const table = await once(this.described, oid, () => this.describe(oid, schema, name));
      if (table.schema === schema && table.name === name) return table;
      this.forget(oid);
    }
  }

  /** Its schema changed, or may have. */
  forget(oid: number): void {
    this.described.delete(oid);
  }

  /** Another history: whatever was made ready was so for another slot. */
  forgetAll(): void {
    this.described.clear();
    this.ready.clear();
  }

  private async describe(oid: number, schema: string, name: string): Promise<Table> {
    const table = await this.inOneSnapshot((client) => describeTable(client, oid));
    if (!table) throw unknownTable(schema, name);
    return table;
  }

  /** A description takes several queries, and DDL that commits between two of them must not make a table that never was. */
  private async inOneSnapshot<T>(read: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.pool.connect();
    let failure: Error | undefined;
    try {
      await client.query("begin isolation level repeatable read read only");
      const result = await read(client);
      await client.query("commit");
      return result;
    } catch (error) {
      failure = error as Error;
      throw error;
    } finally {
      client.release(failure);
    }
  }

  private async makeReady(oid: number, name: string, full: boolean): Promise<void> {
    // The publication first: in the other order two engines that start together can deadlock.
    await this.publish(oid, name);
    if (full) await this.makeIdentityFull(oid, name);
    await this.waitForEarlierWriters(oid, name);
  }

  private async publish(oid: number, name: string): Promise<void> {
    const { publication } = this.options;
    const { rowCount } = await this.pool.query(
      "select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $1 and r.prrelid = $2",
      [publication, oid],
    );
    if (rowCount) return;
    await this.pool.query("delete from walcast.ready_tables where slot_name = $1 and table_oid = $2", [
      this.options.slot,
      oid,
    ]);
    await this.withLockTimeout(`alter publication ${quoteIdentifier(publication)} add table ${name}`).catch(
      ignore(duplicateObject),
    );
  }

  private async makeIdentityFull(oid: number, name: string): Promise<void> {
    const { rows } = await this.pool.query<{ relreplident: string }>(
      "select relreplident::text from pg_class where oid = $1",
      [oid],
    );
    if (rows[0]?.relreplident === "f") return;
    // Not ours to change: shapes that can do without are served, others are refused with the statement to run.
    await this.withLockTimeout(`alter table ${name} replica identity full`).catch(ignore(insufficientPrivilege));
  }

  /** ALTER TABLE queues behind every reader and everybody queues behind it: give way soon, and try again. */
  private async withLockTimeout(statement: string): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.pool.query(`begin; set local lock_timeout = ${lockTimeoutMs}; ${statement}; commit`);
        return;
      } catch (error) {
        if ((error as pg.DatabaseError).code !== lockNotAvailable || attempt === lockAttempts) throw error;
        await delay(lockTimeoutMs * Math.random());
      }
    }
  }

  private async waitForEarlierWriters(oid: number, name: string): Promise<void> {
    const key = [this.options.slot, oid];
    const { rowCount } = await this.pool.query(
      "select from walcast.ready_tables where slot_name = $1 and table_oid = $2",
      key,
    );
    if (rowCount) return;
    await this.outlast(await this.writers(oid), oid, name);
    await this.pool.query(
      "insert into walcast.ready_tables (slot_name, table_oid) values ($1, $2) on conflict do nothing",
      key,
    );
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

  /** Whoever wrote the table holds a lock on it to the end of its transaction, prepared ones (without a pid) included. */
  private async writers(oid: number): Promise<Writer[]> {
    const { rows } = await this.pool.query<Writer>(
      `select distinct virtualtransaction as transaction, pid from pg_locks
       where locktype = 'relation' and relation = $1 and granted and database = (select oid from pg_database where datname = current_database())
         and mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`,
      [oid],
    );
    return rows;
  }
}

interface Writer {
  readonly transaction: string;
  readonly pid: number | null;
}

const duplicateObject = "42710";
const insufficientPrivilege = "42501";
const lockNotAvailable = "55P03";

function ignore(code: string): (error: pg.DatabaseError) => void {
  return (error) => {
    if (error.code === code) return;
    if (isPostgresAway(error)) throw error;
    throw new WalcastError("database_unsuitable", `prepare a table for the stream: ${error.message}`, { cause: error });
  };
}

/** One run for all who ask meanwhile; a failed one is forgotten, so that the next to ask tries again. */
function once<T>(running: Map<number, Promise<T>>, key: number, run: () => Promise<T>): Promise<T> {
  const known = running.get(key);
  if (known) return known;
  const started = run();
  running.set(key, started);
  started.catch(() => running.delete(key));
  return started;
}
