/**
 * What shapes of one table have in common: which columns they show and may read, under which rule's text. One object for
 * all that are asked for alike, so that each of them holds its parameters alone.
 */
import type { Table } from "../changes/table.ts";
import { WalcastError } from "../errors.ts";
import { qualifiedName } from "./name.ts";
import { Recent } from "./recent.ts";

interface Terms {
  /** Names of columns, as a client asked for them; undefined: all. */
  readonly asked: readonly string[] | undefined;
  /** Names of columns that this client may read; undefined: all. */
  readonly readable: readonly string[] | undefined;
  readonly ruleText: string | undefined;
  /** Whole old rows in changes, and no rows first. */
  readonly changes: boolean;
}

export interface Access extends Terms {
  readonly table: Table;
  /** Positions in `table.columns`, ascending. */
  readonly columns: readonly number[];
  /** A predicate over a column that may not be read would tell what is in it, and a refusal would tell that it is there. */
  readonly isVisible: (position: number) => boolean;
  /** The same of the table in another form. */
  at(table: Table): Access;
}

/** Throws where these columns cannot be served. */
export function accessTo(table: Table, terms: Terms): Access {
  let known = knownByTable.get(table);
  if (!known) knownByTable.set(table, (known = new Recent(knownMax)));
  const { asked = null, readable = null, ruleText = null, changes } = terms;
  return known.get(JSON.stringify([asked, readable, ruleText, changes]), () =>
    makeAccess(table, structuredClone(terms)),
  );
}

// Clients may ask for any list of columns.
const knownMax = 1000;
const knownByTable = new WeakMap<Table, Recent<Access>>();

function makeAccess(table: Table, terms: Terms): Access {
  requireKey(table);
  const { readable } = terms;
  return {
    ...terms,
    table,
    columns: resolveColumns(table, terms),
    isVisible: (position) => isReadable(table, position, readable),
    at: (other) => accessTo(other, terms),
  };
}

function isReadable(table: Table, position: number, readable: Terms["readable"]): boolean {
  return !readable || readable.includes(table.columns[position]!.name);
}

function resolveColumns(table: Table, { asked, readable }: Terms): number[] {
  const names = asked ?? readable ?? table.columns.map((column) => column.name);
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

function columnsWithoutKey(table: Table, missing: number, readable: Terms["readable"]): WalcastError {
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

function nameOf(table: Table): string {
  return qualifiedName(table.schema, table.name);
}
