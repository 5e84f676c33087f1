/**
 * A shape: which rows and columns of one table. Resolved from what a client asked for, the rule that the config sets
 * for that client, and the table as it is. Two requests that mean the same make shapes with the same `key`.
 */
import type { Table } from "../changes/table.ts";
import type { Auth, Sql, TableRule } from "../config.ts";
import { WalcastError } from "../errors.ts";
import type { ShapeRequest, TableDescription } from "../protocol.ts";
import { isSql } from "../sql.ts";
import { type Access, accessTo } from "./access.ts";
import { digestOf } from "./digest.ts";
import { isLong, keepNode, keptNode, longKey } from "./long.ts";
import { qualifiedName, quoteIdentifier } from "./name.ts";
import type { Sent } from "./numbered.ts";
import { Recent } from "./recent.ts";
import type { Node } from "./where/node.ts";
import {
  both,
  compileVetted,
  compileWhere,
  everything,
  isConstant,
  type Predicate,
  predicateFrom,
  selection,
} from "./where.ts";

/**
 * While no row of it changes a shape is little more than its parameters: there may be a million. What it has in common
 * with others is theirs together, and its predicate is made from what was asked for whenever somebody needs it: unless that
 * takes long.
 */
export class Shape {
  /** A hash of what is asked for and may be read: table, columns, effective predicate. */
  readonly digest: string;
  private readonly access: Access;
  private readonly where: string | undefined;
  private readonly params: readonly unknown[];
  private readonly ruleParams: readonly unknown[];
  private readonly kept: Node | undefined;

  /** Throws where the request is refused. `vetted`: of this very request, of the table as it is. */
  constructor(
    access: Access,
    where: string | undefined,
    params: readonly unknown[],
    ruleParams: readonly unknown[],
    vetted?: string,
  ) {
    this.access = access;
    this.where = where;
    this.params = params;
    this.ruleParams = ruleParams;
    this.kept = isLong(where, params, ruleParams) ? this.keep(vetted) : undefined;
    const predicate = this.kept ? predicateFrom({ node: this.kept }) : this.makePredicate();
    requireIdentity(access, predicate);
    this.digest = digestOf(meaningOf(access, predicate));
    latest = { shape: this, node: predicate.node };
  }

  /** The shape's identity. Its second half is the table's version. */
  get key(): string {
    return `${this.digest}.${this.table.version}`;
  }

  /** A hash of what may be read of the table, whatever was asked for and whichever form the table has. */
  get right(): string {
    const { table, readable, ruleText } = this.access;
    const text = (_: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);
    return digestOf(JSON.stringify([table.schema, table.name, readable, ruleText, this.ruleParams], text));
  }

  get table(): Table {
    return this.access.table;
  }

  /** Positions in `table.columns`, ascending. */
  get columns(): readonly number[] {
    return this.access.columns;
  }

  /** Whole old rows in changes, and no rows first. */
  get changes(): boolean {
    return this.access.changes;
  }

  /** Both of these: one object for all shapes that have it in common. */
  get sent(): Sent {
    return this.access;
  }

  get predicate(): Predicate {
    return predicateFrom(this);
  }

  /** The same request under the same rule, of the table in another form. Throws where that form cannot serve it. */
  at(table: Table): Shape {
    return new Shape(this.access.at(table), this.where, this.params, this.ruleParams);
  }

  /** The predicate's. */
  get node(): Node {
    if (this.kept) return this.kept;
    if (latest?.shape !== this) latest = { shape: this, node: this.makePredicate().node };
    return latest.node;
  }

  private keep(vetted: string | undefined): Node {
    const key = longKey(this.where, this.params, this.ruleParams);
    const known = keptNode(this.access, key);
    if (known) return known;
    const { node } = this.makePredicate(vetted);
    keepNode(this.access, key, node);
    return node;
  }

  private makePredicate(vetted?: string): Predicate {
    const { table, ruleText } = this.access;
    const where = this.where === undefined ? everything : this.compile(this.where, vetted);
    return selection(ruleText === undefined ? where : both(compileRule(ruleText, this.ruleParams, table), where));
  }

  private compile(where: string, vetted: string | undefined): Predicate {
    const { table, isVisible } = this.access;
    return vetted === undefined
      ? compileWhere(where, this.params, table, isVisible)
      : compileVetted(vetted, where, this.params, table, isVisible);
  }
}

/** Who subscribes asks for the predicate several times in a row. */
let latest: { readonly shape: Shape; readonly node: Node } | undefined;

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
  vetted?: string,
): Shape {
  const access = accessTo(table, { asked: request.columns, readable, ruleText: textOf(rule), changes });
  const where = request.where && texts.get(request.where, () => request.where!);
  return new Shape(access, where, copied(request.params), paramsOf(rule), vetted);
}

/** Whether `resolveShape` would read a condition that nobody else has, and whose length a client chose. */
export function takesLong(
  request: ShapeRequest,
  table: Table,
  rule: Sql | true,
  readable: readonly string[] | undefined,
  changes: boolean,
): boolean {
  const { where, params = none, columns: asked } = request;
  if (where === undefined || !isLong(where, params)) return false;
  const access = accessTo(table, { asked, readable, ruleText: textOf(rule), changes });
  return !keptNode(access, longKey(where, params, paramsOf(rule)));
}

function textOf(rule: Sql | true): string | undefined {
  return rule === true ? undefined : rule.text;
}

function paramsOf(rule: Sql | true): readonly unknown[] {
  return rule === true ? none : copied(rule.params);
}

/** Each request comes with a copy of its own of the same few texts. */
const texts = new Recent<string>(1000);

/** A server's own code may go on to change what it handed in. */
function copied(params: readonly unknown[] = []): readonly unknown[] {
  return params.length === 0 ? none : params.map((value) => (Array.isArray(value) ? [...(value as unknown[])] : value));
}

const none: readonly never[] = [];

/** A rule may name what its clients must not hear of, so why it cannot be applied is for the engine's log. */
function compileRule(text: string, params: readonly unknown[], table: Table): Predicate {
  try {
    return compileWhere(text, params, table);
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

/** Without FULL nobody can know that a row left, unless the predicate reads only what old tuples carry. */
function requireIdentity({ table, columns, changes, isVisible }: Access, predicate: Predicate): void {
  const needed = new Set([...predicate.columns, ...(changes ? columns : table.key)]);
  const missing = [...needed].find((position) => !table.identityColumns.includes(position));
  if (missing === undefined) return;
  const found = isVisible(missing) ? table.columns[missing]!.name : "what its read rule reads";
  throw new WalcastError(
    "replica_identity_missing",
    `sync ${nameOf(table)}: its replica identity does not carry ${found}`,
    { hint: `run \`ALTER TABLE ${nameOf(table)} REPLICA IDENTITY FULL\`` },
  );
}

/** A shape of every column, whichever they are, stays the same when the table gets another one. */
function meaningOf({ table, asked, readable, columns, changes }: Access, predicate: Predicate): string {
  const isEvery = (asked ?? readable) === undefined;
  const names = isEvery ? null : columns.map((position) => table.columns[position]!.name);
  return JSON.stringify([table.oid, names, predicate.canonical, changes]);
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
  const { predicate } = shape;
  const where = isConstant(predicate, true) ? "" : ` WHERE ${predicate.sql}`;
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
    access: shape.right,
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
