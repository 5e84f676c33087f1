/**
 * Queries that Postgres answers, again whenever a table that they read has changed. Which those are Postgres says itself: by the locks that
 * a transaction holds which has run the query, so views, partitions and functions are looked into.
 *
 * A commit can be streamed before anybody sees it. So before each run it is waited until all that was streamed is visible; what
 * comes later makes the query run again.
 */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { isPostgresAway } from "../changes/connection.ts";
import { oidsOf } from "../changes/table.ts";
import type { Tables } from "../changes/tables.ts";
import { type Transaction, touches } from "../changes/transaction.ts";
import { WalcastError } from "../errors.ts";
import { formatLsn } from "../protocol.ts";
import type { Hub } from "../sockets/hub.ts";
import type { Take } from "./iteration.ts";
import { textAsJson } from "./json.ts";
import type { Rows, Statement } from "./query.ts";
import { resultAt } from "./results.ts";

const retryMs = 100;
const retryMsMax = 5_000;

export interface QueriesOptions {
  readonly pool: pg.Pool;
  readonly hub: Hub;
  readonly tables: Tables;
}

type JsonRow = Record<string, unknown>;

export class Queries {
  readonly options: QueriesOptions;
  private readonly open = new Set<Query>();

  constructor(options: QueriesOptions) {
    this.options = options;
  }

  get size(): number {
    return this.open.size;
  }

  /** Until the signal. `statement` is asked for before each run. */
  async follow(
    statement: () => Statement | Promise<Statement>,
    changed: (take: Take<Rows<JsonRow>>) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const query: Query = new Query(this.options, statement, () => changed(() => query.take(signal)));
    this.open.add(query);
    query.touch();
    if (!signal.aborted)
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    this.open.delete(query);
  }

  streamed(transactions: readonly Transaction[]): void {
    for (const query of this.open) if (transactions.some((one) => touches(one, query.tables))) query.touch();
  }

  /** Nobody knows what has changed. */
  restart(): void {
    for (const query of this.open) query.touch();
  }
}

class Query {
  /** By oid, as changes of them come. */
  readonly tables = new Set<number>();
  readonly touch: () => void;
  private readonly options: QueriesOptions;
  private readonly statement: () => Statement | Promise<Statement>;
  /** As Postgres names them: those are ready for the stream. */
  private readonly known = new Set<number>();
  private before: string | undefined;

  constructor(options: QueriesOptions, statement: () => Statement | Promise<Statement>, touch: () => void) {
    this.options = options;
    this.statement = statement;
    this.touch = touch;
  }

  /** The result, where it is another one than before. */
  async take(signal: AbortSignal): Promise<Rows<JsonRow> | undefined> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        const result = await this.result(signal);
        const now = JSON.stringify(result);
        if (now === this.before) return undefined;
        this.before = now;
        return result;
      } catch (error) {
        if (signal.aborted) return undefined;
        if (!isPostgresAway(error)) throw failureOf(error);
        await delay(Math.min(retryMs * 2 ** attempt, retryMsMax) * Math.random(), undefined, { ref: false });
      }
    }
    return undefined;
  }

  /** A table that is read for the first time may have changed before it was known to be: then it is read again. */
  private async result(signal: AbortSignal): Promise<Rows<JsonRow>> {
    const { hub } = this.options;
    for (;;) {
      const { position } = hub;
      await hub.snapshots.seeing(position, () => signal.aborted);
      const { rows, read } = await this.run();
      const fresh = read.filter(({ oid }) => !this.known.has(oid));
      for (const table of fresh) await this.addTable(table);
      if (fresh.length === 0) return resultAt(rows, formatLsn(position));
    }
  }

  private async addTable({ oid, schema, name }: ReadTable): Promise<void> {
    const table = await this.options.tables.get(schema, name, false);
    if (table.key.length === 0)
      throw new WalcastError("table_without_key", `watch: the query reads ${schema}.${name}, which has no primary key`);
    for (const one of oidsOf(table)) this.tables.add(one);
    this.known.add(oid);
  }

  private async run(): Promise<{ rows: JsonRow[]; read: readonly ReadTable[] }> {
    const { text, values } = await this.statement();
    const client = await this.options.pool.connect();
    let failure: Error | undefined;
    try {
      await client.query("begin isolation level repeatable read read only; set local search_path = public");
      const { rows } = await client.query<JsonRow>({ text, values: [...values], types: asJsonValues });
      const { rows: read } = await client.query<ReadTable>(readTablesSql);
      await client.query("commit");
      return { rows, read };
    } catch (error) {
      failure = error as Error;
      throw error;
    } finally {
      client.release(failure);
    }
  }
}

interface ReadTable {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
}

/** Below are Postgres' own. A partition changes as part of its root. https://www.postgresql.org/docs/current/view-pg-locks.html */
const readTablesSql = `
  select distinct c.oid::int8::float8 as oid, n.nspname as schema, c.relname as name
  from pg_locks l
  join pg_class r on r.oid = l.relation and r.relkind in ('r', 'p') and r.oid >= 16384
  join pg_class c on c.oid = coalesce(pg_partition_root(r.oid), r.oid)
  join pg_namespace n on n.oid = c.relnamespace
  where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.granted`;

/** Values as in the rows of a table: see json.ts. */
const asJsonValues = {
  getTypeParser: (oid: number) => {
    const asJson = textAsJson(oid);
    return (text: string): unknown => (asJson ? (JSON.parse(asJson(text)) as unknown) : text);
  },
};

function failureOf(error: unknown): unknown {
  if (error instanceof WalcastError) return error;
  return new WalcastError("query_failed", `watch: Postgres refused the query: ${(error as Error).message}`, {
    cause: error,
  });
}
