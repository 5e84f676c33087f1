/** Which tables a query reads, and where their key is in its result. */
import type { Row } from "../row.ts";
import type { RawResult } from "../rows.ts";

/**
 * The tables that a query reads are the ones it locks: that sees through views and into functions, which its plan does not
 * show. https://www.postgresql.org/docs/current/view-pg-locks.html
 */
export const lockedTables = `
  SELECT DISTINCT c.oid::int8 AS oid, format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""')) AS name,
    (SELECT i.indkey::int2[] FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS key,
    ARRAY(SELECT DISTINCT i.indkey[0] FROM pg_index i WHERE i.indrelid = c.oid AND i.indpred IS NULL AND i.indisvalid ORDER BY 1)::int2[] AS indexed
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'walcast')`;

export interface KeyedTable {
  readonly oid: number;
  /** Quoted and with its schema. */
  readonly name: string;
  /** Attribute numbers of its primary key; none where it has none. */
  readonly key: readonly number[];
  /** Those that an index leads to. */
  readonly indexed: readonly number[];
}

/** From a row of `lockedTables`. */
export function keyedTable({ oid, name, key, indexed }: Row): KeyedTable {
  return {
    oid: Number(oid),
    name: String(name),
    key: (key ?? []) as number[],
    indexed: indexed as number[],
  };
}

/** Where the result holds the primary key of the one table it comes from. */
export function findKey({ statement }: RawResult, tables: readonly KeyedTable[]): number[] | undefined {
  const [table] = tables;
  if (tables.length !== 1 || !table || table.key.length === 0) return undefined;
  const positions = table.key.map((attribute) =>
    statement.columns.findIndex((column) => column.tableOid === table.oid && column.attribute === attribute),
  );
  return positions.includes(-1) ? undefined : positions;
}
