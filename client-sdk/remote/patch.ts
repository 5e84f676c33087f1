/**
 * What became of a live query's rows, small enough to be sent: where the two arrays differ, as runs of rows that stay and rows
 * that are new. Rows that stay are the same objects before and after, on both sides. Pure.
 */
import type { Row } from "../row.ts";

export interface Patch {
  /** Rows that stay at the beginning and at the end. */
  readonly head: number;
  readonly tail: number;
  /** What is between them now: `[index before, count]` for rows that stay, a list of rows for new ones. */
  readonly middle: readonly (readonly [number, number] | { readonly rows: readonly Row[] })[];
  /** As indexes into the rows now; of deleted ones, before. */
  readonly inserted: readonly number[];
  readonly updated: readonly number[];
  readonly deleted: readonly number[];
}

export interface Changes {
  readonly inserted: readonly Row[];
  readonly updated: readonly Row[];
  readonly deleted: readonly Row[];
}

export function patchOf(before: readonly Row[], now: readonly Row[], changes: Changes): Patch {
  const most = Math.min(before.length, now.length);
  let head = 0;
  while (head < most && before[head] === now[head]) head++;
  let tail = 0;
  while (tail < most - head && before[before.length - 1 - tail] === now[now.length - 1 - tail]) tail++;
  const wasAt = indexes(before, head, before.length - tail);
  const isAt = indexes(now, head, now.length - tail);
  return {
    head,
    tail,
    middle: middleOf(now, head, now.length - tail, wasAt),
    inserted: at(changes.inserted, isAt),
    updated: at(changes.updated, isAt),
    deleted: at(changes.deleted, wasAt),
  };
}

export function applyPatch(before: readonly Row[], patch: Patch): { rows: readonly Row[]; changes: Changes } {
  const rows = before.slice(0, patch.head);
  for (const part of patch.middle) {
    if ("rows" in part) for (const row of part.rows) rows.push(row);
    else for (let i = part[0]; i < part[0] + part[1]; i++) rows.push(before[i]!);
  }
  for (let i = before.length - patch.tail; i < before.length; i++) rows.push(before[i]!);
  return {
    rows,
    changes: {
      inserted: patch.inserted.map((i) => rows[i]!),
      updated: patch.updated.map((i) => rows[i]!),
      deleted: patch.deleted.map((i) => before[i]!),
    },
  };
}

/**
 * The difference between what one host said and what the next one says, by the rows' values: nothing else is known of them. Rows
 * that are equal stay the objects they were. Undefined if nothing is different.
 */
export function differenceOf(
  before: readonly Row[],
  now: readonly Row[],
): { rows: readonly Row[]; changes: Changes } | undefined {
  const left = new Map<string, Row[]>();
  for (const row of before) {
    const same = left.get(keyOf(row));
    if (same) same.push(row);
    else left.set(keyOf(row), [row]);
  }
  const inserted: Row[] = [];
  const rows = now.map((row) => {
    const known = left.get(keyOf(row))?.shift();
    if (!known) inserted.push(row);
    return known ?? row;
  });
  if (rows.length === before.length && rows.every((row, i) => row === before[i])) return undefined;
  return { rows, changes: { inserted, updated: [], deleted: [...left.values()].flat() } };
}

/** Equal for equal values of one type; `Uint8Array`s, `Date`s and `bigint`s as well. */
export function keyOf(value: unknown): string {
  return JSON.stringify(value, (_name, inner: unknown) => {
    if (typeof inner === "bigint") return { bigint: String(inner) };
    if (typeof inner === "number" && !Number.isFinite(inner)) return { number: String(inner) };
    return inner instanceof Uint8Array ? { bytes: [...inner] } : inner;
  });
}

function indexes(rows: readonly Row[], start: number, end: number): Map<Row, number> {
  const found = new Map<Row, number>();
  for (let i = start; i < end; i++) found.set(rows[i]!, i);
  return found;
}

function at(rows: readonly Row[], found: ReadonlyMap<Row, number>): number[] {
  return rows.map((row) => found.get(row)).filter((index) => index !== undefined);
}

function middleOf(now: readonly Row[], start: number, end: number, wasAt: ReadonlyMap<Row, number>): Patch["middle"] {
  const middle: ([number, number] | { rows: Row[] })[] = [];
  for (let i = start; i < end; i++) {
    const row = now[i]!;
    const was = wasAt.get(row);
    const last = middle.at(-1);
    if (was === undefined) {
      if (last && "rows" in last) last.rows.push(row);
      else middle.push({ rows: [row] });
    } else if (last && !("rows" in last) && last[0] + last[1] === was) last[1]++;
    else middle.push([was, 1]);
  }
  return middle;
}
