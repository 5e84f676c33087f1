/** How a query's ORDER BY compares rows, where that can be done without Postgres. */
import type { Database } from "../database.ts";
import type { Row } from "../row.ts";
import { readText, type ResultColumn } from "../wire.ts";
import type { Sort } from "./analysis.ts";
import { FIRST_USER_OID } from "./functions.ts";
import { NotIncremental } from "./not-incremental.ts";
import { type CompareValues, comparisonOf, type OrderColumn } from "./order.ts";

// pg_collation.oid: the database's own, "C" and "POSIX". https://www.postgresql.org/docs/current/collation.html
const DEFAULT_COLLATION = 100;
const byteCollations = new Set([0, 950, 951]);

/** Types whose order a collation decides: text and character(n). */
const collated = new Set([25, 1042]);

/** What the operators of all enums take: pg_type.oid of anyenum. */
const ANY_ENUM = 3500;

/** `columns`: of the result. Throws NotIncremental. */
export function orderOf(
  database: Database,
  sorts: readonly Sort[],
  columns: readonly ResultColumn[],
): readonly OrderColumn[] {
  if (sorts.length === 0) return [];
  const operators = operatorsOf(database, sorts);
  return sorts.map(({ column, operator, nullsFirst, collation }) => {
    const found = operators.get(operator);
    const type = Number(found?.type);
    const compare = type === ANY_ENUM ? labelComparison(database, columns[column]!) : comparisonOf(type);
    const isByBytes = byteCollations.has(collation) || (collation === DEFAULT_COLLATION && found?.bytes === true);
    if (!found || !compare || (collated.has(type) && !isByBytes))
      throw new NotIncremental("it is ordered by a type, or a collation, whose order is only Postgres' to tell");
    return { column, compare, descending: found.oprname === ">", nullsFirst };
  });
}

function operatorsOf(database: Database, sorts: readonly Sort[]): Map<number, Row> {
  const query = `
    SELECT oid::int8 AS oid, oprname, oprleft::int8 AS type,
      (SELECT datcollate IN ('C', 'POSIX') AND datlocprovider = 'c' FROM pg_database WHERE datname = current_database()) AS bytes
    FROM pg_operator WHERE oid = ANY ($1::oid[]) AND oprname IN ('<', '>') AND oid < $2`;
  const rows = database.rows(query, [sorts.map(({ operator }) => operator), FIRST_USER_OID]);
  return new Map(rows.map((row) => [Number(row.oid), row]));
}

/** Looked at each time: a type may be given more labels, between those that it has. */
function labelComparison({ enumLabels }: Database, { typeOid }: ResultColumn): CompareValues | undefined {
  const rankOf = (label: Uint8Array): number => enumLabels.get(typeOid)!.get(readText(label, 0, label.length))!;
  return enumLabels.has(typeOid) ? (a, b) => rankOf(a) - rankOf(b) : undefined;
}
