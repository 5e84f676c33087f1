/**
 * From the operations of a batch to net changes with whole rows: an update leaves out values that stay as they are, and
 * those are read from the rows as they were before the batch.
 */
import { type Operation, type Value, WalcastError } from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import type { LocalTable } from "./local-tables.ts";
import { type NetChange, type NetChanges, reduce } from "./reduce.ts";
import { columnList, keyIs } from "./tables.ts";

export function netChanges(database: Database, table: LocalTable, operations: Iterable<Operation>): NetChanges {
  const net = reduce(operations, table.description);
  for (const [key, change] of net.changes)
    if (change.base) net.changes.set(key, completed(database, table, change, change.base));
  return net;
}

function completed(
  database: Database,
  { qualified, form }: LocalTable,
  { key, row }: NetChange,
  base: readonly Value[],
): NetChange {
  const known = database.texts(`SELECT ${columnList(form)} FROM ${qualified} WHERE ${keyIs(form)}`, base)[0];
  if (!known)
    throw new WalcastError(
      "invariant",
      "apply an update with unchanged values: expected to have the row, found none with its key",
    );
  return { key, row: row?.map((value, i) => (value === undefined ? known[form.columns[i]!.name] : value)) };
}
