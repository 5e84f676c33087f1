/**
 * The log on disk: the newest transactions in memory, all of them in segment files, for as long as retention keeps those.
 * What is appended can be read at once; it is durable when `recorded` has reached it, and not before. Postgres may
 * forget what is durable here, also what no snapshot has seen yet, as that can be read back.
 */
import assert from "node:assert/strict";
import { unlink } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { PgSnapshot } from "../changes/pg-snapshot.ts";
import type { Transaction } from "../changes/transaction.ts";
import { must } from "../invariants.ts";
import { type Lsn, type WalcastError, zeroLsn } from "../protocol.ts";
import { Descriptions } from "./chunks.ts";
import { Commits } from "./commits.ts";
import { type Disk, realDisk, removeLogFiles } from "./disk.ts";
import { newSalt } from "./header.ts";
import { removeStrayFiles } from "./large-files.ts";
import { lockDirectory } from "./lock.ts";
import type { Log, LogBatch, Pin } from "./log.ts";
import { Pins } from "./pins.ts";
import { Reader, runsOf } from "./reader.ts";
import { recoverSegments } from "./recover.ts";
import { Segment } from "./segment.ts";
import { Segments, startOf } from "./segments.ts";
import { Tail } from "./tail.ts";
import { Unseen } from "./unseen.ts";
import { Writer, type WriterOptions } from "./writer.ts";

export interface DurableLogOptions extends Omit<WriterOptions, "descriptions" | "disk"> {
  /** Segments that were sealed longer ago go. */
  readonly retentionMs: number;
  /** The oldest segments go while all of them together are larger. */
  readonly bytesMax: number;
  /** Memory for the newest transactions. */
  readonly tailBytes: number;
  readonly disk?: Disk;
}

/** A segment that grows slowly is sealed after this part of the retention, so that what it holds goes little later than it may. */
const segmentsInRetention = 8;

/** A batch that a reader is given. */
const batchBytes = 1 << 20;

export class DurableLog implements Log {
  private readonly options: DurableLogOptions;
  private readonly unlock: () => void;
  private readonly descriptions = new Descriptions();
  private segments: Segments;
  private writer: Writer | undefined;
  private tail: Tail;
  private unseen: Unseen;
  private readonly pins = new Pins();
  private readonly commits = new Commits();
  private quietEnd = zeroLsn;
  /** While another history is being begun, this is where clients and shapes still are. */
  private endBefore = zeroLsn;
  private readonly counts = { damages: 0, bytesRead: 0 };

  private constructor(options: DurableLogOptions, unlock: () => void) {
    this.options = options;
    this.unlock = unlock;
    this.segments = new Segments(options.directory, [], this.counts);
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
    await this.segments.removed;
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
    this.counts.damages = damages;
    await removeStrayFiles(this.options.directory, startOf(segments), segments.at(-1)?.state.end ?? zeroLsn);
    if (segments.length === 0) return;
    this.begin(segments);
    await this.recall();
  }

  /** What no snapshot may have seen, and with it the newest transactions. */
  private async recall(): Promise<void> {
    const reader = new Reader();
    try {
      for (let from = this.tail.start; from < this.end;) {
        const { transactions, end } = await this.segments.pieceAfter(reader, from);
        for (const transaction of transactions) this.remember(transaction);
        from = end;
      }
    } catch (error) {
      if ((error as WalcastError).code !== "position_too_old") throw error;
      this.forgetRecent();
      await this.recall();
    } finally {
      await reader.close();
    }
  }

  private begin(segments: Segment[]): void {
    const { options, descriptions, disk } = this;
    this.segments = new Segments(options.directory, segments, this.counts);
    this.writer = new Writer(segments, { ...options, descriptions, disk, onFlushed: () => this.onFlushed() });
    this.quietEnd = this.recorded;
    this.forgetRecent();
  }

  /**
   * What is in memory is nothing: it goes on from what was seen. Where the log begins only after that, as something could
   * not be read back, no shape is loaded before all that may be missing can be seen.
   */
  private forgetRecent(): void {
    const { start } = this;
    const { seenEnd } = this.writer!.state;
    const from = seenEnd > start ? seenEnd : start;
    this.unseen = new Unseen(seenEnd, from);
    this.tail = new Tail(this.options.tailBytes, from);
  }

  private forgetAll(): void {
    this.commits.abandon();
    this.pins.clear();
    this.endBefore = this.end;
    this.writer = undefined;
  }

  // ── Where it is ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What the log was written under; undefined while there is none. */
  get history(): string | undefined {
    return this.writer?.state.history;
  }

  get start(): Lsn {
    return this.segments.start;
  }

  get end(): Lsn {
    return this.writer?.state.end ?? this.endBefore;
  }

  /** Everything before it has come by. */
  get streamed(): Lsn {
    return this.quietEnd > this.end ? this.quietEnd : this.end;
  }

  /** The highest position that is durable. A slot whose confirmed position is above has let go of what was never here. */
  get recorded(): Lsn {
    return this.writer?.durable.recorded ?? zeroLsn;
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
    return this.segments.bytes + this.pendingBytes;
  }

  /** How often something could not be read back. */
  get damages(): number {
    return this.counts.damages;
  }

  /** Bytes that readers were given from files. */
  get bytesRead(): number {
    return this.counts.bytesRead;
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
    const transaction = this.segments.takeOver(sent);
    writer.append(transaction);
    this.remember(transaction);
    this.commits.streamed(transaction.xid, transaction.commitEnd);
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
    if (!writer.failure) writer.sealOlderThan(this.options.retentionMs / segmentsInRetention);
    this.retain(Date.now());
  }

  /** Makes durable what there is, if the disk takes it, and lets go of the directory. */
  async close(): Promise<void> {
    this.checkpoint();
    await this.flushed();
    await this.writer?.stop();
    await this.segments.removed;
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
        const piece = this.recentPiece(from) ?? (await this.segments.pieceAfter(reader, from, tables));
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

  // ── Who needs what ──────────────────────────────────────────────────────────────────────────────────────────────────

  pin(): Pin {
    return this.pins.set(this.unseen.end);
  }

  pinFrom(position: Lsn): Pin | undefined {
    return position < this.start ? undefined : this.pins.set(position);
  }

  learn(snapshot: PgSnapshot): void {
    this.unseen.learn(snapshot);
  }

  positionOf(xid: bigint): Lsn | undefined {
    return this.tail.positionOf(xid);
  }

  committed(xid: bigint): Promise<Lsn> {
    const position = this.positionOf(xid);
    return position === undefined ? this.commits.wait(xid) : Promise.resolve(position);
  }

  // ── Letting go ──────────────────────────────────────────────────────────────────────────────────────────────────────

  private retain(nowMs: number): void {
    // What somebody pinned may still be needed, and what a snapshot does not see.
    const needed = this.pins.lowest(this.unseen.end);
    this.segments.retain(this.options, needed, nowMs);
    // One slow reader must not take the whole disk: it is the one to start again.
    if (this.segments.bytes <= 2 * this.options.bytesMax || needed === this.unseen.end) return;
    this.pins.lose(needed);
    this.retain(nowMs);
  }
}
