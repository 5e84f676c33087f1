/**
 * A column in a predicate, and how comparisons with it are written: with operators and types by their full names, in the
 * collation that makes them mean what ours do, and so that an index on the column stays usable.
 */
import type { Column } from "../../changes/table.ts";
import { quoteIdentifier, quoteLiteral } from "../name.ts";
import { fitsInteger, sqlTypeOfColumn, type SqlType, type ValueType, valuesOf } from "./type.ts";

export type OrderOperator = "<" | "<=" | ">" | ">=";
export type Operator = OrderOperator | "=" | "<>";

/** A column in IS NULL, whatever its type. */
export interface AnyColumn {
  readonly position: number;
  readonly column: Column;
  readonly sql: string;
}

/** A column whose values can be compared. */
export interface ReadColumn extends AnyColumn {
  readonly sqlType: SqlType;
  readonly values: ValueType;
}

export function anyColumn(column: Column, position: number): AnyColumn | ReadColumn {
  const any = { position, column, sql: quoteIdentifier(column.name) };
  const sqlType = sqlTypeOfColumn(column);
  return sqlType ? { ...any, sqlType, values: valuesOf(sqlType) } : any;
}

export function isReadable(column: AnyColumn): column is ReadColumn {
  return "sqlType" in column;
}

export function inSql(column: ReadColumn, values: readonly Buffer[], negated: boolean): string {
  const operator = qualified(negated ? "<>" : "=");
  if (values.length === 1) return `${equalitySql(column)} ${operator} ${literal(column, values[0]!)}`;
  const list = values.map((value) => quoteLiteral(value.toString())).join(", ");
  return `${equalitySql(column)} ${operator} ${negated ? "ALL" : "ANY"} (ARRAY[${list}]::${constantType(column, values)}[])`;
}

export function qualified(operator: Operator): string {
  return `OPERATOR(pg_catalog.${operator})`;
}

export function literal(column: ReadColumn, value: Buffer): string {
  return `${quoteLiteral(value.toString())}::${constantType(column, [value])}`;
}

/** The narrowest type of the column's family that holds the values: an index on the column stays usable. */
function constantType(column: ReadColumn, values: readonly Buffer[]): string {
  const own = column.sqlType.sql;
  if (own === "pg_catalog.varchar") return "pg_catalog.text";
  if (column.values.name !== "number" || own === "pg_catalog.numeric") return own;
  return (
    [own, "pg_catalog.int8"].find((type) => values.every((value) => fitsInteger(value.toString(), type))) ??
    "pg_catalog.numeric"
  );
}

export function equalitySql(column: ReadColumn): string {
  return column.values.collatable && column.column.collation?.deterministic !== true ? byBytesSql(column) : column.sql;
}

export function orderedSql(column: ReadColumn): string {
  return column.values.collatable && column.column.collation?.isC !== true ? byBytesSql(column) : column.sql;
}

export function byBytesSql({ sql }: ReadColumn): string {
  return `${sql} COLLATE pg_catalog."C"`;
}

export function sameCollation(a: ReadColumn, b: ReadColumn): boolean {
  return (
    a.column.collation?.schema === b.column.collation?.schema && a.column.collation?.name === b.column.collation?.name
  );
}
