/**
 * The log on disk: the newest transactions in memory, all of them in segment files, for as long as retention keeps those.
 * What is appended can be read at once; it is durable when `acknowledgeable` has reached it, and not before. Postgres may
 * forget what is durable here, also what no snapshot has seen yet, as that can be read back.
 */
import assert from "node:assert/strict";
import { unlink } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { PgSnapshot } from "../changes/pg-snapshot.ts";
import type { Transaction } from "../changes/transaction.ts";
import { must } from "../invariants.ts";
import { formatLsn, type Lsn, WalcastError, zeroLsn } from "../protocol.ts";
import { type Chunk, Descriptions } from "./chunks.ts";
import { type Disk, realDisk, removeFile, removeLogFiles, setAside } from "./disk.ts";
import { largePath, removeStrayFiles, takeOver } from "./large-files.ts";
import { lockDirectory } from "./lock.ts";
import type { Log, LogBatch, Pin } from "./log.ts";
import { Reader, runsOf } from "./reader.ts";
import { describedBy, recoverSegments } from "./recover.ts";
import { expiredSegments, totalBytes } from "./retention.ts";
import { newSalt, Segment } from "./segment.ts";
import { Tail } from "./tail.ts";
import { Unseen } from "./unseen.ts";
import { Writer } from "./writer.ts";

export interface DurableLogOptions {
  readonly directory: string;
  /** Segments that were sealed longer ago go. */
  readonly retentionMs: number;
  /** The oldest segments go while all of them together are larger. */
  readonly bytesMax: number;
  readonly segmentBytes: number;
  /** Memory for the newest transactions. */
  readonly tailBytes: number;
  /** More can be acknowledged. */
  readonly onFlushed: () => void;
  /** Writing failed, and is tried again. Told once, until it has succeeded. */
  readonly onFailed: (error: WalcastError) => void;
  readonly disk?: Disk;
}

/** A batch that a reader is given. */
const batchBytes = 1 << 20;

export class DurableLog implements Log {
  private readonly options: DurableLogOptions;
  private readonly unlock: () => void;
  private readonly descriptions = new Descriptions();
  /** Oldest first; the writer adds, retention takes away. */
  private segments: Segment[] = [];
  private writer: Writer | undefined;
  private tail: Tail;
  private unseen: Unseen;
  private readonly pins = new Set<{ readonly from: Lsn }>();
  private readonly waiting = new Map<bigint, PromiseWithResolvers<Lsn>>();
  private quietEnd = zeroLsn;
  /** Everything up to here is lost, whatever file it is in. */
  private lostEnd = zeroLsn;
  private removing: Promise<void> = Promise.resolve();
  /** Segments that could not be read back, and what was before them: the log's start moved behind. */
  damages = 0;
  /** Bytes that readers were given from files. */
  bytesRead = 0;

  private constructor(options: DurableLogOptions, unlock: () => void) {
    this.options = options;
    this.unlock = unlock;
    this.tail = new Tail(options.tailBytes, zeroLsn);
    this.unseen = new Unseen(zeroLsn);
  }

  /** Throws `data_dir_in_use` where another process has the directory, and `log_failed` where its files cannot be read. */
  static async open(options: DurableLogOptions): Promise<DurableLog> {
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    const log = new DurableLog(options, await lockDirectory(options.directory));
    try {
      await log.recover();
    } catch (error) {
      log.unlock();
      throw error;
    }
    return log;
  }

  /**
   * A history begins at this position, or goes on there after a hole: what was before is gone. Who waits for a
   * transaction or reads on from before gets an error.
   */
  async startAt(position: Lsn, history: string): Promise<void> {
    await this.writer?.stop();
    await this.removing;
    this.forgetAll();
    await removeLogFiles(this.options.directory);
    const header = { history, first: position, after: position, seenEnd: position, salt: newSalt() };
    const segment = new Segment(header, this.segmentOptions);
    await segment.create(this.disk);
    this.begin([segment]);
  }

