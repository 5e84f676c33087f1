/**
 * The SQL of local tables: names, types, DDL, and the statements that write rows. A local table has the server's
 * columns and types and its primary key, and nothing else: with any other constraint a legal upstream state could fail
 * halfway through its transaction.
 */
import { type AddedColumn, type TableDescription, type TypeDescription, WalcastError } from "../engine/protocol.ts";
import { identifier, qualified, quoteIdentifier, type TableName, unquote } from "./table-name.ts";

export { qualified, quoteIdentifier } from "./table-name.ts";

export function quoteLiteral(text: string): string {
  // E'' reads the same whatever standard_conforming_strings says.
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

/** The comment on everything that is ours in an application's schemas. */
export const mark = "kept by walcast";

// ── Types ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const typePattern = new RegExp(String.raw`^(${identifier})\.(${identifier})(.*)$`, "u");

/** Types that a replica may not have; their columns hold the text. */
export type OpaqueTypes = ReadonlySet<string>;

export function opaqueTypesOf(types: readonly TypeDescription[]): OpaqueTypes {
  return new Set(types.filter(({ kind }) => kind === "opaque").map(qualified));
}

// A value of these is a number that stands for something of the server's catalog, written as its name: here, nothing has it.
const namesOfTheCatalog =
  /^(aclitem|reg(class|collation|config|database|dictionary|namespace|oper|operator|proc|procedure|role|type))(\[\])?$/;

/** Also of their arrays. */
export function isNameOfTheCatalog(type: string): boolean {
  return namesOfTheCatalog.test(type);
}

/** A column's type here: the server's own spelling, or text where a replica may not know the type or its values. */
export function localType(type: string, opaque: OpaqueTypes): string {
  if (isNameOfTheCatalog(type)) return type.endsWith("[]") ? "text[]" : "text";
  const userType = userTypeOf(type);
  if (userType === undefined || !opaque.has(userType)) return type;
  return type.endsWith("[]") ? "text[]" : "text";
}

/** Names of the user's types that this one is made of. */
export function typesUnder(type: TypeDescription): string[] {
  const parts =
    type.kind === "composite"
      ? type.attributes.map((attribute) => attribute.type)
      : type.kind === "domain"
        ? [type.base]
        : type.kind === "range"
          ? [type.subtype]
          : [];
  return parts.flatMap((part) => userTypeOf(part) ?? []);
}

/** Gives a type other names. A range comes with a multirange, and both with functions of their names. */
export function setTypeAside(type: TypeDescription, newName: () => string): string[] {
  const rename = (of: TableName): string => `ALTER TYPE ${qualified(of)} RENAME TO ${quoteIdentifier(newName())}`;
  if (type.kind !== "range") return [rename(type)];
  const both = [type, type.multirange].map((one) => `${quoteLiteral(qualified(one))}::regtype`).join(", ");
  const constructors = `DO $do$ DECLARE function regprocedure; BEGIN
    FOR function IN SELECT p.oid FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype AND t.typname = p.proname WHERE t.oid IN (${both})
    LOOP EXECUTE format('ALTER FUNCTION %s RENAME TO %I', function, ${quoteLiteral(newName())}); END LOOP; END $do$`;
  return [constructors, rename(type), rename(type.multirange)];
}

/** Undefined for one of Postgres' own. */
export function userTypeOf(type: string): string | undefined {
  const parts = typePattern.exec(type);
  return parts ? qualified({ schema: unquote(parts[1]!), name: unquote(parts[2]!) }) : undefined;
}

export function createType(type: TypeDescription, opaque: OpaqueTypes): string {
  const name = qualified(type);
  switch (type.kind) {
    case "enum":
      return `CREATE TYPE ${name} AS ENUM (${type.labels.map(quoteLiteral).join(", ")})`;
    case "domain":
      return `CREATE DOMAIN ${name} AS ${localType(type.base, opaque)}`;
    case "composite":
      return `CREATE TYPE ${name} AS (${type.attributes.map((a) => `${quoteIdentifier(a.name)} ${localType(a.type, opaque)}`).join(", ")})`;
    case "range":
      return `CREATE TYPE ${name} AS RANGE (SUBTYPE = ${localType(type.subtype, opaque)}, MULTIRANGE_TYPE_NAME = ${qualified(type.multirange)})`;
    case "opaque":
      throw new Error(`an opaque type (${name}) is not created`);
  }
}

/** The statement for each label that was only added; undefined if the difference is another one. */
export function addedLabels(before: TypeDescription, now: TypeDescription): string[] | undefined {
  if (before.kind !== "enum" || now.kind !== "enum") return undefined;
  const kept = now.labels.filter((label) => before.labels.includes(label));
  if (kept.length !== before.labels.length || kept.some((label, i) => label !== before.labels[i])) return undefined;
  const name = qualified(now);
  return now.labels.flatMap((label, i) => {
    if (before.labels.includes(label)) return [];
    const place = i === 0 ? `BEFORE ${quoteLiteral(before.labels[0]!)}` : `AFTER ${quoteLiteral(now.labels[i - 1]!)}`;
    return [`ALTER TYPE ${name} ADD VALUE ${quoteLiteral(label)} ${before.labels.length === 0 ? "" : place}`];
  });
}

// ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Without its key: rows are loaded first, twice as fast. */
export function createTable(name: string, description: TableDescription): string {
  const opaque = opaqueTypesOf(description.types);
  const columns = description.columns.map(
    ({ name: column, type }) => `${quoteIdentifier(column)} ${localType(type, opaque)}`,
  );
  return `CREATE TABLE ${name} (${columns.join(", ")}); COMMENT ON TABLE ${name} IS ${quoteLiteral(mark)}`;
}

export function addPrimaryKey(name: string, description: TableDescription): string {
  return `ALTER TABLE ${name} ADD PRIMARY KEY (${keyList(description)})`;
}

/** From one form of a table to the next that its rows can be brought to in place. Throws `replica_failed` where they cannot. */
export function addColumns(
  name: string,
  before: TableDescription,
  now: TableDescription,
  added: readonly AddedColumn[],
): string[] {
  const opaque = opaqueTypesOf(now.types);
  const known = new Map(before.columns.map((column) => [column.name, column.type]));
  const isSame = before.columns.every((column) =>
    now.columns.some((one) => one.name === column.name && one.type === column.type),
  );
  if (!isSame || before.key.join() !== now.key.join())
    throw new WalcastError(
      "replica_failed",
      `alter ${name}: expected columns that are only added, found other changes`,
    );
  return now.columns
    .filter((column) => !known.has(column.name))
    .flatMap((column) => {
      const value = added.find((one) => one.name === column.name)?.value ?? null;
      const quoted = quoteIdentifier(column.name);
      const add = `ALTER TABLE ${name} ADD COLUMN ${quoted} ${localType(column.type, opaque)}`;
      if (value === null) return [add];
      // A default that is dropped at once gives the rows that are there their value without rewriting them.
      return [`${add} DEFAULT ${quoteLiteral(value)}`, `ALTER TABLE ${name} ALTER COLUMN ${quoted} DROP DEFAULT`];
    });
}

/** A table's columns as the replica's own catalog has them, whose types may have other names than the server's. */
export interface LocalForm {
  readonly columns: readonly LocalColumn[];
  readonly key: readonly string[];
}

export interface LocalColumn {
  readonly name: string;
  /** As a cast spells it. */
  readonly type: string;
  /** The same, or what lies below a domain. */
  readonly base: string;
}

/** Equal texts mean that rows of one description can stand in the table of the other. */
export function layoutOf({ columns, key, types }: TableDescription): string {
  return JSON.stringify([columns.map(({ name, type }) => [name, type]), key, types]);
}

export function columnList({ columns }: { readonly columns: readonly { readonly name: string }[] }): string {
  return columns.map(({ name }) => quoteIdentifier(name)).join(", ");
}

export function keyList({ key }: { readonly key: readonly string[] }): string {
  return key.map(quoteIdentifier).join(", ");
}

// ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The statements that write a table's rows, by its name and form. */
export interface WriteStatements {
  readonly upsertOne: string;
  /** One text[] per column. */
  readonly upsertMany: string;
  readonly deleteOne: string;
  /** One text[] per key column. */
  readonly deleteMany: string;
  readonly deleteAll: string;
}

export function writeStatements(name: string, form: LocalForm): WriteStatements {
  const columns = columnList(form);
  const values = form.columns.map((_, i) => `$${i + 1}`).join(", ");
  const conflict = onConflict(form);
  return {
    upsertOne: `INSERT INTO ${name} (${columns}) VALUES (${values}) ${conflict}`,
    upsertMany: `INSERT INTO ${name} (${columns}) SELECT ${castColumns(form)} FROM ${unnested(form.columns.length)} ${conflict}`,
    deleteOne: `DELETE FROM ${name} WHERE ${keyIs(form)}`,
    deleteMany: `DELETE FROM ${name} t USING ${unnestedKeys(form)} WHERE ${keysEqual(form, "t", "k")}`,
    deleteAll: `DELETE FROM ${name}`,
  };
}

export function onConflict(form: LocalForm): string {
  const others = form.columns.filter(({ name }) => !form.key.includes(name)).map(({ name }) => quoteIdentifier(name));
  const action =
    others.length === 0 ? "NOTHING" : `UPDATE SET ${others.map((name) => `${name} = EXCLUDED.${name}`).join(", ")}`;
  return `ON CONFLICT (${keyList(form)}) DO ${action}`;
}

/** Every column arrives as text and is cast here, whatever its type: a jsonb value must not become a JSON string. */
function castColumns({ columns }: LocalForm): string {
  return columns.map(({ type }, i) => `u.c${i}::${type}`).join(", ");
}

function unnested(count: number): string {
  const numbers = Array.from({ length: count }, (_, i) => i);
  return `unnest(${numbers.map((i) => `$${i + 1}::text[]`).join(", ")}) u(${numbers.map((i) => `c${i}`).join(", ")})`;
}

/** Keys from one text[] per key column, from `$first`, as relation k with the key's names and types. */
export function unnestedKeys(form: LocalForm, first = 1): string {
  const keys = keyColumns(form).map(({ name, type }, i) => ({
    column: `c${i}`,
    cast: `c${i}::${type} AS ${quoteIdentifier(name)}`,
    parameter: `$${first + i}::text[]`,
  }));
  const source = `unnest(${keys.map(({ parameter }) => parameter).join(", ")}) u(${keys.map(({ column }) => column).join(", ")})`;
  return `(SELECT ${keys.map(({ cast }) => cast).join(", ")} FROM ${source}) k`;
}

export function keysEqual(form: LocalForm, left: string, right: string): string {
  return keyColumns(form)
    .map((column) => ({ column: quoteIdentifier(column.name), cast: castToBase(column) }))
    .map(({ column, cast }) => `${left}.${column}${cast} = ${right}.${column}${cast}`)
    .join(" AND ");
}

/**
 * Key columns as parameters, from `$1`. They have types, as beside a composite Postgres would take a parameter without
 * one for an anonymous composite, which has no input.
 */
export function keyIs(form: LocalForm): string {
  return keyColumns(form)
    .map((column, i) => `${quoteIdentifier(column.name)}${castToBase(column)} = $${i + 1}::${column.base}`)
    .join(" AND ");
}

/** Postgres finds no `=` for a domain over an enum, an array, a range or a composite, but it does for what lies below. */
function castToBase({ type, base }: LocalColumn): string {
  return base === type ? "" : `::${base}`;
}

function keyColumns({ columns, key }: LocalForm): LocalColumn[] {
  return key.map((name) => columns.find((column) => column.name === name)!);
}
