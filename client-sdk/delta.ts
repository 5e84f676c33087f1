/**
 * The difference between two results of one query, from their bytes: rows that did not change are neither decoded nor
 * replaced, so they stay the same objects. Pure.
 */
import { type RawResult, type Row, type RowDecoder } from "./rows.ts";
import { readText, Replies, replyTags } from "./wire.ts";

/** A result, and the objects made from it. */
export interface Shown {
  readonly bytes: Uint8Array;
  /** Where each row's body begins and ends: two numbers per row. */
  readonly bounds: readonly number[];
  readonly rows: readonly Row[];
}

export interface RowChanges {
  readonly inserted: readonly Row[];
  /** As they are now. Only where rows can be told apart by their table's primary key. */
  readonly updated: readonly Row[];
  /** As they were. */
  readonly deleted: readonly Row[];
}

export const nothingShown: Shown = { bytes: new Uint8Array(0), bounds: [], rows: [] };

/** Undefined if both are the same. `keyColumns`: which columns tell rows apart; undefined if only all of them do. */
export function compare(
  before: Shown,
  result: RawResult,
  decode: RowDecoder,
  keyColumns: readonly number[] | undefined,
): { shown: Shown; changes: RowChanges } | undefined {
  const { bytes } = result;
  const bounds = boundsOf(bytes);
  const prefix = countEqual(before, bytes, bounds, 0);
  const isSame = prefix === before.rows.length && bounds.length === before.bounds.length;
  if (isSame) return undefined;
  const suffix = countEqual(before, bytes, bounds, prefix, true);
  const middle = compareMiddle(before, { bytes, bounds }, prefix, suffix, decode, keyColumns);
  const rows = [...before.rows.slice(0, prefix), ...middle.rows, ...before.rows.slice(before.rows.length - suffix)];
  return { shown: { bytes, bounds, rows }, changes: middle.changes };
}

function boundsOf(bytes: Uint8Array): number[] {
  const bounds: number[] = [];
  const replies = new Replies(bytes);
  while (replies.next()) if (replies.tag === replyTags.dataRow) bounds.push(replies.start, replies.end);
  return bounds;
}

/** How many rows are equal from the start on, or (among the rest) from the end back. */
function countEqual(
  before: Shown,
  bytes: Uint8Array,
  bounds: readonly number[],
  taken: number,
  backwards = false,
): number {
  const counts = [before.bounds.length / 2, bounds.length / 2] as const;
  const most = Math.min(...counts) - taken;
  let count = 0;
  while (count < most) {
    const i = backwards ? counts[0] - 1 - count : taken + count;
    const j = backwards ? counts[1] - 1 - count : taken + count;
    if (
      !equal(before.bytes, before.bounds[2 * i]!, before.bounds[2 * i + 1]!, bytes, bounds[2 * j]!, bounds[2 * j + 1]!)
    )
      break;
    count++;
  }
  return count;
}

function compareMiddle(
  before: Shown,
  now: Pick<Shown, "bytes" | "bounds">,
  prefix: number,
  suffix: number,
  decode: RowDecoder,
  keyColumns: readonly number[] | undefined,
): { rows: Row[]; changes: RowChanges } {
  const old = indexByKey(before, prefix, before.rows.length - suffix, keyColumns);
  const view = new DataView(now.bytes.buffer, now.bytes.byteOffset, now.bytes.byteLength);
  const rows: Row[] = [];
  const inserted: Row[] = [];
  const updated: Row[] = [];
  const end = now.bounds.length / 2 - suffix;
  for (const [key, i] of indexByKey(now, prefix, end, keyColumns)) {
    const start = now.bounds[2 * i]!;
    const was = old.get(key);
    if (was !== undefined) old.delete(key);
    const isSame =
      was !== undefined &&
      equal(
        before.bytes,
        before.bounds[2 * was]!,
        before.bounds[2 * was + 1]!,
        now.bytes,
        start,
        now.bounds[2 * i + 1]!,
      );
    const row = isSame ? before.rows[was]! : decode(now.bytes, view, start);
    rows.push(row);
    if (was === undefined) inserted.push(row);
    else if (!isSame) updated.push(row);
  }
  return { rows, changes: { inserted, updated, deleted: Array.from(old.values(), (i) => before.rows[i]!) } };
}

/** In the rows' order. A key that comes again is numbered: a result may hold equal rows. */
function indexByKey(
  { bytes, bounds }: Pick<Shown, "bytes" | "bounds">,
  start: number,
  end: number,
  keyColumns: readonly number[] | undefined,
): Map<string, number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const index = new Map<string, number>();
  for (let i = start; i < end; i++) {
    const key = keyOf(bytes, view, bounds[2 * i]!, bounds[2 * i + 1]!, keyColumns);
    let own = key;
    for (let again = 1; index.has(own); again++) own = `${key}\0${again}`;
    index.set(own, i);
  }
  return index;
}

function keyOf(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  end: number,
  keyColumns: readonly number[] | undefined,
): string {
  if (!keyColumns) return rawText(bytes, start, end);
  let key = "";
  for (const column of keyColumns) {
    let at = start + 2;
    for (let skipped = 0; skipped < column; skipped++) at += 4 + Math.max(0, view.getInt32(at));
    const length = view.getInt32(at);
    key += `${length}:${readText(bytes, at + 4, at + 4 + Math.max(0, length))}`;
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
