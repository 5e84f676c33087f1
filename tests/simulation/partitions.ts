/** Partitions that come to a table with rows of their own, and leave it with those that they have. */
import type { Random } from "../splice/random.ts";
import { columnSql, type Region, regions, type SimColumn, types } from "./columns.ts";

export type Leaves = Readonly<Partial<Record<Region, string>>>;

export function partitionStatement(table: string, leaf: string, region: string): string {
  return `create table ${leaf} partition of ${table} for values in ('${region}')`;
}

export function detachStatements(table: string, leaf: string, isDropped: boolean): string[] {
  return [`alter table ${table} detach partition ${leaf}`, ...(isDropped ? [`drop table ${leaf}`] : [])];
}

/** Its columns need not be in the table's order. */
export function attachStatements(
  table: { readonly name: string; readonly columns: readonly SimColumn[] },
  leaf: string,
  region: Region,
  random: Random,
): string[] {
  const columns = random.shuffled(table.columns);
  const values = columns.map(({ name, type }) => {
    if (name === "region") return `'${region}'`;
    return type === types.long ? movedTo(`'${region}'`, name) : name;
  });
  const from = random.pick(regions.filter((other) => other !== region));
  return [
    `create table ${leaf} (${columns.map((column) => columnSql(column)).join(", ")})`,
    `insert into ${leaf} (${columns.map(({ name }) => name).join(", ")}) select ${values.join(", ")} from ${table.name} where region = '${from}' and id < 40`,
    `alter table ${table.name} attach partition ${leaf} for values in ('${region}')`,
  ];
}

/** A long value that says another region from now on. */
export function movedTo(region: string, column: string): string {
  return `${region} || substr(${column}, ${regions[0].length + 1})`;
}
