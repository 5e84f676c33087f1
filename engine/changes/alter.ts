/**
 * Which changes of a table need no row to be sent again: a column that every old row has one known value in, and labels
 * that an enum gained. Everything else is another table, and is loaded anew.
 */
import type { AddedColumn } from "../protocol.ts";
import type { Column, Table, TypeDescription } from "./table.ts";

/** The columns to add, in order; none where only types changed. Undefined where the rows have to be loaded anew. */
export function alteration(before: Table, after: Table): readonly AddedColumn[] | undefined {
  if (!isSameTable(before, after) || !typesGrew(before.types, after.types)) return undefined;
  const added = after.columns.slice(before.columns.length);
  // A root has no rows, so it does not know what its leaves' rows have in a new column.
  if (added.length > 0 && after.leaves) return undefined;
  if (!before.columns.every((column, i) => isSameColumn(column, after.columns[i]))) return undefined;
  return added.every(isTold) ? added.map(({ name, missing = null }) => ({ name, value: missing })) : undefined;
}

/** NOT NULL without a known value: the table was empty, or was rewritten. */
function isTold({ missing, notNull }: Column): boolean {
  return missing !== undefined || !notNull;
}

function isSameTable(before: Table, after: Table): boolean {
  const whatIsKept = ({ oid, schema, name, key, replicaIdentity, leaves }: Table): unknown => ({
    ...{ oid, schema, name, key, replicaIdentity, leaves },
  });
  return isEqual(whatIsKept(before), whatIsKept(after)) && carriesAsMuch(before, after);
}

/** Under FULL a new column is carried too. */
function carriesAsMuch(before: Table, after: Table): boolean {
  return isEqual(
    before.identityColumns,
    after.identityColumns.filter((position) => position < before.columns.length),
  );
}

/** By number, not by name: one that was dropped and made again has other rows. A default that was cleared says nothing. */
function isSameColumn(before: Column, after: Column | undefined): boolean {
  if (!after) return false;
  const { enumLabels: labelsBefore, missing: _, ...restBefore } = before;
  const { enumLabels: labelsAfter, missing: __, ...restAfter } = after;
  return isEqual(restBefore, restAfter) && labelsGrew(labelsBefore, labelsAfter);
}

/** Each type is still there and is what it was; there may be more, and enums may have gained labels. */
function typesGrew(before: readonly TypeDescription[], after: readonly TypeDescription[]): boolean {
  return before.every((type) => {
    const now = after.find(({ schema, name }) => schema === type.schema && name === type.name);
    if (type.kind === "enum" && now?.kind === "enum") return labelsGrew(type.labels, now.labels);
    return isEqual(type, now);
  });
}

/** All are there still, in their order: one may have come between two of them. */
function labelsGrew(before: readonly string[] = [], after: readonly string[] = []): boolean {
  const kept = after.filter((label) => before.includes(label));
  return isEqual(before, kept);
}

/** Of values that are JSON. */
function isEqual(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
