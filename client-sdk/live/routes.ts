/**
 * From the changed keys of a joined table back to the driver's keys from which they are reached (driver.ts): the orders of
 * a customer that has another name now. Only where indexes lead there, since running the whole query again may be cheaper
 * than reading all of a table.
 */
import type { Key } from "../changed.ts";
import type { Database } from "../database.ts";
import type { Run } from "../postgres-session.ts";
import { quoteIdentifier } from "../table-name.ts";
import { encodeTextArray } from "../values.ts";
import { type CatalogColumns, columnOf } from "./columns.ts";
import type { Driver, LookUp } from "./driver.ts";
import type { Variable } from "./joins.ts";

export interface Route {
  /** The joined table's name. */
  readonly table: string;
  /** Undefined where no index leads back. */
  readonly sql: string | undefined;
  /** Why there is none. */
  readonly why: string | undefined;
}

/** More of them are not looked up one by one. */
export const REACHED_MAX = 1_000;

export function routesOf(driver: Driver, columns: CatalogColumns): Route[] {
  return driver.lookUps.map((lookUp) => routeOf(driver, lookUp, columns));
}

export function prepareRoutes(database: Database, routes: readonly Route[]): void {
  for (const { sql } of routes) if (sql !== undefined) database.prepare(sql);
}

/** The driver's keys, in its primary key's order; at most one more than REACHED_MAX. */
export function along(sql: string, keys: readonly Key[]): Run {
  const columns = keys[0]!.map((_, i) => encodeTextArray(keys.map((key) => key[i] ?? null)));
  return { sql, values: columns };
}

function routeOf(driver: Driver, target: LookUp, columns: CatalogColumns): Route {
  const passed = passedBy(driver, target);
  const unindexed = [target, ...passed].flatMap((lookUp) => withoutIndex(driver, lookUp) ?? []);
  const table = target.table.name;
  const [first] = unindexed;
  if (first) return { table, sql: undefined, why: `${nameOf(driver, first, columns)} has no index` };
  return { table, sql: textOf(driver, target, passed, columns), why: undefined };
}

/** The tables between the two, in the order in which they are looked up. */
function passedBy({ lookUps }: Driver, target: LookUp): LookUp[] {
  const needed = new Set(target.sources.map(({ relation }) => relation));
  const passed: LookUp[] = [];
  for (const lookUp of lookUps.toReversed()) {
    if (!needed.has(lookUp.relation.number)) continue;
    passed.unshift(lookUp);
    for (const { relation } of lookUp.sources) needed.add(relation);
  }
  return passed;
}

/** What should have one. */
function withoutIndex(driver: Driver, { sources }: LookUp): Variable | undefined {
  const isIndexed = ({ relation, attribute }: Variable): boolean =>
    tableOf(driver, relation).indexed.includes(attribute);
  return sources.some(isIndexed) ? undefined : sources[0];
}

function tableOf({ relation, table, lookUps }: Driver, number: number): LookUp["table"] {
  return relation.number === number ? table : lookUps.find((one) => one.relation.number === number)!.table;
}

// ── Text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

// Materialized, or Postgres would read all of a table in the hope that the first thousand rows come soon.
function textOf(driver: Driver, target: LookUp, passed: readonly LookUp[], columns: CatalogColumns): string {
  const name = (one: Variable): string => `r${one.relation}.${columnNameOf(driver, one, columns)}`;
  const from = [
    `${driver.table.name} AS r${driver.relation.number}`,
    ...passed.map((one) => joinOf(one, name, columns)),
  ];
  const key = driver.table.key.map((attribute) => name({ relation: driver.relation.number, attribute }));
  const list = key.map((column, i) => `${column} AS k${i}`).join(", ");
  return (
    `WITH reached AS MATERIALIZED (SELECT ${list} FROM ${from.join(" ")} WHERE ${conditionOn(target, name, columns)}) ` +
    `SELECT * FROM reached LIMIT ${REACHED_MAX + 1}`
  );
}

type NameVariable = (one: Variable) => string;

function joinOf({ relation, table, sources }: LookUp, name: NameVariable, columns: CatalogColumns): string {
  const own = table.key.map(
    (attribute) => `r${relation.number}.${quoteIdentifier(columnOf(columns, table.oid, attribute).name)}`,
  );
  return `JOIN ${table.name} AS r${relation.number} ON ${own.map((column, i) => `${column} = ${name(sources[i]!)}`).join(" AND ")}`;
}

/** Each parameter has one column of all keys. */
function conditionOn({ table, sources }: LookUp, name: NameVariable, columns: CatalogColumns): string {
  const arrays = table.key.map((attribute, i) => `$${i + 1}::${columnOf(columns, table.oid, attribute).type}[]`);
  return sources.length === 1
    ? `${name(sources[0]!)} = ANY (${arrays[0]})`
    : `(${sources.map(name).join(", ")}) IN (SELECT * FROM unnest(${arrays.join(", ")}))`;
}

function columnNameOf(driver: Driver, { relation, attribute }: Variable, columns: CatalogColumns): string {
  return quoteIdentifier(columnOf(columns, tableOf(driver, relation).oid, attribute).name);
}

function nameOf(driver: Driver, one: Variable, columns: CatalogColumns): string {
  return `${tableOf(driver, one.relation).name}.${columnNameOf(driver, one, columns)}`;
}
