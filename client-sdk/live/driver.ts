/**
 * Finds the one table whose rows a result follows, where it joins several: the driver. Each of its rows gives one row of the
 * result or none, and all other rows that has to do with are looked up from there by their primary keys: the customer of
 * an order, the region of that customer. Then a result changes only under those of the driver's keys that changed
 * themselves, or from which a changed key of another table is reached (routes.ts), and its rows are told apart by the
 * driver's key, as those of a query over one table.
 *
 * Why that is all. Say that neither a row of the driver has changed, nor any row whose key is looked up from there, and
 * that none of these keys has come or gone. The first row that is looked up is found by values of the driver's row, so it
 * is what it was, or missing as it was; the next one by values of these; and so on to the last. What the query makes of
 * the same rows is the same, whatever its conditions are, WHERE and outer joins among them. It takes these for granted:
 *
 * - The driver's row is part of each row of the result: no outer join leaves it out.
 * - The equalities by which a row is looked up hold wherever the result has it (joins.ts); with its whole primary key
 *   compared, there is one such row at most. An outer join that finds none gives NULLs, from which nothing is reached.
 * - Keys are of the state after the change, in which an unchanged row leads where it led before. So what a row that is
 *   deleted, or has another key now, was joined to is found by the key that it had: both are among the changed keys.
 */
import type { Outline } from "./analysis.ts";
import type { Relation, Variable } from "./joins.ts";
import { NotIncremental } from "./not-incremental.ts";
import type { KeyedTable } from "./tables-read.ts";

export interface Driver {
  readonly relation: Relation;
  readonly table: KeyedTable;
  /** Where its primary key stands in the result. */
  readonly key: readonly number[];
  /** All other tables: each after those that lead to it. */
  readonly lookUps: readonly LookUp[];
}

/** A table whose row is looked up by its primary key. */
export interface LookUp {
  readonly relation: Relation;
  readonly table: KeyedTable;
  /** Whose values are its primary key's, in the key's order. */
  readonly sources: readonly Variable[];
}

/** Throws NotIncremental. */
export function driverOf({ relations, columns }: Outline, tables: readonly KeyedTable[]): Driver {
  const parts = relations.map((relation) => ({ relation, table: tableOf(relation, tables) }));
  if (tables.some(({ oid }) => !relations.some(({ table }) => table === oid)))
    throw new NotIncremental("it reads more than the tables in its FROM");
  const leading = parts
    .filter(({ relation }) => !relation.isOptional)
    .flatMap((part) => {
      const lookUps = lookUpsFrom(part, parts);
      return lookUps ? [{ ...part, lookUps }] : [];
    });
  if (leading.length === 0) throw new NotIncremental("it joins by something else than primary keys");
  for (const one of leading) {
    const key = one.table.key.map((attribute) => shownAs(one.relation, attribute, relations, columns));
    if (!key.includes(undefined)) return { ...one, key: key as number[] };
  }
  throw new NotIncremental(withoutKey(leading[0]!.table, relations.length));
}

interface Part {
  readonly relation: Relation;
  readonly table: KeyedTable;
}

function tableOf({ table }: Relation, tables: readonly KeyedTable[]): KeyedTable {
  const found = tables.find(({ oid }) => oid === table);
  if (!found) throw new NotIncremental("it does not read a table itself");
  if (found.key.length === 0) throw new NotIncremental("its table has no primary key");
  return found;
}

function withoutKey({ name }: KeyedTable, count: number): string {
  return count === 1
    ? "its result does not have the table's primary key"
    : `its result does not have the primary key of ${name}, which leads to the others`;
}

// ── What is looked up ────────────────────────────────────────────────────────────────────────────────────────────────

/** Undefined where not all others are. */
function lookUpsFrom(driver: Part, parts: readonly Part[]): LookUp[] | undefined {
  const lookUps: LookUp[] = [];
  const reached = new Set([driver.relation.number]);
  let left = parts.filter((part) => part !== driver);
  while (left.length > 0) {
    const next = left.flatMap((part) => {
      const sources = sourcesOf(part, reached);
      return sources ? [{ ...part, sources }] : [];
    });
    if (next.length === 0) return undefined;
    lookUps.push(...next);
    for (const { relation } of next) reached.add(relation.number);
    left = left.filter(({ relation }) => !reached.has(relation.number));
  }
  return lookUps;
}

function sourcesOf({ relation, table }: Part, reached: ReadonlySet<number>): Variable[] | undefined {
  const sources = table.key.map(
    (attribute) => comparedWith(relation, attribute).find(({ to }) => reached.has(to.relation))?.to,
  );
  return sources.includes(undefined) ? undefined : (sources as Variable[]);
}

function comparedWith({ number, equalities }: Relation, attribute: number): { to: Variable; isByText: boolean }[] {
  const isIt = (one: Variable): boolean => one.relation === number && one.attribute === attribute;
  return equalities.flatMap(({ one, other, isByText }) => {
    if (isIt(one)) return [{ to: other, isByText }];
    return isIt(other) ? [{ to: one, isByText }] : [];
  });
}

// ── The key in the result ────────────────────────────────────────────────────────────────────────────────────────────

/** The column itself, or one that the query makes equal to it. */
function shownAs(
  relation: Relation,
  attribute: number,
  relations: readonly Relation[],
  columns: Outline["columns"],
): number | undefined {
  const isOptional = (number: number): boolean => relations.find((one) => one.number === number)?.isOptional ?? true;
  const equal = comparedWith(relation, attribute).filter(({ to, isByText }) => isByText && !isOptional(to.relation));
  const names: readonly Variable[] = [{ relation: relation.number, attribute }, ...equal.map(({ to }) => to)];
  const shown = names.map((one) =>
    columns.find((column) => column.relation === one.relation && column.attribute === one.attribute),
  );
  return shown.find((column) => column !== undefined)?.column;
}
