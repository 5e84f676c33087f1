/**
 * Takes the rows that some keys now have into a result, and gives the next one. The array of rows is another one then, as
 * somebody has the last; entries and index are changed in place, since copying a hundred thousand of them costs more than
 * all else. A row among equals may stand anywhere among them; one that is there already stays where it is.
 */
import { type Entry, isSame, type Shown } from "../delta.ts";
import { compareRows, type OrderColumn } from "./order.ts";

/** What is shown, by `keyText` of its key. */
export type Index = Map<string, Entry>;

export interface Merge {
  readonly shown: Shown;
  readonly index: Index;
  keyOf(entry: Entry): string;
  readonly order: readonly OrderColumn[];
  /** Infinity for a result that is not cut off. */
  readonly limit: number;
}

export interface Merged {
  readonly shown: Shown;
  /** What stood in the result before under each key that is another now; undefined where nothing did. */
  readonly before: ReadonlyMap<string, Entry | undefined>;
}

interface Difference {
  readonly key: string;
  readonly was: Entry | undefined;
  readonly now: Entry | undefined;
}

/** `now`: of the keys that changed, those that the query has rows for. Undefined where rows are wanted that were never seen. */
export function merge(to: Merge, keys: Iterable<string>, now: Index): Merged | undefined {
  const differences = differencesOf(to, keys, now);
  if (differences.length === 0) return { shown: to.shown, before: new Map() };
  const seen = seenOf(to, differences);
  const count = to.shown.entries.length + growthOf(seen);
  if (isFull(to) && count < to.limit) return undefined;
  return take(to, seen);
}

function differencesOf({ index }: Merge, keys: Iterable<string>, found: Index): Difference[] {
  const differences: Difference[] = [];
  for (const key of new Set(keys).union(found)) {
    const [was, now] = [index.get(key), found.get(key)];
    if (was === now || (was && now && isSame(was, now))) continue;
    differences.push({ key, was, now });
  }
  return differences;
}

// ── Windows ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** There may be rows beyond its last. */
function isFull({ shown, limit }: Merge): boolean {
  return shown.entries.length >= limit;
}

/** Beyond what was the last row of a full window there are others that nobody has seen, so a row that goes there leaves. */
function seenOf(to: Merge, differences: readonly Difference[]): readonly Difference[] {
  if (!isFull(to)) return differences;
  const last = to.shown.entries.at(-1);
  const isBeyond = (entry: Entry): boolean => !last || compareRows(entry, last, to.order) > 0;
  return differences
    .map((one) => (one.now && isBeyond(one.now) ? { ...one, now: undefined } : one))
    .filter(({ was, now }) => was || now);
}

function growthOf(differences: readonly Difference[]): number {
  return differences.reduce((sum, { was, now }) => sum + Number(now !== undefined) - Number(was !== undefined), 0);
}

// ── Editing ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Before the entry that stands at `at`: these come, and it goes or not. */
interface Edit {
  readonly at: number;
  readonly leaves: boolean;
  readonly comes: Entry | undefined;
}

function take(to: Merge, differences: readonly Difference[]): Merged {
  const edits = editsOf(to, differences);
  const entries = edited(to.shown.entries, edits, (entry) => entry);
  const rows = edited(to.shown.rows.slice(), edits, ({ row }) => row);
  const before = new Map(differences.map(({ key, was }) => [key, was]));
  for (const { key, now } of differences) {
    if (now) to.index.set(key, now);
    else to.index.delete(key);
  }
  return { shown: cut(to, { entries, rows }, before), before };
}

/** What no longer fits leaves at the end. */
function cut(to: Merge, shown: Shown, before: Map<string, Entry | undefined>): Shown {
  if (shown.entries.length <= to.limit) return shown;
  for (const entry of shown.entries.slice(to.limit)) {
    const key = to.keyOf(entry);
    if (!before.has(key)) before.set(key, entry);
    to.index.delete(key);
  }
  return { entries: shown.entries.slice(0, to.limit), rows: shown.rows.slice(0, to.limit) };
}

function editsOf(to: Merge, differences: readonly Difference[]): Edit[] {
  const positions = positionsOf(to, differences);
  const edits: Edit[] = [];
  for (const { was, now } of differences) {
    const at = was && positions.get(was)!;
    const stays = was && now && compareRows(was, now, to.order) === 0;
    if (at !== undefined) edits.push({ at, leaves: true, comes: stays ? now : undefined });
    if (now && !stays) edits.push({ at: placeFor(now, to), leaves: false, comes: now });
  }
  return edits.sort(
    (a, b) =>
      a.at - b.at ||
      Number(a.leaves) - Number(b.leaves) ||
      (a.comes && b.comes ? compareRows(a.comes, b.comes, to.order) : 0),
  );
}

/** Behind its equals; at the end where there is no order. */
function placeFor(entry: Entry, { shown: { entries }, order }: Merge): number {
  if (order.length === 0) return entries.length;
  return bisect(entries.length, (i) => compareRows(entries[i]!, entry, order) > 0);
}

/** The first of `count` for which it is true, where it stays true from there on. */
function bisect(count: number, isAfter: (i: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isAfter(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

// Below it, looking for each row is cheaper than looking at all of them once.
const SEARCHES_MAX = 8;

function positionsOf({ shown: { entries }, order }: Merge, differences: readonly Difference[]): Map<Entry, number> {
  const leaving = differences.flatMap(({ was }) => was ?? []);
  const positions = new Map<Entry, number>();
  if (order.length === 0 && leaving.length > SEARCHES_MAX) {
    const wanted = new Set(leaving);
    entries.forEach((entry, i) => wanted.has(entry) && positions.set(entry, i));
    return positions;
  }
  for (const entry of leaving) {
    const from = bisect(order.length === 0 ? 0 : entries.length, (i) => compareRows(entries[i]!, entry, order) >= 0);
    positions.set(entry, entries.indexOf(entry, from));
  }
  return positions;
}

// Each moves what is behind it.
const SPLICES_MAX = 16;

/** In place where there are few; from the end, so that places before them stay what they were. */
function edited<Item>(items: Item[], edits: readonly Edit[], itemOf: (entry: Entry) => Item): Item[] {
  if (edits.length > SPLICES_MAX) return rebuilt(items, edits, itemOf);
  for (const { at, leaves, comes } of edits.toReversed()) {
    if (leaves && comes) items[at] = itemOf(comes);
    else if (leaves) items.splice(at, 1);
    else if (comes) items.splice(at, 0, itemOf(comes));
  }
  return items;
}

function rebuilt<Item>(items: readonly Item[], edits: readonly Edit[], itemOf: (entry: Entry) => Item): Item[] {
  const pieces: (readonly Item[])[] = [];
  let taken = 0;
  for (const { at, leaves, comes } of edits) {
    pieces.push(items.slice(taken, at));
    if (comes) pieces.push([itemOf(comes)]);
    taken = leaves ? at + 1 : at;
  }
  pieces.push(items.slice(taken));
  return ([] as Item[]).concat(...pieces);
}
