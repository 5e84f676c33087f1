/** Columns of the tables that a query reads, as SQL spells them and their types. */
import type { Database } from "../database.ts";
import type { KeyedTable } from "./tables-read.ts";

interface CatalogColumn {
  readonly name: string;
  /** As a cast spells it. */
  readonly type: string;
  /** Equal values have equal texts: what the server names a key is what it is called here. */
  readonly isNamedAlike: boolean;
}

/** By pg_class.oid and attribute number. */
export type CatalogColumns = ReadonlyMap<string, CatalogColumn>;

/** Besides enums. */
const namedAlike = [16, 17, 19, 20, 21, 23, 25, 26, 1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950];

export function columnsIn(database: Database, tables: readonly KeyedTable[]): CatalogColumns {
  const query = `
    SELECT a.attrelid::int8 AS oid, a.attnum, a.attname, CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN format_type(t.oid, -1)
        ELSE format('%I.%I', n.nspname, t.typname) END AS type,
      t.typtype = 'e' OR CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END = ANY ($2::oid[]) AS named_alike
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped`;
  const rows = database.rows(query, [tables.map(({ oid }) => oid), namedAlike]);
  return new Map(
    rows.map(({ oid, attnum, attname, type, named_alike: isNamedAlike }) => [
      `${String(oid)}.${String(attnum)}`,
      { name: String(attname), type: String(type), isNamedAlike: isNamedAlike === true },
    ]),
  );
}

export function columnOf(columns: CatalogColumns, table: number, attribute: number): CatalogColumn {
  return columns.get(`${table}.${attribute}`)!;
}
