/**
 * From a query to how it is kept current. Postgres itself is asked for its parse, inside the replica's turn; what the
 * parse cannot say (what functions and operators are) its catalog does.
 */
import type { Database } from "../database.ts";
import type { Statement } from "../statements.ts";
import { type Limit, NotIncremental, type Outline, outlineOf, type Sort, withoutLimit } from "./analysis.ts";
import { comparisonOf, type OrderColumn } from "./order.ts";
import { type KeyColumn, Restriction } from "./restriction.ts";
import { readTree, type TreeNode } from "./tree.ts";

/** How a result follows the keys that changed in its one table. */
export interface Plan {
  readonly restriction: Restriction;
  /** Where the primary key stands in the result. */
  readonly key: readonly number[];
  readonly order: readonly OrderColumn[];
  readonly limit: Limit | undefined;
}

export interface KeyedTable {
  readonly oid: number;
  /** Attribute numbers. */
  readonly key: readonly number[];
}

/** Why there is none: the query has to run again. */
export interface NoPlan {
  readonly why: string;
}

/** Inside a transaction, which may be of no use any more afterwards. */
export function planOf(database: Database, statement: Statement, tables: readonly KeyedTable[]): Plan | NoPlan {
  try {
    const [table] = tables;
    if (!table) throw new NotIncremental("it reads no table");
    if (tables.length > 1) throw new NotIncremental("it reads more than one table");
    return planned(database, statement, table);
  } catch (error) {
    return { why: error instanceof NotIncremental ? error.message : `it could not be analysed: ${String(error)}` };
  }
}

export function isPlan(plan: Plan | NoPlan | undefined): plan is Plan {
  return plan !== undefined && "restriction" in plan;
}

function planned(database: Database, { sql, columns, parameterTypes }: Statement, table: KeyedTable): Plan {
  const parse = parseOf(database, sql, parameterTypes);
  const outline = outlineOf(parse);
  refuseFunctions(database, outline.functions);
  const order = orderOf(database, outline.sorts);
  const key = keyOf(database, table, outline);
  const inner = untilLimit(sql);
  if (withoutLimit(parseOf(database, inner, parameterTypes)) !== withoutLimit(parse))
    throw new NotIncremental("its LIMIT could not be taken off");
  const restriction = new Restriction(inner, columns.length, parameterTypes, key);
  restriction.prepare(database);
  return { restriction, key: key.map(({ column }) => column), order, limit: outline.limit };
}

function parseOf(database: Database, sql: string, parameterTypes: readonly number[]): TreeNode {
  return readTree(database.parseTree(sql, parameterTypes));
}

/** Of date and time types, and their arrays: words that mean another moment each time they are read. */
const momentTypes = new Set([1082, 1083, 1114, 1115, 1182, 1183, 1184, 1185, 1266, 1270]);
const momentWords = /\b(now|today|tomorrow|yesterday)\b/i;

export function namesMoments(values: readonly (string | null)[], parameterTypes: readonly number[]): boolean {
  return values.some((value, i) => value !== null && momentTypes.has(parameterTypes[i]!) && momentWords.test(value));
}

// ── Functions ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Everything from here on was made by somebody (FirstNormalObjectId). */
const FIRST_USER_OID = 16_384;

/** Postgres calls them stable for the session settings they look at, and those stay as they are. */
const steady = new Set([
  ...["date_trunc", "date_part", "extract", "timezone", "to_char", "to_date", "to_timestamp", "to_number"],
  ...["date", "time", "timetz", "timestamp", "timestamptz", "timestamptz_pl_interval", "timestamptz_mi_interval"],
  ...["interval_pl_timestamptz", "concat", "concat_ws", "format", "array_to_string", "textanycat", "anytextcat"],
  ...["to_json", "to_jsonb", "row_to_json", "array_to_json", "json_build_object", "json_build_array"],
  ...["jsonb_build_object", "jsonb_build_array", "to_tsvector", "to_tsquery", "plainto_tsquery"],
  ...["phraseto_tsquery", "websearch_to_tsquery", "quote_literal", "quote_nullable"],
]);

/** `date_lt_timestamptz` and so on. */
const steadyComparison = /^(date|timestamp|timestamptz)_(eq|ne|lt|le|gt|ge|cmp)_(date|timestamp|timestamptz)$/;

