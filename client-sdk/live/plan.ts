/**
 * From a query to how it is kept current. Postgres itself is asked for its parse, inside the replica's turn; what the
 * parse cannot say (what functions and operators are) its catalog does.
 */
import type { Database } from "../database.ts";
import type { Statement } from "../statements.ts";
import { type Limit, outlineOf, withoutLimit } from "./analysis.ts";
import { type CatalogColumns, columnOf, columnsIn } from "./columns.ts";
import { type Driver, driverOf } from "./driver.ts";
import { refuseFunctions } from "./functions.ts";
import { NotIncremental } from "./not-incremental.ts";
import type { OrderColumn } from "./order.ts";
import { type KeyColumn, Restriction } from "./restriction.ts";
import { prepareRoutes, type Route, routesOf } from "./routes.ts";
import { orderOf } from "./sorting.ts";
import type { KeyedTable } from "./tables-read.ts";
import { readTree, type TreeNode } from "./tree.ts";
import { untilLimit } from "./unlimited.ts";

/** How a result follows the keys that changed in its tables. */
export interface Plan {
  /** Whose rows it follows, by name. */
  readonly driver: string;
  /** To these rows, from the tables that are joined to it. */
  readonly routes: readonly Route[];
  readonly restriction: Restriction;
  /** Where the driver's primary key stands in the result. */
  readonly key: readonly number[];
  readonly order: readonly OrderColumn[];
  readonly limit: Limit | undefined;
}

/** Why there is none: the query has to run again. */
export interface NoPlan {
  readonly why: string;
}

/** Inside a transaction, which may be of no use any more afterwards. */
export function planOf(database: Database, statement: Statement, tables: readonly KeyedTable[]): Plan | NoPlan {
  try {
    return planned(database, statement, tables);
  } catch (error) {
    return { why: error instanceof NotIncremental ? error.message : `it could not be analysed: ${String(error)}` };
  }
}

export function isPlan(plan: Plan | NoPlan | undefined): plan is Plan {
  return plan !== undefined && "restriction" in plan;
}

function planned(database: Database, statement: Statement, tables: readonly KeyedTable[]): Plan {
  const { sql, columns, parameterTypes } = statement;
  if (tables.length === 0) throw new NotIncremental("it reads no table");
  const parse = parseOf(database, sql, parameterTypes);
  const outline = outlineOf(parse);
  refuseFunctions(database, outline.functions);
  const order = orderOf(database, outline.sorts, columns);
  const driver = driverOf(outline, tables);
  const inner = untilLimit(sql);
  if (withoutLimit(parseOf(database, inner, parameterTypes)) !== withoutLimit(parse))
    throw new NotIncremental("its LIMIT could not be taken off");
  const catalog = columnsIn(database, tables);
  const restriction = new Restriction(inner, columns.length, parameterTypes, keyOf(driver, catalog));
  const routes = routesOf(driver, catalog);
  restriction.prepare(database);
  prepareRoutes(database, routes);
  return { driver: driver.table.name, routes, restriction, key: driver.key, order, limit: outline.limit };
}

function parseOf(database: Database, sql: string, parameterTypes: readonly number[]): TreeNode {
  return readTree(database.parseTree(sql, parameterTypes));
}

function keyOf({ table, key }: Driver, catalog: CatalogColumns): KeyColumn[] {
  return key.map((column, i) => {
    const { type, isNamedAlike } = columnOf(catalog, table.oid, table.key[i]!);
    if (!isNamedAlike)
      throw new NotIncremental("its table's primary key is of a type whose values can be written in several ways");
    return { column, type };
  });
}

/** Of date and time types, and their arrays: words that mean another moment each time they are read. */
const momentTypes = new Set([1082, 1083, 1114, 1115, 1182, 1183, 1184, 1185, 1266, 1270]);
const momentWords = /\b(now|today|tomorrow|yesterday)\b/i;

export function namesMoments(values: readonly (string | null)[], parameterTypes: readonly number[]): boolean {
  return values.some((value, i) => value !== null && momentTypes.has(parameterTypes[i]!) && momentWords.test(value));
}
