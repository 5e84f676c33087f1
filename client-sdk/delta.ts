/**
 * The difference between two results of one query, from their bytes: rows that did not change are neither decoded nor
 * replaced, so they stay the same objects. Pure, but for the entries: those that stay move to the newer result's bytes,
 * so that the older ones are let go of.
 */
import type { Row } from "./row.ts";
import { type RawResult, type RowDecoder, valueOf } from "./rows.ts";
import { readText, Replies, replyTags } from "./wire.ts";

/** Where a row's body stands among the bytes that came. */
interface Place {
  bytes: Uint8Array;
  start: number;
  end: number;
}

/** A row of a result, and the object made from it. */
export interface Entry extends Place {
  readonly row: Row;
}

export interface Shown {
  readonly entries: Entry[];
  /** Theirs. */
  readonly rows: readonly Row[];
}

export interface RowChanges {
  readonly inserted: readonly Row[];
  /** As they are now. Only where rows can be told apart by their table's primary key. */
  readonly updated: readonly Row[];
  /** As they were. */
  readonly deleted: readonly Row[];
}

/** Its arrays are whose it is. */
export function nothingShown(): Shown {
  return { entries: [], rows: [] };
}

/** Undefined if both are the same. `keyColumns`: which columns tell rows apart; undefined if only all of them do. */
export function compare(
  before: Shown,
  { bytes }: RawResult,
  decode: RowDecoder,
  keyColumns: readonly number[] | undefined,
): { shown: Shown; changes: RowChanges } | undefined {
  const now = { bytes, bounds: boundsOf(bytes) };
  const { entries } = before;
  if (entries.length === 0) return first(entriesOf({ bytes }, decode));
  const count = now.bounds.length / 2;
  const prefix = countEqual(entries, now, 0);
  if (prefix === entries.length && prefix === count) return undefined;
  const suffix = countEqual(entries, now, prefix, true);
  const old = entries.slice(prefix, entries.length - suffix);
  const middle = compareMiddle(old, now, prefix, count - suffix, decode, keyColumns);
  for (let i = 0; i < prefix; i++) move(entries[i]!, now, i);
  for (let i = 1; i <= suffix; i++) move(entries.at(-i)!, now, count - i);
  const all = entries.slice(0, prefix).concat(middle.entries, entries.slice(entries.length - suffix));
  return { shown: shownOf(all), changes: middle.changes };
}

function first(entries: Entry[]): { shown: Shown; changes: RowChanges } | undefined {
  const shown = shownOf(entries);
  return entries.length === 0 ? undefined : { shown, changes: { inserted: shown.rows, updated: [], deleted: [] } };
}

function shownOf(entries: Entry[]): Shown {
  return { entries, rows: entries.map(({ row }) => row) };
}

/** Every row of a result, decoded. */
export function entriesOf({ bytes }: Pick<RawResult, "bytes">, decode: RowDecoder): Entry[] {
  const entries: Entry[] = [];
  const replies = new Replies(bytes);
  while (replies.next()) {
    const { tag, start, end, view } = replies;
    if (tag === replyTags.dataRow) entries.push({ bytes, start, end, row: decode(bytes, view, start) });
  }
  return entries;
}

export function isSame(a: Place, b: Place): boolean {
  return equal(a.bytes, a.start, a.end, b.bytes, b.start, b.end);
}

/** Where each row's body begins and ends: two numbers per row. */
interface Located {
  readonly bytes: Uint8Array;
  readonly bounds: readonly number[];
}

function move(entry: Place, { bytes, bounds }: Located, i: number): void {
  entry.bytes = bytes;
  entry.start = bounds[2 * i]!;
  entry.end = bounds[2 * i + 1]!;
}

function boundsOf(bytes: Uint8Array): number[] {
  const bounds: number[] = [];
  const replies = new Replies(bytes);
  while (replies.next()) if (replies.tag === replyTags.dataRow) bounds.push(replies.start, replies.end);
  return bounds;
}

/** How many rows are equal from the start on, or (among the rest) from the end back. */
function countEqual(entries: readonly Entry[], now: Located, taken: number, backwards = false): number {
  const counts = [entries.length, now.bounds.length / 2] as const;
  const most = Math.min(...counts) - taken;
  let count = 0;
  while (count < most) {
    const i = backwards ? counts[0] - 1 - count : taken + count;
    const j = backwards ? counts[1] - 1 - count : taken + count;
    if (!isAt(entries[i]!, now, j)) break;
    count++;
  }
  return count;
}

function isAt(entry: Entry, { bytes, bounds }: Located, i: number): boolean {
  return equal(entry.bytes, entry.start, entry.end, bytes, bounds[2 * i]!, bounds[2 * i + 1]!);
}

function compareMiddle(
  before: readonly Entry[],
  now: Located,
  start: number,
  end: number,
  decode: RowDecoder,
  keyColumns: readonly number[] | undefined,
): { entries: Entry[]; changes: RowChanges } {
  const old = numbered(before, keyColumns);
  const view = new DataView(now.bytes.buffer, now.bytes.byteOffset, now.bytes.byteLength);
  const found: Place[] = [];
  for (let i = start; i < end; i++)
    found.push({ bytes: now.bytes, start: now.bounds[2 * i]!, end: now.bounds[2 * i + 1]! });
  const entries: Entry[] = [];
  const inserted: Row[] = [];
  const updated: Row[] = [];
  for (const [key, place] of numbered(found, keyColumns)) {
    const was = old.get(key);
    old.delete(key);
    const isKept = was !== undefined && isSame(was, place);
    const entry = isKept ? was : { ...place, row: decode(now.bytes, view, place.start) };
    if (isKept) Object.assign(was, place);
    entries.push(entry);
    if (was === undefined) inserted.push(entry.row);
    else if (!isKept) updated.push(entry.row);
  }
  return { entries, changes: { inserted, updated, deleted: Array.from(old.values(), ({ row }) => row) } };
}

/** In the rows' order. A key that comes again is numbered: a result may hold equal rows. */
function numbered<Item extends Place>(
  items: readonly Item[],
  keyColumns: readonly number[] | undefined,
): Map<string, Item> {
  const index = new Map<string, Item>();
  for (const item of items) {
    const key = keyOf(item, keyColumns);
    let own = key;
    for (let again = 1; index.has(own); again++) own = `${key}\0${again}`;
    index.set(own, item);
  }
  return index;
}

function keyOf({ bytes, start, end }: Place, keyColumns: readonly number[] | undefined): string {
  if (!keyColumns) return rawText(bytes, start, end);
  let key = "";
  for (const column of keyColumns) {
    const value = valueOf({ bytes, start }, column);
    key += value ? `${value.length}:${readText(value, 0, value.length)}` : "-1:";
  }
  return key;
}

/** One character per byte. */
function rawText(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let i = start; i < end; i++) text += String.fromCharCode(bytes[i]!);
  return text;
}

function equal(a: Uint8Array, aStart: number, aEnd: number, b: Uint8Array, bStart: number, bEnd: number): boolean {
  if (aEnd - aStart !== bEnd - bStart) return false;
  for (let i = aStart, j = bStart; i < aEnd; i++, j++) if (a[i] !== b[j]) return false;
  return true;
}