  private get segmentOptions() {
    const { directory, segmentBytes } = this.options;
    return { directory, descriptions: this.descriptions, bytesMax: segmentBytes };
  }

  private get disk(): Disk {
    return this.options.disk ?? realDisk;
  }

  private async recover(): Promise<void> {
    const { segments, damages } = await recoverSegments(this.segmentOptions);
    this.damages = damages;
    await removeStrayFiles(this.options.directory, startOf(segments), segments.at(-1)?.state.end ?? zeroLsn);
    if (segments.length === 0) return;
    this.begin(segments);
    await this.recall();
  }

  /** What no snapshot may have seen, and with it the newest transactions. */
  private async recall(): Promise<void> {
    const reader = new Reader();
    try {
      for (let from = this.unseen.end; from < this.end;) {
        const { transactions, end } = await this.nextPiece(reader, from);
        for (const transaction of transactions) this.remember(transaction);
        from = end;
      }
    } catch (error) {
      if ((error as WalcastError).code !== "position_too_old") throw error;
      this.begin(this.segments);
      await this.recall();
    } finally {
      await reader.close();
    }
  }

  private begin(segments: Segment[]): void {
    const { seenEnd, recorded } = segments.at(-1)!.state;
    this.segments = segments;
    const { start } = this;
    this.unseen = new Unseen(seenEnd > start ? seenEnd : start);
    this.tail = new Tail(this.options.tailBytes, this.unseen.end);
    this.quietEnd = recorded;
    const { onFailed, directory, segmentBytes } = this.options;
    const { descriptions, disk } = this;
    const onFlushed = (): void => this.onFlushed();
    this.writer = new Writer(segments, { directory, segmentBytes, descriptions, disk, onFlushed, onFailed });
  }

  private forgetAll(): void {
    for (const { reject } of this.waiting.values())
      reject(new WalcastError("snapshot_failed", "wait for a transaction: the history that it belongs to is over"));
    this.waiting.clear();
    this.pins.clear();
    this.writer = undefined;
    this.lostEnd = zeroLsn;
  }

  // ── Where it is ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What the log was written under; undefined while there is none. */
  get history(): string | undefined {
    return this.writer?.state.history;
  }

  get start(): Lsn {
    const start = startOf(this.segments);
    return start > this.lostEnd ? start : this.lostEnd;
  }

  get end(): Lsn {
    return this.writer?.state.end ?? zeroLsn;
  }

  /** Everything before it has come by. */
  get streamed(): Lsn {
    return this.quietEnd > this.end ? this.quietEnd : this.end;
  }

  /** The highest position that is durable. A slot whose confirmed position is above has let go of what was never here. */
  get recorded(): Lsn {
    return this.writer?.durable.recorded ?? zeroLsn;
  }

  get acknowledgeable(): Lsn {
    return this.recorded;
  }

  /** Appended and not yet durable. */
  get pendingBytes(): number {
    return this.writer?.pendingBytes ?? 0;
  }

  /** Why nothing gets onto the disk at present. */
  get failure(): WalcastError | undefined {
    return this.writer?.failure;
  }

  /** What the files take. */
  get bytes(): number {
    return totalBytes(this.segments) + this.pendingBytes;
  }

  get hasUnseen(): boolean {
    return !this.unseen.isEmpty;
  }

  // ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  append(transactions: readonly Transaction[]): readonly Transaction[] {
    const { writer } = this;
    assert(writer, "a log begins somewhere before it is appended to");
    const { end } = this;
    const fresh: Transaction[] = [];
    for (const transaction of transactions) {
      if (transaction.commitEnd <= end) this.discard(transaction);
      else fresh.push(this.push(writer, transaction));
    }
    return fresh;
  }

  private push(writer: Writer, sent: Transaction): Transaction {
    must(sent.commitEnd > writer.state.end, "commit_order", "commit positions strictly increase");
    const transaction = takeOver(sent, this.options.directory);
    writer.append(transaction);
    this.remember(transaction);
    this.waiting.get(transaction.xid)?.resolve(transaction.commitEnd);
    this.waiting.delete(transaction.xid);
    return transaction;
  }

  private remember(transaction: Transaction): void {
    this.unseen.push(transaction.xid, transaction.commitEnd);
    this.tail.push(transaction);
    this.tail.trim(this.writer!.durable.end);
  }

  /** Sent again, and the log has it: the staged file is nobody's. */
  private discard({ large }: Transaction): void {
    if (large) unlink(large.path, () => {});
  }

  private onFlushed(): void {
    this.tail.trim(this.writer!.durable.end);
    this.options.onFlushed();
  }

  /** Resolves when all that was appended is durable, or when the disk refuses it. */
  async flushed(): Promise<void> {
    await this.writer?.flushed();
  }

  quiet(walEnd: Lsn): void {
    if (walEnd > this.quietEnd) this.quietEnd = walEnd;
  }

  /**
   * What follows goes on under another name: a timeline that was taken up without loss. It left the one before at `until`,
   * so what was recorded beyond, in quiet, says nothing about it. Resolves when that is durable.
   */
  async setHistory(history: string, until: Lsn): Promise<void> {
    const { end, recorded } = this.writer!.state;
    const shared = until > end ? until : end;
    if (this.quietEnd > shared) this.quietEnd = shared;
    this.writer!.history(history, recorded > shared ? shared : recorded);
    await this.flushed();
  }

  /** Makes durable how far all was streamed and seen, where that moved, and lets retention go on. */
  checkpoint(): void {
    const { writer, streamed } = this;
    if (!writer) return;
    const { recorded, seenEnd } = writer.state;
    if (streamed > recorded || this.unseen.end > seenEnd) writer.position(streamed, this.unseen.end);
    this.retain(Date.now());
  }

  /** Makes durable what there is, if the disk takes it, and lets go of the directory. */
  async close(): Promise<void> {
    this.checkpoint();
    await this.flushed();
    await this.writer?.stop();
    await this.removing;
    this.unlock();
  }

  // ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  recent(after: Lsn): readonly Transaction[] | undefined {
    return this.tail.after(after);
  }

  async *read(after: Lsn, tables?: ReadonlySet<number>): AsyncIterable<LogBatch> {
    const reader = new Reader();
    let from = after;
    let told = after;
    try {
      for (;;) {
        const piece = this.recentPiece(from) ?? (await this.nextPiece(reader, from, tables));
        if (piece.end === from) break;
        for (const transactions of runsOf(piece.transactions, batchBytes)) {
          told = transactions.at(-1)!.commitEnd;
          yield { transactions, end: told };
        }
        from = piece.end;
      }
      if (told < from) yield { transactions: [], end: from };
    } finally {
      await reader.close();
    }
  }

  private recentPiece(from: Lsn): LogBatch | undefined {
    const transactions = from < this.start ? undefined : this.tail.after(from, batchBytes);
    return transactions && { transactions, end: transactions.at(-1)?.commitEnd ?? from };
  }

  /** A chunk of a file. With nothing in it for these tables it is not even read. */
  private async nextPiece(reader: Reader, from: Lsn, tables?: ReadonlySet<number>): Promise<LogBatch> {
    const { segment, chunk } = this.placeAfter(from);
    if (tables?.isDisjointFrom(chunk.tables)) return { transactions: [], end: chunk.end };
    try {
      const transactions = await reader.read(segment, chunk, from, describedBy(segment, this.segmentOptions));
      this.bytesRead += chunk.length;
      return { transactions, end: chunk.end };
    } catch (error) {
      if (!isDamage(error)) throw error;
      // What retention let go of meanwhile may be another segment's file by now.
      if (!this.segments.includes(segment)) throw tooOld(from, this.start);
      this.lose(segment);
      throw tooOld(from, this.start, error);
    }
  }

  private placeAfter(from: Lsn): { segment: Segment; chunk: Chunk } {
    if (from < this.start) throw tooOld(from, this.start);
    const segment = this.segments.find(({ state }) => state.end > from);
    const chunk = segment?.chunks.after(from);
    assert(segment && chunk, "what is not in memory any more is in a file");
    return { segment, chunk };
  }

  // ── Who needs what ──────────────────────────────────────────────────────────────────────────────────────────────────

  pin(): Pin {
    const pin = { from: this.unseen.end };
    this.pins.add(pin);
    return { from: pin.from, read: (after) => this.readPinned(pin, after), release: () => void this.pins.delete(pin) };
  }

  private readPinned(pin: { readonly from: Lsn }, after: Lsn): readonly Transaction[] {
    const found = this.pins.has(pin) ? this.recent(after > pin.from ? after : pin.from) : undefined;
    if (found) return found;
    throw new WalcastError(
      "snapshot_failed",
      "catch up: the log let go of what this shape needs: it grew past its bound, or its history is over",
      { hint: "raise log.tailBytes" },
    );
  }

  learn(snapshot: PgSnapshot): void {
    this.unseen.learn(snapshot);
  }

  positionOf(xid: bigint): Lsn | undefined {
    return this.tail.positionOf(xid);
  }

  committed(xid: bigint): Promise<Lsn> {
    const position = this.positionOf(xid);
    if (position !== undefined) return Promise.resolve(position);
    const waiting = this.waiting.get(xid) ?? Promise.withResolvers<Lsn>();
    this.waiting.set(xid, waiting);
    return waiting.promise;
  }

  // ── Letting go ──────────────────────────────────────────────────────────────────────────────────────────────────────

  private retain(nowMs: number): void {
    const isFull = totalBytes(this.segments) > this.options.bytesMax;
    this.remove(expiredSegments(this.segments, this.options, this.needed(), nowMs), isFull);
    // One slow reader must not take the whole disk: it is the one to start again.
    if (totalBytes(this.segments) > 2 * this.options.bytesMax && this.loseOldestPin()) this.retain(nowMs);
  }

  /** Everything after it may still be needed: by whoever pinned it, or by a snapshot that does not see it. */
  private needed(): Lsn {
    let needed = this.unseen.end;
    for (const { from } of this.pins) if (from < needed) needed = from;
    return needed;
  }

  private loseOldestPin(): boolean {
    const needed = this.needed();
    if (needed === this.unseen.end) return false;
    for (const pin of this.pins) if (pin.from === needed) this.pins.delete(pin);
    return true;
  }

  /** The start moves at once; the files follow. A log that is always full needs each file again. */
  private remove(count: number, isFull: boolean): void {
    const removed = this.segments.splice(0, count);
    this.removing = removed.reduce(
      (before, segment) => before.then(() => this.removeSegment(segment, isFull)).catch(() => {}),
      this.removing,
    );
  }

  private async removeSegment({ path, state }: Segment, isFull: boolean): Promise<void> {
    const { directory } = this.options;
    await (isFull ? setAside(directory, path) : removeFile(path));
    for (const { position } of state.larges) await removeFile(largePath(directory, position));
  }

  /** What cannot be read back, and what was before it, is not served any more. */
  private lose(segment: Segment): void {
    this.damages++;
    this.lostEnd = segment.state.end;
    const index = this.segments.indexOf(segment);
    if (segment.sealedAt === undefined) segment.encoded = Infinity;
    this.remove(segment.sealedAt === undefined ? index : index + 1, false);
  }
}

function startOf(segments: readonly Segment[]): Lsn {
  return segments[0]?.header.after ?? zeroLsn;
}

/** Not there, not readable, or not what was written: it will not get better. */
function isDamage(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "log_failed" || code === "ENOENT" || code === "EIO";
}

function tooOld(from: Lsn, start: Lsn, cause?: unknown): WalcastError {
  const what = `read the log from ${formatLsn(from)}: it begins at ${formatLsn(start)}`;
  return new WalcastError("position_too_old", cause === undefined ? what : `${what}, as what was before is damaged`, {
    cause,
  });
}