function refuseFunctions(database: Database, oids: readonly number[]): void {
  const query =
    "SELECT oid::int8 AS oid, proname, provolatile = 's' AS stable FROM pg_proc WHERE oid = ANY ($1::oid[]) AND (provolatile <> 'i' OR oid >= $2)";
  for (const { oid, proname, stable } of database.rows(query, [oids, FIRST_USER_OID])) {
    const name = String(proname);
    if (Number(oid) >= FIRST_USER_OID) throw new NotIncremental(`it calls ${name}, which may do anything`);
    if (stable !== true || !(steady.has(name) || steadyComparison.test(name)))
      throw new NotIncremental(`it calls ${name}, which may give something else each time`);
  }
}

// ── Order ────────────────────────────────────────────────────────────────────────────────────────────────────────────

// pg_collation.oid: the database's own, "C" and "POSIX". https://www.postgresql.org/docs/current/collation.html
const DEFAULT_COLLATION = 100;
const byteCollations = new Set([0, 950, 951]);

/** Types whose order a collation decides: text and character(n). */
const collated = new Set([25, 1042]);

function orderOf(database: Database, sorts: readonly Sort[]): OrderColumn[] {
  if (sorts.length === 0) return [];
  const query = `
    SELECT oid::int8 AS oid, oprname, oprleft::int8 AS type,
      (SELECT datcollate IN ('C', 'POSIX') AND datlocprovider = 'c' FROM pg_database WHERE datname = current_database()) AS bytes
    FROM pg_operator WHERE oid = ANY ($1::oid[]) AND oprname IN ('<', '>') AND oid < $2`;
  const operators = new Map(
    database
      .rows(query, [sorts.map(({ operator }) => operator), FIRST_USER_OID])
      .map(({ oid, ...operator }) => [Number(oid), operator]),
  );
  return sorts.map(({ column, operator, nullsFirst, collation }) => {
    const found = operators.get(operator);
    const type = Number(found?.type);
    const compare = comparisonOf(type);
    const isByBytes = byteCollations.has(collation) || (collation === DEFAULT_COLLATION && found?.bytes === true);
    if (!found || !compare || (collated.has(type) && !isByBytes))
      throw new NotIncremental("it is ordered by a type, or a collation, whose order is only Postgres' to tell");
    return { column, compare, descending: found.oprname === ">", nullsFirst };
  });
}

// ── Key ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Types of which equal values have equal texts: what the server names a key is what it is called here. */
const namedAlike = [16, 17, 19, 20, 21, 23, 25, 26, 1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950];

function keyOf(database: Database, { oid, key }: KeyedTable, { columns }: Outline): KeyColumn[] {
  const query = `
    SELECT a.attnum, CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN format_type(t.oid, -1)
      ELSE format('%I.%I', n.nspname, t.typname) END AS type
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE a.attrelid = $1 AND a.attnum = ANY ($2::int2[])
      AND (t.typtype = 'e' OR CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END = ANY ($3::oid[]))`;
  const types = new Map(
    database.rows(query, [oid, key, namedAlike]).map(({ attnum, type }) => [Number(attnum), String(type)]),
  );
  if (key.length === 0) throw new NotIncremental("its table has no primary key");
  return key.map((attribute) => {
    const column = columns.get(attribute);
    const type = types.get(attribute);
    if (column === undefined) throw new NotIncremental("its result does not have the table's primary key");
    if (type === undefined)
      throw new NotIncremental("its table's primary key is of a type whose values can be written in several ways");
    return { column, type };
  });
}

// ── Limit ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const tokens = new RegExp(
  [
    String.raw`[eE]'(?:\\[^]|''|[^'\\])*'`,
    String.raw`'(?:''|[^'])*'`,
    String.raw`"(?:""|[^"])*"`,
    String.raw`\$([\p{L}_][\p{L}\p{N}_]*)?\$[^]*?\$\1\$`,
    String.raw`--[^\n]*`,
    String.raw`/\*[^]*?\*/`,
    String.raw`[\p{L}_][\p{L}\p{N}_$]*`,
    String.raw`[^]`,
  ].join("|"),
  "gu",
);

/** Up to what follows ORDER BY. Where this rough reading of SQL errs, the two parses are not the same. */
function untilLimit(sql: string): string {
  let depth = 0;
  for (const { 0: token, index } of sql.matchAll(tokens)) {
    if (token === "(") depth++;
    if (token === ")") depth--;
    if (depth === 0 && /^(limit|fetch|;)$/i.test(token)) return sql.slice(0, index);
  }
  return sql;
}
