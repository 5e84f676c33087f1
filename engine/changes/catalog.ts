/**
 * Reads a table's description from the catalog, under a snapshot of the caller's choosing. Types are resolved down to
 * their bases, because predicates and replicas need them; names come out usable in DDL, since `search_path` is pg_catalog.
 */
import type { ClientBase, Pool } from "pg";
import { WalcastError } from "../errors.ts";
import { qualifiedName } from "../shapes/name.ts";
import type { Column, Table, TypeDescription } from "./table.ts";

type Queryable = Pick<ClientBase | Pool, "query">;

/** The oid of an ordinary table that can be synced. Throws `unknown_table` or `table_unsupported`. */
export async function findTable(db: Queryable, schema: string, name: string): Promise<number> {
  const { rows } = await db.query<{ oid: string; relkind: string; relpersistence: string }>(
    `select c.oid::text, c.relkind::text, c.relpersistence::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2 and n.nspname not in ('pg_catalog', 'information_schema', 'walcast', 'pg_toast')`,
    [schema, name],
  );
  const found = rows[0];
  if (!found || !"rpvmf".includes(found.relkind)) throw unknownTable(schema, name);
  if (found.relkind !== "r" || found.relpersistence !== "p") throw unsupportedTable(schema, name, found);
  return Number(found.oid);
}

export function unknownTable(schema: string, name: string): WalcastError {
  return new WalcastError(
    "unknown_table",
    `there is no table ${qualifiedName(schema, name)} that this client may read`,
    { hint: "name it in `tables` of the config, and check its spelling and schema" },
  );
}

function unsupportedTable(
  schema: string,
  name: string,
  found: { relkind: string; relpersistence: string },
): WalcastError {
  const kinds: Record<string, string> = {
    p: "a partitioned table",
    v: "a view",
    m: "a materialized view",
    f: "a foreign table",
  };
  const kind = kinds[found.relkind] ?? (found.relpersistence === "u" ? "an unlogged table" : "a temporary table");
  return new WalcastError(
    "table_unsupported",
    `sync ${qualifiedName(schema, name)}: expected an ordinary table, found ${kind}`,
    { hint: "sync the ordinary tables it is made of" },
  );
}

/** Undefined where the table is gone. */
export async function describeTable(db: Queryable, oid: number): Promise<Table | undefined> {
  const { rows } = await db.query<TableRow>(tableQuery, [oid]);
  const row = rows[0];
  if (!row) return undefined;
  const columns = (await db.query<ColumnRow>(columnsQuery, [oid])).rows;
  const types = await describeTypes(
    db,
    columns.map((column) => column.typeOid),
  );
  return asTable(oid, row, columns, types);
}

interface TableRow {
  schema: string;
  name: string;
  version: string;
  replicaIdentity: Table["replicaIdentity"];
  /** attnums of the key, in the key's order, and of the replica identity's index. */
  keyAttnums: number[] | null;
  identityAttnums: number[] | null;
}

// The columns that a key merely INCLUDEs are not of the key. A deferrable key may hold twice in the middle of a transaction,
// and then a change does not say which of the two rows it means: it is not a key to us.
const tableQuery = `
  select n.nspname as schema, c.relname as name, walcast.table_version(c.oid) as version, c.relreplident::text as "replicaIdentity",
    coalesce(
      (select (i.indkey::int2[]::int4[])[0:i.indnkeyatts - 1] from pg_index i where i.indrelid = c.oid and i.indisreplident),
      (select (i.indkey::int2[]::int4[])[0:i.indnkeyatts - 1] from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indimmediate)) as "identityAttnums",
    coalesce(
      (select (i.indkey::int2[]::int4[])[0:i.indnkeyatts - 1] from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indimmediate),
      (select (i.indkey::int2[]::int4[])[0:i.indnkeyatts - 1] from pg_index i where i.indrelid = c.oid and i.indisreplident)) as "keyAttnums"
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.oid = $1`;

interface ColumnRow extends Column {
  attnum: number;
}

// Generated columns do not travel in pgoutput unless the publication says so; a shape has the columns that both ways bring.
const columnsQuery = `
  with recursive bases as (
    select a.attnum, t.oid, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod as typmod
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    union all
    select b.attnum, t.oid, t.typtype, t.typbasetype, t.typtypmod, case when b.typtypmod >= 0 then b.typtypmod else b.typmod end
    from bases b join pg_type t on t.oid = b.typbasetype
    where b.typtype = 'd'
  )
  select a.attnum::int as attnum, a.attname as name, a.atttypid::int8::float8 as "typeOid", a.atttypmod as typmod,
    format_type(a.atttypid, a.atttypmod) as type,
    b.oid::int8::float8 as "baseTypeOid", b.typtype::text as "baseTypeKind", b.typmod as "baseTypmod",
    a.attnotnull as "notNull",
    case when b.typtype = 'e' then (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = b.oid) end as "enumLabels",
    case when c.oid is not null then json_build_object('schema', cn.nspname, 'name', c.collname, 'deterministic', c.collisdeterministic,
      'isC', case when c.collname = 'default' then (select datcollate in ('C', 'POSIX') and datlocprovider = 'c' from pg_database where datname = current_database())
             else c.collcollate in ('C', 'POSIX') and c.collprovider = 'c' end) end as collation
  from pg_attribute a
  join bases b on b.attnum = a.attnum and b.typtype <> 'd'
  left join pg_collation c on c.oid = a.attcollation
  left join pg_namespace cn on cn.oid = c.collnamespace
  where a.attrelid = $1
  order by a.attnum`;

