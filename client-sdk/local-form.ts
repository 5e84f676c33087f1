/**
 * What the replica's own catalog says of a table's columns. A description has the server's names for their types, and
 * those go to the newest form of a type: while a table waits for its rows in it, its columns are of the older one, which
 * has been set aside under another name.
 */
import type { TableDescription } from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import { type LocalForm, localType, opaqueTypesOf, userTypeOf } from "./tables.ts";

/** A column's type, then what lies below as long as it is a domain. Names of our types hold under any search_path. */
const typesOfColumns = `
  WITH RECURSIVE layer AS (
    SELECT attname, atttypid AS type, atttypmod AS modifier, 0 AS depth FROM pg_attribute
      WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, typbasetype, typtypmod, depth + 1 FROM layer JOIN pg_type ON oid = type WHERE typtype = 'd'
  )
  SELECT attname AS name, CASE WHEN typnamespace = 'pg_catalog'::regnamespace THEN format_type(type, modifier)
    ELSE format('%I.%I', nspname, typname) END AS type
  FROM layer JOIN pg_type t ON t.oid = type JOIN pg_namespace n ON n.oid = typnamespace ORDER BY depth`;

export function localFormOf(database: Database, name: string, description: TableDescription): LocalForm {
  const { columns, key } = description;
  const opaque = opaqueTypesOf(description.types);
  const spelled = columns.map(({ name: column, type }) => ({ name: column, type: localType(type, opaque) }));
  // Postgres' own types have one name for ever. The catalog need not be asked, which takes long the first time.
  if (spelled.every(({ type }) => userTypeOf(type) === undefined))
    return { columns: spelled.map((column) => ({ ...column, base: column.type })), key };
  const layers = Map.groupBy(database.rows(typesOfColumns, [name]), (row) => String(row.name));
  return {
    columns: columns.map((column) => {
      const types = layers.get(column.name)!.map(({ type }) => String(type));
      return { name: column.name, type: types[0]!, base: types.at(-1)! };
    }),
    key,
  };
}
