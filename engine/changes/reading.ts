/**
 * One transaction that reads the first rows of shapes of one table.
 *
 * The order matters. The log was pinned before, so that whatever the snapshot does not see is still there to be replayed.
 * Then the table is locked ACCESS SHARE, *before* the snapshot exists: TRUNCATE and rewriting ALTERs are not MVCC-safe,
 * and no transaction that changed the table's form can now be invisible to the snapshot. Then the snapshot is taken.
 *
 * The table has to be ready in this very snapshot. That it was taken out of the publication is streamed a moment before it
 * is visible, so whoever made sure of it before may have seen it as it was.
 */
import type pg from "pg";
import { qualifiedName, quoteLiteral } from "../shapes/name.ts";
import { selectSql, type Shape } from "../shapes/shape.ts";
import { isReadySql } from "./ready.ts";
import { parsePgSnapshot, type PgSnapshot } from "./pg-snapshot.ts";
import type { Table } from "./table.ts";

/** What the changes come by. */
export interface StreamNames {
  readonly slot: string;
  readonly publication: string;
}

/** The table is not any more what the shape was resolved against, or not ready: look at it again. */
export class TableMoved extends Error {}

/** Gives which transactions the rows will contain. Rejects with TableMoved. */
export async function beginReading(client: pg.ClientBase, table: Table, stream: StreamNames): Promise<PgSnapshot> {
  const name = qualifiedName(table.schema, table.name);
  await client.query("begin isolation level repeatable read read only");
  await client.query(`lock table ${name} in access share mode`).catch(rethrowMissing);
  const isReady = isReadySql(String(table.oid), quoteLiteral(stream.slot), quoteLiteral(stream.publication));
  const { rows } = await client.query<{ snapshot: string; version: string; oid: string | null; ready: boolean }>(
    `select pg_current_snapshot()::text as snapshot, walcast.table_version(${table.oid}) as version, to_regclass(${quoteLiteral(name)})::oid::text as oid, ${isReady} as ready`,
  );
  const row = rows[0]!;
  if (Number(row.oid) !== table.oid || row.version !== table.version || !row.ready) throw new TableMoved();
  return parsePgSnapshot(row.snapshot);
}

const undefinedTable = "42P01";

function rethrowMissing(error: pg.DatabaseError): never {
  throw error.code === undefinedTable ? new TableMoved() : error;
}

/** Postgres' own guess. */
export interface Estimate {
  readonly rows: number;
  readonly bytes: number;
}

export async function estimate(client: pg.ClientBase, shapes: readonly Shape[]): Promise<Estimate[]> {
  const script = shapes.map((shape) => `explain (format json) ${selectSql(shape)}`).join("; ");
  const results: unknown = await client.query(script);
  const plans = (Array.isArray(results) ? results : [results]) as pg.QueryResult<PlanRow>[];
  return plans.map(({ rows }) => {
    const { "Plan Rows": count, "Plan Width": width } = rows[0]!["QUERY PLAN"][0].Plan;
    return { rows: count, bytes: count * width };
  });
}

interface PlanRow {
  readonly "QUERY PLAN": [{ readonly Plan: { readonly "Plan Rows": number; readonly "Plan Width": number } }];
}

/**
 * What a role or a database sets must not end a reading that takes its time, or one that waits for a lock behind DDL. Not every
 * version knows every name.
 */
export const withoutTimeouts = `
  select set_config(name, '0', false) from pg_settings
  where name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`;