function asTable(
  oid: number,
  row: TableRow,
  columnRows: readonly ColumnRow[],
  types: readonly TypeDescription[],
): Table {
  const positions = (attnums: readonly number[] | null): number[] =>
    (attnums ?? []).map((attnum) => columnRows.findIndex((c) => c.attnum === attnum));
  const columns = columnRows.map(asColumn);
  const key = positions(row.keyAttnums);
  const full = row.replicaIdentity === "f";
  return {
    oid,
    schema: row.schema,
    name: row.name,
    version: row.version,
    columns,
    // A key with a generated column in it never travels whole, and what is left of it need not be unique.
    key: key.includes(-1) ? [] : key,
    replicaIdentity: row.replicaIdentity,
    identityColumns: full
      ? columns.map((_, position) => position)
      : positions(row.replicaIdentity === "n" ? [] : row.identityAttnums).filter((position) => position >= 0),
    types,
  };
}

function asColumn({ attnum: _, enumLabels, collation, ...rest }: ColumnRow): Column {
  return { ...rest, ...(enumLabels ? { enumLabels } : {}), ...(collation ? { collation } : {}) };
}

interface TypeRow {
  oid: number;
  schema: string;
  name: string;
  kind: string;
  labels: string[] | null;
  base: string | null;
  attributes: { name: string; type: string }[] | null;
  needs: number[];
}

/** Every user-defined type that the given types need, dependencies before dependents. 16384 is FirstNormalObjectId. */
async function describeTypes(db: Queryable, typeOids: readonly number[]): Promise<TypeDescription[]> {
  const found = new Map<number, TypeRow>();
  let wanted = [...new Set(typeOids)];
  while (wanted.length > 0) {
    const { rows } = await db.query<TypeRow>(typesQuery, [wanted]);
    for (const row of rows) found.set(row.oid, row);
    wanted = [...new Set(rows.flatMap((row) => row.needs))].filter((oid) => !found.has(oid));
  }
  return inDependencyOrder(found).flatMap(asTypeDescription);
}

const typesQuery = `
  select t.oid::int8::float8 as oid, n.nspname as schema, t.typname as name,
    case when t.typcategory = 'A' and t.typelem <> 0 then 'array' else t.typtype::text end as kind,
    (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid) as labels,
    case t.typtype when 'd' then format_type(t.typbasetype, t.typtypmod)
      when 'r' then (select format_type(r.rngsubtype, null) from pg_range r where r.rngtypid = t.oid) end as base,
    (select json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
      from pg_attribute a where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped) as attributes,
    array_remove(array[t.typelem, t.typbasetype,
      (select r.rngsubtype from pg_range r where r.rngtypid = t.oid),
      (select r.rngtypid from pg_range r where r.rngmultitypid = t.oid)]::int8[]
      || array(select a.atttypid::int8 from pg_attribute a where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped), 0)::float8[] as needs
  from pg_type t join pg_namespace n on n.oid = t.typnamespace
  where t.oid = any($1::int8[]::oid[]) and t.oid >= 16384`;

function inDependencyOrder(types: ReadonlyMap<number, TypeRow>): TypeRow[] {
  const ordered = new Set<TypeRow>();
  const visit = (row: TypeRow): void => {
    if (ordered.has(row)) return;
    for (const need of row.needs) if (need !== row.oid && types.has(need)) visit(types.get(need)!);
    ordered.add(row);
  };
  for (const row of types.values()) visit(row);
  return [...ordered];
}

// An array type comes into being with its element's, a multirange with its range.
function asTypeDescription({ schema, name, kind, labels, base, attributes }: TypeRow): TypeDescription[] {
  switch (kind) {
    case "array":
    case "m":
      return [];
    case "e":
      return [{ kind: "enum", schema, name, labels: labels ?? [] }];
    case "d":
      return [{ kind: "domain", schema, name, base: base! }];
    case "c":
      return [{ kind: "composite", schema, name, attributes: attributes ?? [] }];
    case "r":
      return [{ kind: "range", schema, name, subtype: base! }];
    default:
      return [{ kind: "opaque", schema, name }];
  }
}
