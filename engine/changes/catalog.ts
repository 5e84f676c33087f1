/**
 * A table's description, as `walcast.describe_table` tells it: from the catalog, or from the stream, where the event
 * triggers have put it. Types are resolved down to their bases, because predicates and replicas need them; names come out
 * usable in DDL, since the function's `search_path` is pg_catalog.
 */
import type { ClientBase, Pool } from "pg";
import { WalcastError } from "../errors.ts";
import { qualifiedName } from "../shapes/name.ts";
import type { Column, Table, TypeDescription } from "./table.ts";

type Queryable = Pick<ClientBase | Pool, "query">;

/** The oid of a table that can be synced. Throws `unknown_table` or `table_unsupported`. */
export async function findTable(db: Queryable, schema: string, name: string): Promise<number> {
  const { rows } = await db.query<FoundTable>(
    `select c.oid::text, c.relkind::text, c.relpersistence::text,
       c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid) as "hasChildren",
       (select json_agg(json_build_object('name', l.oid::regclass::text, 'relkind', l.relkind, 'relpersistence', l.relpersistence))
        from pg_partition_tree(c.oid) p join pg_class l on l.oid = p.relid where l.relkind not in ('r', 'p') or l.relpersistence <> 'p') as "unfitLeaves"
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2 and n.nspname not in ('pg_catalog', 'information_schema', 'walcast', 'pg_toast')`,
    [schema, name],
  );
  const found = rows[0];
  if (!found || !"rpvmf".includes(found.relkind)) throw unknownTable(schema, name);
  const unfit = unfitness(found);
  if (unfit !== undefined) throw unsupportedTable(schema, name, unfit);
  return Number(found.oid);
}

interface FoundTable extends Kind {
  oid: string;
  hasChildren: boolean;
  unfitLeaves: (Kind & { name: string })[] | null;
}

interface Kind {
  relkind: string;
  relpersistence: string;
}

export function unknownTable(schema: string, name: string): WalcastError {
  return new WalcastError(
    "unknown_table",
    `there is no table ${qualifiedName(schema, name)} that this client may read`,
    { hint: "name it in `tables` of the config, and check its spelling and schema" },
  );
}

const kinds: Readonly<Record<string, string>> = { v: "a view", m: "a materialized view", f: "a foreign table" };

function unfitness(found: FoundTable): string | undefined {
  const leaf = found.unfitLeaves?.[0];
  if (found.relkind === "p" && leaf) return `${unfitKind(leaf)} among its partitions (${leaf.name})`;
  // A query of the parent has the children's rows; the stream has them under the children's names.
  if (found.hasChildren) return "one that other tables inherit from";
  return unfitKind(found);
}

function unfitKind({ relkind, relpersistence }: Kind): string | undefined {
  if (relkind !== "r" && relkind !== "p") return kinds[relkind] ?? "something else";
  if (relpersistence === "p") return undefined;
  return relpersistence === "u" ? "an unlogged table" : "a temporary table";
}

function unsupportedTable(schema: string, name: string, found: string): WalcastError {
  return new WalcastError(
    "table_unsupported",
    `sync ${qualifiedName(schema, name)}: expected an ordinary or a partitioned table, found ${found}`,
    { hint: "sync the ordinary tables it is made of" },
  );
}

/** Undefined where the table is gone. */
export async function describeTable(db: Queryable, oid: number): Promise<Table | undefined> {
  const { rows } = await db.query<{ description: Description | null }>(
    "select walcast.describe_table($1::int8::oid) as description",
    [oid],
  );
  return rows[0]?.description ? asTable(rows[0].description) : undefined;
}

/** What `walcast.describe_table` says, as JSON text: how a description travels in the stream. */
export function parseDescription(json: string): Table {
  return asTable(JSON.parse(json) as Description);
}

interface Description {
  readonly version: string;
  readonly form: Form;
  /** By attnum. */
  readonly missing: Readonly<Record<string, string>> | null;
}

interface Form {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly kind: string;
  readonly replicaIdentity: Table["replicaIdentity"];
  /** Names; null where old rows are whole. */
  readonly identity: readonly string[] | null;
  readonly key: readonly string[] | null;
  readonly columns: readonly ColumnForm[] | null;
  readonly types: readonly TypeForm[] | null;
  readonly leaves: readonly LeafForm[] | null;
}

