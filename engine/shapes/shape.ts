/**
 * A shape: which rows and columns of one table. Resolved from what a client asked for, the rule that the config sets
 * for that client, and the table as it is. Two requests that mean the same make shapes with the same `key`.
 */
import { createHash } from "node:crypto";
import type { Table } from "../changes/table.ts";
import type { Auth, Sql, TableRule } from "../config.ts";
import { WalcastError } from "../errors.ts";
import type { ShapeRequest, TableDescription } from "../protocol.ts";
import { isSql } from "../sql.ts";
import { qualifiedName, quoteIdentifier } from "./name.ts";
import { both, compileWhere, everything, type Predicate, selection } from "./where.ts";

export interface Shape {
  /**
   * The shape's identity, in two halves. The first is a hash of what is asked for and may be read: table, columns, effective
   * predicate. The second is the table's version.
   */
  readonly key: string;
  readonly table: Table;
  /** Positions in `table.columns`, ascending. */
  readonly columns: readonly number[];
  readonly predicate: Predicate;
  /** Whole old rows in changes, and no rows first. */
  readonly changes: boolean;
  /** The same request under the same rule, of the table in another form. Throws where that form cannot serve it. */
  at(table: Table): Shape;
}

/** What the config lets this client read of a table: all of it, the rows that a predicate selects, or, whatever else the rule says, nothing. */
export async function readRule({ read }: TableRule, auth: Auth): Promise<Sql | boolean> {
  const allowed = typeof read === "function" ? await read(auth) : read;
  return allowed === true || isSql(allowed) ? allowed : false;
}

export function resolveShape(
  request: ShapeRequest,
  table: Table,
  rule: Sql | true,
  readable: readonly string[] | undefined,
  changes: boolean,
): Shape {
  requireKey(table);
  const columns = resolveColumns(request, table, readable);
  const predicate = effectivePredicate(request, table, rule, readable);
  requireIdentity(table, predicate, columns, { changes, readable });
  const every = (request.columns ?? readable) === undefined;
  return {
    key: identityOf(table, every ? undefined : columns, predicate, changes),
    table,
    columns,
    predicate,
    changes,
    at: (other) => resolveShape(request, other, rule, readable, changes),
  };
}

function effectivePredicate(
  request: ShapeRequest,
  table: Table,
  rule: Sql | true,
  readable: readonly string[] | undefined,
): Predicate {
  // A predicate over a column that may not be read would tell what is in it, and a refusal would tell that it is there.
  const isVisible = (position: number): boolean => isReadable(table, position, readable);
  const where =
    request.where === undefined ? everything : compileWhere(request.where, request.params ?? [], table, isVisible);
  return selection(rule === true ? where : both(compileRule(rule, table), where));
}

/** A rule may name what its clients must not hear of, so why it cannot be applied is for the engine's log. */
function compileRule(rule: Sql, table: Table): Predicate {
  try {
    return compileWhere(rule.text, rule.params, table);
  } catch (cause) {
    throw cause instanceof WalcastError ? ruleFailed(nameOf(table), cause) : cause;
  }
}

/** Deny: a rule that cannot be applied allows nothing. */
export function ruleFailed(table: string, cause: unknown): WalcastError {
  return new WalcastError("forbidden", `sync ${table}: the table's read rule cannot be applied`, {
    hint: "the engine's log says why",
    cause,
  });
}

function isReadable(table: Table, position: number, readable: readonly string[] | undefined): boolean {
  return !readable || readable.includes(table.columns[position]!.name);
}

function resolveColumns(request: ShapeRequest, table: Table, readable: readonly string[] | undefined): number[] {
  const names = request.columns ?? readable ?? table.columns.map((column) => column.name);
  const positions = names.map((name) => columnPosition(table, name, readable));
  const missing = table.key.find((position) => !positions.includes(position));
  if (missing !== undefined) throw columnsWithoutKey(table, missing, readable);
  return [...new Set(positions)].sort((a, b) => a - b);
}

function columnPosition(table: Table, name: string, readable: readonly string[] | undefined): number {
  const position = table.columns.findIndex((column) => column.name === name);
  if (position < 0 || (readable && !readable.includes(name))) throw unknownColumn(table, name);
  return position;
}

function unknownColumn(table: Table, name: string): WalcastError {
  return new WalcastError(
    "unknown_column",
    `sync ${nameOf(table)}: there is no column ${JSON.stringify(name)} that this client may read`,
  );
}

