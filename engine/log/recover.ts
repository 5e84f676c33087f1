/**
 * Finds again what an earlier process wrote. A sealed segment explains itself by its footer; any other is read through,
 * and ends with its last whole record: what follows was being written when the process or the machine died, and nobody
 * was told that it was durable. A log with a hole in it begins after the hole.
 */
import { open, readdir, type FileHandle } from "node:fs/promises";
import path from "node:path";
import { WalcastError } from "../protocol.ts";
import { addTables, type Descriptions } from "./chunks.ts";
import { nameOf, readAt, removeFile } from "./disk.ts";
import { readFooter } from "./footer.ts";
import { decodeHeader, headerBytesMax } from "./header.ts";
import { bodyAt } from "./large-files.ts";
import {
  decodeHistory,
  decodePosition,
  decodeRelation,
  decodeTransaction,
  type Described,
  isWhole,
  recordHeadBytes,
  recordKind,
  recordKinds,
  recordLength,
  recordPosition,
  type Space,
  spaceOf,
} from "./record.ts";
import { Segment } from "./segment.ts";

export interface RecoverOptions {
  readonly directory: string;
  readonly descriptions: Descriptions;
  readonly bytesMax: number;
}

export interface Recovered {
  /** Oldest first, without a hole. */
  readonly segments: Segment[];
  /** How many holes there were. */
  readonly damages: number;
}

export async function recoverSegments(options: RecoverOptions): Promise<Recovered> {
  const names = (await readdir(options.directory)).filter((name) => name.endsWith(".segment")).sort();
  let segments: Segment[] = [];
  let damages = 0;
  for (const name of names) {
    const file = path.join(options.directory, name);
    const segment = await recoverSegment(file, options);
    // Without a header it was never begun: a crash came between making the file and the first record.
    if (!segment) await removeFile(file);
    else if (segments.length > 0 && segments.at(-1)!.state.end !== segment.header.after) {
      damages++;
      await removeAll(segments);
      segments = [segment];
    } else segments.push(segment);
  }
  const last = segments.at(-1);
  if (last && !last.hasFooter) await last.reopen();
  return { segments, damages };
}

async function removeAll(segments: readonly Segment[]): Promise<void> {
  for (const segment of segments) await removeFile(segment.path);
}

async function recoverSegment(name: string, options: RecoverOptions): Promise<Segment | undefined> {
  const file = await open(name, "r");
  try {
    const { size, mtimeMs, birthtimeMs } = await file.stat();
    const header = decodeHeader((await readAt(file, 0, Math.min(size, headerBytesMax)))!);
    // A file that was to become this segment, and still has the header of the one that it was.
    if (!header || nameOf(options.directory, header.first, "segment") !== name) return undefined;
    const footer = await readFooter(file, size, header.salt);
    if (footer) return new Segment(header, options, footer);
    const segment = new Segment(header, options);
    await scan(file, size, segment, options);
    segment.begunAt = birthtimeMs;
    segment.sealedAt = mtimeMs;
    return segment;
  } finally {
    await file.close();
  }
}

// ── Reading through ──────────────────────────────────────────────────────────────────────────────────────────────────

const windowBytes = 1 << 20;

async function scan(file: FileHandle, size: number, segment: Segment, options: RecoverOptions): Promise<void> {
  const described = describedBy(segment, (position, large) => bodyAt(options.directory, position, large));
  let window: Space | undefined;
  let windowAt = 0;
  for (;;) {
    const at = segment.chunks.length;
    const have = window ? windowAt + window.bytes.length - at : 0;
    const needed = have < recordHeadBytes ? recordHeadBytes : recordLength(window!, at - windowAt);
    if (needed === 0 || needed > size - at) break;
    if (needed > have) {
      window = spaceOf((await readAt(file, at, Math.min(Math.max(needed, windowBytes), size - at)))!);
      windowAt = at;
      continue;
    }
    if (!take(window!, at - windowAt, needed, segment, described)) break;
  }
  segment.encoded = segment.chunks.length;
}

/** Notes one record; false where it is not one that was written whole. */
function take(space: Space, at: number, length: number, segment: Segment, described: Described): boolean {
  if (!isWhole(space, at, length, segment.header.salt)) return false;
  const tables = new Set<number>();
  const { state } = segment;
  const position = recordPosition(space, at);
  const kind = recordKind(space, at);
  if (kind === recordKinds.transaction) {
    if (position <= state.end) return false;
    const transaction = decodeTransaction(space, at, length, described);
    addTables(tables, transaction);
    if (transaction.large) state.larges.push({ position, length: transaction.large.length });
    state.end = position;
  } else if (kind === recordKinds.relation) {
    const { number, description } = decodeRelation(space, at, length);
    segment.relations.add(number, description);
  } else if (kind === recordKinds.position) state.seenEnd = decodePosition(space, at, length);
  // Another timeline may have been taken up before where the last one had got in quiet.
  else if (kind === recordKinds.history)
    Object.assign(state, { history: decodeHistory(space, at, length), recorded: position });
  else throw new WalcastError("log_failed", `open the log: ${segment.path} has a record of kind ${kind}`);
  if (position > state.recorded) state.recorded = position;
  segment.chunks.add({ parts: [space.bytes.subarray(at, at + length)], end: state.end, tables });
  return true;
}

export function describedBy({ relations }: Segment, largeBody: Described["largeBody"]): Described {
  return { relationsOf: (view, at, count) => relations.relationsOf(view, at, count), largeBody };
}
