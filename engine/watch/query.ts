/** What a program may watch: rows of a table, or any query. */
import { WalcastError } from "../errors.ts";
import type { ShapeRequest } from "../protocol.ts";
import { isSql, type Sql } from "../sql.ts";

/** Rows of one table, as in a shape. With `orderBy` or `limit` Postgres is asked again after each commit that changes the table. */
export interface TableQuery extends ShapeRequest {
  /** As in SQL: `created_at desc`, or several. Postgres' own order. */
  readonly orderBy?: string | readonly string[] | undefined;
  readonly limit?: number | undefined;
}

/** Text, the `sql` tag's, a statement with its parameters, or a Kysely query. Names without a schema mean `public`. */
export type AnyQuery =
  | string
  | Sql
  | { readonly sql: string; readonly parameters?: readonly unknown[] }
  | { compile(): { readonly sql: string; readonly parameters: readonly unknown[] } };

/** A result: an array of rows, with the position that it is at. */
export interface Rows<R> extends ReadonlyArray<R> {
  /** Text form of a commit's end. The rows of a table are at it; those of SQL are at it or later. */
  readonly position: string;
}

export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

export function isTableQuery(query: TableQuery | AnyQuery): query is TableQuery {
  return typeof query === "object" && "table" in query;
}

export function statementOf(query: AnyQuery): Statement {
  if (typeof query === "string") return { text: query, values: [] };
  if (isSql(query)) return { text: query.text, values: query.params };
  if ("compile" in query) return statementOf(query.compile());
  if (typeof query.sql === "string") return { text: query.sql, values: query.parameters ?? [] };
  throw new WalcastError("query_failed", "watch: expected a table, SQL, or a Kysely query");
}

/** Around what a shape selects. It is a program's own text, as SQL is. */
export function ordered(select: string, { orderBy, limit }: TableQuery): string {
  const columns = orderBy === undefined ? [] : [orderBy].flat();
  const by = columns.length === 0 ? "" : ` ORDER BY ${columns.join(", ")}`;
  if (limit === undefined) return `SELECT * FROM (${select}) AS rows${by}`;
  if (Number.isSafeInteger(limit) && limit >= 0) return `SELECT * FROM (${select}) AS rows${by} LIMIT ${limit}`;
  throw new WalcastError("query_failed", "watch: expected limit as a whole number from 0");
}
