/**
 * Who holds which row, where several shapes share one local table: a table of (key, shape) beside it. A row leaves only
 * when no shape holds it any more. While one shape has the table for itself there is no such table and no such cost.
 */
import type { Run } from "./postgres-session.ts";
import type { NetChanges } from "./reduce.ts";
import { keyList, keysEqual, type LocalForm, quoteIdentifier, unnestedKeys, type WriteStatements } from "./tables.ts";
import { rowsOf, transposed } from "./writes.ts";

/** A local table that several shapes share. */
export interface Shared {
  readonly qualified: string;
  readonly form: LocalForm;
  readonly statements: WriteStatements;
  /** The membership table. */
  readonly holders: string;
}

/** From one shape to two: whatever stands in the table belongs to the first. */
export function materialise({ holders, qualified, form }: Shared, first: number): string[] {
  return [
    `CREATE TABLE ${holders} AS SELECT ${keyList(form)}, ${first} AS walcast_shape FROM ${qualified}`,
    `ALTER TABLE ${holders} ADD PRIMARY KEY (${keyList(form)}, walcast_shape)`,
  ];
}

/** The shape holds what a table of first rows contains. */
export function takeOver({ holders, form }: Shared, staging: string, shape: number): string {
  return `INSERT INTO ${holders} (${keyList(form)}, walcast_shape) SELECT ${keyList(form)}, ${shape} FROM ${staging}`;
}

export function letGo({ holders }: Shared, shape: number): string {
  return `DELETE FROM ${holders} WHERE walcast_shape = ${shape}`;
}

/** Of the whole table, the rows that nobody holds. */
export function dropUnheld(shared: Shared): string {
  return `DELETE FROM ${shared.qualified} t WHERE ${notHeld(shared, "t")}`;
}

/** Membership first, then rows: each statement leaves the two in agreement about who is still there. */
export function sharedRuns(shared: Shared, shape: number, net: NetChanges): Run[] {
  const { form, statements } = shared;
  const changes = [...net.changes.values()];
  const gone = changes.filter(({ row }) => row === undefined).map(({ key }) => key);
  const put = changes.filter(({ row }) => row !== undefined);
  const goneKeys = transposed(gone, form.key.length);
  const runs: Run[] = [];
  if (net.truncated) runs.push({ sql: letGo(shared, shape), values: [] });
  if (gone.length > 0) runs.push({ sql: removeHolders(shared), values: [String(shape), ...goneKeys] });
  if (put.length > 0) {
    runs.push({
      sql: addHolders(shared),
      values: [
        String(shape),
        ...transposed(
          put.map(({ key }) => key),
          form.key.length,
        ),
      ],
    });
    runs.push({ sql: statements.upsertMany, values: transposed(rowsOf(put), form.columns.length) });
  }
  if (net.truncated) runs.push({ sql: dropUnheld(shared), values: [] });
  else if (gone.length > 0) runs.push({ sql: dropUnheldAmong(shared), values: goneKeys });
  return runs;
}

function removeHolders({ holders, form }: Shared): string {
  return `DELETE FROM ${holders} h USING ${unnestedKeys(form, 2)} WHERE ${keysEqual(form, "h", "k")} AND h.walcast_shape = $1::int`;
}

function addHolders({ holders, form }: Shared): string {
  const keys = form.key.map((key) => `k.${quoteIdentifier(key)}`).join(", ");
  return `INSERT INTO ${holders} (${keyList(form)}, walcast_shape) SELECT ${keys}, $1::int FROM ${unnestedKeys(form, 2)} ON CONFLICT DO NOTHING`;
}

function dropUnheldAmong(shared: Shared): string {
  const { qualified, form } = shared;
  return `DELETE FROM ${qualified} t USING ${unnestedKeys(form)} WHERE ${keysEqual(form, "t", "k")} AND ${notHeld(shared, "k")}`;
}

function notHeld({ holders, form }: Shared, alias: string): string {
  return `NOT EXISTS (SELECT FROM ${holders} h WHERE ${keysEqual(form, "h", alias)})`;
}
