/**
 * The segments of one history: what readers find in them, and which of them go. They go from the oldest on, because of
 * retention or because something in them cannot be read back, and the log's start moves behind. It moves at once, and
 * the files follow, so a reader that misses a file asks where the start is now.
 */
import assert from "node:assert/strict";
import type { LargeBody, Transaction } from "../changes/transaction.ts";
import { formatLsn, type Lsn, WalcastError, zeroLsn } from "../protocol.ts";
import type { Chunk } from "./chunks.ts";
import { removeFile, setAside } from "./disk.ts";
import { bodyAt, type LargeFile, largePath, takeOver } from "./large-files.ts";
import type { LogBatch } from "./log.ts";
import type { Reader } from "./reader.ts";
import type { Described } from "./record.ts";
import { describedBy } from "./recover.ts";
import { expiredSegments, type RetentionLimits, totalBytes } from "./retention.ts";
import type { Segment } from "./segment.ts";

export interface SegmentCounts {
  /** How often something could not be read back. */
  damages: number;
  /** Bytes that readers were given. */
  bytesRead: number;
}

export class Segments {
  private readonly directory: string;
  /** Oldest first; the writer adds to them. */
  private readonly all: Segment[];
  /** Everything up to here is lost, whatever file it is in. */
  private lostEnd = zeroLsn;
  /** Of these transactions only the rows are lost: whose tables they are is known. */
  private readonly lostLarges = new Set<Lsn>();
  /** Resolves when the files of those that went are gone. */
  removed: Promise<void> = Promise.resolve();
  private readonly counts: SegmentCounts;

  constructor(directory: string, all: Segment[], counts: SegmentCounts) {
    this.directory = directory;
    this.all = all;
    this.counts = counts;
  }

  get start(): Lsn {
    const start = startOf(this.all);
    return start > this.lostEnd ? start : this.lostEnd;
  }

  /** What the files take. */
  get bytes(): number {
    return totalBytes(this.all);
  }

  // ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The chunk that goes on from there; what is after the position is in some file. With nothing in it for these tables it is not even read. */
  async pieceAfter(reader: Reader, from: Lsn, tables?: ReadonlySet<number>): Promise<LogBatch> {
    const { segment, chunk } = this.placeAfter(from);
    if (tables?.isDisjointFrom(chunk.tables)) return { transactions: [], end: chunk.end };
    try {
      const transactions = await reader.read(segment, chunk, from, this.describedBy(segment));
      this.counts.bytesRead += chunk.length;
      return { transactions, end: chunk.end };
    } catch (error) {
      if (!isDamage(error)) throw error;
      // What retention let go of meanwhile may be another segment's file by now.
      if (!this.all.includes(segment)) throw tooOld(from, this.start);
      this.loseSegment(segment);
      throw tooOld(from, this.start, error);
    }
  }

  private placeAfter(from: Lsn): { segment: Segment; chunk: Chunk } {
    if (from < this.start) throw tooOld(from, this.start);
    const segment = this.all.find(({ state }) => state.end > from);
    const chunk = segment?.chunks.after(from);
    assert(segment && chunk, "what is not in memory any more is in a file");
    return { segment, chunk };
  }

  private describedBy(segment: Segment): Described {
    return describedBy(segment, (position, file) => this.largeBody(position, file));
  }

  /** A large transaction's file is the log's from now on. */
  takeOver(transaction: Transaction): Transaction {
    const { large, commitEnd } = transaction;
    if (!large) return transaction;
    takeOver(transaction, this.directory);
    return { ...transaction, large: this.largeBody(commitEnd, large) };
  }

  /** Of a transaction whose file is the log's. A reader is told where that cannot be read any more. */
  private largeBody(position: Lsn, file: LargeFile): LargeBody {
    const body = bodyAt(this.directory, position, file);
    return { ...body, parts: () => this.partsOf(body, position) };
  }

  private async *partsOf(body: LargeBody, position: Lsn): ReturnType<LargeBody["parts"]> {
    if (this.lostLarges.has(position)) throw lostLarge(position);
    try {
      yield* body.parts();
    } catch (error) {
      if (!isDamage(error)) throw error;
      // Retention may take the file from a reader, as it may take a segment.
      if (position <= this.start) throw tooOld(position, this.start);
      if (!this.lostLarges.has(position)) this.counts.damages++;
      this.lostLarges.add(position);
      throw lostLarge(position, error);
    }
  }

  // ── Letting go ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Lets go of what is too old or too much. Everything after `needed` stays. A log that is full needs each file again. */
  retain(limits: RetentionLimits, needed: Lsn, nowMs: number): void {
    const isFull = this.bytes > limits.bytesMax;
    this.remove(expiredSegments(this.all, limits, needed, nowMs), isFull);
  }

  /** What cannot be read back, and what was before it, is not served any more. */
  private loseSegment(segment: Segment): void {
    if (segment.sealedAt === undefined) segment.encoded = Infinity;
    const { end } = segment.state;
    this.counts.damages++;
    this.lostEnd = end;
    const kept = this.all.findIndex(({ sealedAt, state }) => sealedAt === undefined || state.end > end);
    this.remove(kept, false);
  }

  private remove(count: number, isFull: boolean): void {
    const removed = this.all.splice(0, count);
    this.removed = removed.reduce(
      (before, segment) => before.then(() => this.removeSegment(segment, isFull)).catch(() => {}),
      this.removed,
    );
  }

  private async removeSegment({ path, state }: Segment, isFull: boolean): Promise<void> {
    await (isFull ? setAside(this.directory, path) : removeFile(path));
    for (const { position } of state.larges) await removeFile(largePath(this.directory, position));
  }
}

export function startOf(segments: readonly Segment[]): Lsn {
  return segments[0]?.header.after ?? zeroLsn;
}

/** Not there, not readable, or not what was written: it will not get better. */
function isDamage(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "log_failed" || code === "ENOENT" || code === "EIO";
}

function lostLarge(position: Lsn, cause?: unknown): WalcastError {
  return new WalcastError("position_too_old", `read the large transaction at ${formatLsn(position)}: it is damaged`, {
    cause,
  });
}

function tooOld(from: Lsn, start: Lsn, cause?: unknown): WalcastError {
  const what = `read the log from ${formatLsn(from)}: it begins at ${formatLsn(start)}`;
  return new WalcastError("position_too_old", cause === undefined ? what : `${what}, as what was before is damaged`, {
    cause,
  });
}