interface ColumnForm extends Omit<Column, "enumLabels" | "collation" | "missing" | "types"> {
  readonly enumLabels: readonly string[] | null;
  readonly collation: NonNullable<Column["collation"]> | null;
}

interface LeafForm {
  readonly oid: number;
  /** Names in the leaf's order; null where it is the root's. */
  readonly columns: readonly string[] | null;
  readonly identity: readonly string[] | null;
}

function asTable({ version, form, missing }: Description): Table {
  const types = new Types(form.types ?? []);
  const columns = (form.columns ?? []).map((column) => asColumn(column, missing ?? {}, types));
  const names = columns.map((column) => column.name);
  const key = (form.key ?? []).map((name) => names.indexOf(name));
  const { oid, schema, name, replicaIdentity } = form;
  return {
    oid,
    schema,
    name,
    version,
    columns,
    // A key with a generated column in it never travels whole, and what is left of it need not be unique.
    key: key.includes(-1) ? [] : key,
    types: types.described.map(({ description }) => description),
    ...(form.kind === "p"
      ? asRoot(form.leaves ?? [], names)
      : { replicaIdentity, identityColumns: positions(form.identity, names) }),
  };
}

/** What a root's rows carry is up to its leaves. */
function asRoot(
  leaves: readonly LeafForm[],
  names: readonly string[],
): Pick<Table, "replicaIdentity" | "identityColumns" | "leaves"> {
  const carried = leaves.map((leaf) => new Set(positions(leaf.identity, names)));
  const everywhere = names.map((_, position) => position).filter((p) => carried.every((leaf) => leaf.has(p)));
  return {
    replicaIdentity: leaves.every((leaf) => leaf.identity === null) ? "f" : "d",
    identityColumns: everywhere,
    leaves: leaves.map(({ oid, columns }) => ({ oid, columns: positions(names, columns ?? names) })),
  };
}

/** Where each of these is among `names`; all of them for null. Generated columns are not. */
function positions(wanted: readonly string[] | null, names: readonly string[]): number[] {
  return (wanted ?? names).map((name) => names.indexOf(name)).filter((position) => position >= 0);
}

function asColumn(
  { enumLabels, collation, ...rest }: ColumnForm,
  missing: Readonly<Record<string, string>>,
  types: Types,
): Column {
  const value = missing[rest.attnum];
  const needed = types.neededBy(rest.typeOid);
  return {
    ...rest,
    ...(needed.length > 0 ? { types: needed } : {}),
    ...(enumLabels ? { enumLabels } : {}),
    ...(collation ? { collation } : {}),
    ...(value === undefined ? {} : { missing: value }),
  };
}

interface TypeForm {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly kind: string;
  readonly labels: readonly string[] | null;
  readonly base: string | null;
  readonly multirange: { readonly schema: string; readonly name: string } | null;
  readonly attributes: readonly { readonly name: string; readonly type: string }[] | null;
  readonly needs: readonly number[] | null;
}

/** The user-defined types of a table. */
class Types {
  private readonly byOid: ReadonlyMap<number, TypeForm>;
  /** Dependencies first. */
  readonly described: readonly { readonly oid: number; readonly description: TypeDescription }[];

  constructor(types: readonly TypeForm[]) {
    this.byOid = new Map(types.map((type) => [type.oid, type]));
    this.described = [...this.closure(types.map(({ oid }) => oid))].flatMap((type) =>
      asTypeDescription(type).map((description) => ({ oid: type.oid, description })),
    );
  }

  /** Positions in `described`. */
  neededBy(oid: number): number[] {
    const needed = new Set([...this.closure([oid])].map((type) => type.oid));
    return [...this.described.keys()].filter((position) => needed.has(this.described[position]!.oid));
  }

  /** With all that they need, dependencies first. */
  private closure(oids: readonly number[]): Set<TypeForm> {
    const ordered = new Set<TypeForm>();
    const visit = (oid: number): void => {
      const type = this.byOid.get(oid);
      if (!type || ordered.has(type)) return;
      for (const need of type.needs ?? []) if (need !== oid) visit(need);
      ordered.add(type);
    };
    oids.forEach(visit);
    return ordered;
  }
}

// An array type comes into being with its element's, a multirange with its range.
function asTypeDescription({ schema, name, kind, labels, base, multirange, attributes }: TypeForm): TypeDescription[] {
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
      return [{ kind: "range", schema, name, subtype: base!, multirange: multirange! }];
    default:
      return [{ kind: "opaque", schema, name }];
  }
}