function columnsWithoutKey(table: Table, missing: number, readable: readonly string[] | undefined): WalcastError {
  if (!table.key.every((position) => isReadable(table, position, readable)))
    return new WalcastError(
      "columns_without_key",
      `sync ${nameOf(table)}: expected that its whole key may be read, found that it may not`,
      { hint: "add the key's columns to the table's `columns` in the config" },
    );
  const key = table.key.map((position) => table.columns[position]!.name);
  return new WalcastError(
    "columns_without_key",
    `sync ${nameOf(table)}: expected the columns of its key (${key.join(", ")}), found no ${table.columns[missing]!.name}`,
    { hint: "add the key's columns to `columns`" },
  );
}

function requireKey(table: Table): void {
  if (table.key.length > 0) return;
  throw new WalcastError(
    "table_without_key",
    `sync ${nameOf(table)}: expected a primary key that is not deferrable, found none`,
    { hint: `run \`ALTER TABLE ${nameOf(table)} ADD PRIMARY KEY (…)\`` },
  );
}

/** Without FULL nobody can know that a row left, unless the predicate reads only what old tuples carry. */
function requireIdentity(
  table: Table,
  predicate: Predicate,
  columns: readonly number[],
  { changes, readable }: { changes: boolean; readable: readonly string[] | undefined },
): void {
  const needed = changes
    ? [...new Set([...predicate.columns, ...columns])]
    : [...new Set([...predicate.columns, ...table.key])];
  const missing = needed.find((position) => !table.identityColumns.includes(position));
  if (missing === undefined) return;
  const found = isReadable(table, missing, readable) ? table.columns[missing]!.name : "what its read rule reads";
  throw new WalcastError(
    "replica_identity_missing",
    `sync ${nameOf(table)}: its replica identity does not carry ${found}`,
    { hint: `run \`ALTER TABLE ${nameOf(table)} REPLICA IDENTITY FULL\`` },
  );
}

/** A shape of every column, whichever they are, stays the same when the table gets another one. */
function identityOf(
  table: Table,
  columns: readonly number[] | undefined,
  predicate: Predicate,
  changes: boolean,
): string {
  const names = columns?.map((position) => table.columns[position]!.name) ?? null;
  const meaning = JSON.stringify([table.oid, names, predicate.canonical, changes]);
  return `${createHash("sha256").update(meaning).digest("base64url").slice(0, 22)}.${table.version}`;
}

/** Whether an identity was given for the same rows and columns, if of another version of the table. */
export function isSameAccess(identity: string, { key }: Shape): boolean {
  return accessOf(identity) === accessOf(key);
}

function accessOf(identity: string): string {
  return identity.slice(0, identity.indexOf("."));
}

/** The rows of the shape, as one SELECT without parameters: COPY takes none. */
export function selectSql(shape: Shape): string {
  const columns = shape.columns.map((position) => quoteIdentifier(shape.table.columns[position]!.name));
  const where = shape.predicate === everything ? "" : ` WHERE ${shape.predicate.sql}`;
  return `SELECT ${columns.join(", ")} FROM ${nameOf(shape.table)}${where}`;
}

/** How many rows there are, and the sum of their hashes, as docs/protocol.md has them under `audit`. */
export function sumSql(shape: Shape): string {
  const names = shape.columns.map((_, i) => `c${i}`);
  const row = names.map((name) => `coalesce(length(${name}::text)::text || ':' || ${name}::text, 'n')`).join(" || ");
  return `SELECT count(*)::text AS rows, coalesce(sum(('x' || left(md5(${row}), 16))::bit(64)::bigint), 0)::text AS hash FROM (${selectSql(shape)}) AS shape (${names.join(", ")})`;
}

export function describeShape(shape: Shape): TableDescription {
  const { table } = shape;
  const types = new Set(shape.columns.flatMap((position) => table.columns[position]!.types ?? []));
  return {
    oid: table.oid,
    schema: table.schema,
    name: table.name,
    version: table.version,
    identity: shape.key,
    columns: shape.columns.map((position) => {
      const { name, type, notNull } = table.columns[position]!;
      return { name, type, notNull };
    }),
    key: table.key.map((position) => table.columns[position]!.name),
    types: table.types.filter((_, position) => types.has(position)),
  };
}

function nameOf(table: Table): string {
  return qualifiedName(table.schema, table.name);
}
