/**
 * What a table is after a change of it: told by a message in the transaction that changed it, with all of its rows. So
 * whoever decodes the commits need not know what ALTER TABLE does.
 */
import type { Client, QueryArrayConfig } from "pg";
import type { SimTable } from "./schema.ts";

/** What a message says: from its commit on this table has these columns and rows. Without columns it is gone. */
export interface Layout {
  readonly table: string;
  /** As test_decoding writes it. */
  readonly decoded: string;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly key: readonly string[];
  readonly rows: readonly (readonly (string | null)[])[];
  /** Which region's rows a partition has, by the name that test_decoding gives it. */
  readonly leaves: Readonly<Record<string, string>>;
}

export interface SchemaMessage {
  readonly gone: readonly string[];
  readonly layouts: readonly Layout[];
}

export const messagePrefix = "simulation";

export async function inTransaction(
  db: Client,
  statements: readonly string[],
  gone: readonly SimTable[],
  changed: readonly SimTable[],
  later: readonly string[] = [],
): Promise<void> {
  await db.query("begin");
  try {
    for (const statement of statements) await db.query(statement);
    const layouts: Layout[] = [];
    for (const table of changed) layouts.push(await layoutOf(db, table));
    const message: SchemaMessage = { gone: gone.map(({ name }) => decodedName(name)), layouts };
    await db.query("select pg_logical_emit_message(true, $1, $2)", [messagePrefix, JSON.stringify(message)]);
    for (const statement of later) await db.query(statement);
    await db.query("commit");
  } catch (error) {
    await db.query("rollback");
    throw error;
  }
}

/** Locks the table, so that the rows it tells are those at its commit. */
async function layoutOf(db: Client, table: SimTable): Promise<Layout> {
  await db.query(`lock table ${table.name} in share mode`);
  const { rows: columns } = await db.query<{ name: string; type: string }>(
    `select attname::text as name, format_type(atttypid, atttypmod) as type from pg_attribute
     where attrelid = $1::text::regclass and attnum > 0 and not attisdropped order by attnum`,
    [table.name],
  );
  const { rows } = await db.query<(string | null)[]>(everyRowOf(table.name));
  const leaves = Object.entries(table.leaves ?? {}).map(([region, leaf]) => [decodedName(leaf), region] as const);
  return {
    table: table.name,
    decoded: decodedName(table.name),
    columns,
    key: table.key,
    rows,
    leaves: Object.fromEntries(leaves),
  };
}

/** Each value as Postgres writes it. */
export function everyRowOf(table: string): QueryArrayConfig {
  const types = { getTypeParser: () => (text: string | Buffer) => String(text) };
  return { text: `select * from ${table}`, rowMode: "array", types };
}

/** With its schema, as test_decoding writes it. */
export function decodedName(name: string): string {
  return /^[a-z]+\./.test(name) ? name : `public.${name}`;
}
