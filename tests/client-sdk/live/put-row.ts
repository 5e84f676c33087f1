/** A changed row, and what a client would know of the change. */
import type { Database } from "../../../client-sdk/database.ts";
import { keyText, type NetChange } from "../../../client-sdk/reduce.ts";

export interface NamedTable {
  readonly name: string;
  /** Of k0, …, the primary key. */
  readonly keyTypes: readonly string[];
  /** Of the columns behind it. */
  readonly valueTypes: readonly string[];
}

/** Inside a transaction: the row with this key is that, or gone. */
export function putRow(
  database: Database,
  { name, keyTypes, valueTypes }: NamedTable,
  key: readonly string[],
  row: readonly (string | null)[] | undefined,
): [string, NetChange][] {
  const columns = key.map((_, i) => `k${i}`).join(", ");
  const where = key.map((_, i) => `k${i} = $${i + 1}::${keyTypes[i]}`).join(" AND ");
  // As the server names a key: in Postgres' words, which are not always the test's.
  const casts = key.map((_, i) => `$${i + 1}::${keyTypes[i]} AS k${i}`).join(", ");
  const names = database.texts(`SELECT ${casts}`, key);
  const existing = database.texts(`SELECT ${columns} FROM ${name} WHERE ${where}`, key);
  database.query(`DELETE FROM ${name} WHERE ${where}`, key);
  if (row) {
    const values = [...keyTypes, ...valueTypes].map((type, i) => `$${i + 1}::${type}`).join(", ");
    database.query(`INSERT INTO ${name} VALUES (${values})`, [...key, ...row]);
  }
  return [...names, ...existing].map((found) => {
    const named = Object.values(found);
    return [keyText(named), { key: named, row: undefined }];
  });
}
