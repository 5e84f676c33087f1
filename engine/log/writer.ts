/**
 * Puts records into segments. What is appended is encoded a moment later, when clients have it already; one flush at a time takes all that
 * waits for the same segment, writes it and syncs it. What fails is tried again, all of it, for as long as it takes: after a failed
 * sync nobody knows what reached the disk, so nothing less than writing it again makes it sure.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Transaction } from "../changes/transaction.ts";
import { diskRefused } from "../explain.ts";
import type { Lsn, WalcastError } from "../protocol.ts";
import { advance, Block, blockBytes, type LogState, recordBytes } from "./block.ts";
import type { Descriptions } from "./chunks.ts";
import { type Disk, syncDirectory, syncFile } from "./disk.ts";
import { largePath } from "./large-files.ts";
import { encodeDetails, encodeHistory, encodePosition, encodeRelation } from "./record.ts";
import { newSalt } from "./header.ts";
import { Segment } from "./segment.ts";

export interface WriterOptions {
  readonly directory: string;
  /** A segment that is as large is followed by another. */
  readonly segmentBytes: number;
  readonly descriptions: Descriptions;
  readonly disk: Disk;
  /** More is durable, and can be acknowledged. */
  readonly onFlushed: () => void;
  /** Writing failed, and is tried again. Told once, until it has succeeded. */
  readonly onFailed: (error: WalcastError) => void;
}

const retryMs = 50;
const retryMsMax = 5_000;

/**
 * Before a flush more is gathered: what goes to the disk at once costs little more, and where Postgres has the same disk, its commits wait
 * for each of ours. And those whom a change was just sent to get the core first, where they share it. Nobody waits for
 * ours but the acknowledgement, which is in less of a hurry.
 */
const gatherMs = 10;
const gatherBytesMax = 1024 * 1024;

/** Buffers that are kept for the next blocks. */
const spareBuffersMax = 4;

export class Writer {
  private readonly options: WriterOptions;
  /** Oldest first; the last is the one that records are encoded for. */
  private readonly segments: Segment[];
  private written: Segment;
  /** Appended, and not encoded yet. */
  private appended: Transaction[] = [];
  private blocks: Block[] = [];
  private spare: Buffer[] = [];
  private flushing: Promise<void> | undefined;
  /** How many wait for what there is to be durable. */
  private awaited = 0;
  private stopGathering: (() => void) | undefined;
  private readonly stopping = new AbortController();
  /** Why nothing gets onto the disk at present. */
  failure: WalcastError | undefined;
  /** Where the log is with all that was appended. */
  readonly state: LogState;
  /** Where it is with all that was encoded. */
  private readonly encoded: LogState;
  private encodedBytes = 0;
  private appendedBytes = 0;

  constructor(segments: Segment[], options: WriterOptions) {
    this.options = options;
    this.segments = segments;
    this.written = segments.at(-1)!;
    const { end, recorded, seenEnd, history } = this.written.state;
    this.state = { end, recorded, seenEnd, history };
    this.encoded = { ...this.state };
    if (this.written.sealedAt !== undefined) this.begin();
  }

  /** Where the log is on the disk. */
  get durable(): Readonly<LogState> {
    return this.written.state;
  }

  /** Appended, and not on the disk yet: about so many bytes. */
  get pendingBytes(): number {
    return this.encodedBytes + this.appendedBytes;
  }

  append(transaction: Transaction): void {
    this.appended.push(transaction);
    this.appendedBytes += transaction.bytes.length;
    advance(this.state, transaction.commitEnd);
    this.flushSoon();
  }

  /** Everything has been streamed up to `position`, and seen up to `seenEnd`. */
  position(position: Lsn, seenEnd: Lsn): void {
    this.encodeAppended();
    this.turnOver();
    this.proceed({ recorded: position, seenEnd });
    this.add(encodePosition(position, seenEnd, this.salt));
  }

  /** What has come by now can go, in time, although little comes after it. */
  sealOlderThan(ms: number): void {
    this.encodeAppended();
    const { begunAt, header } = this.segment;
    if (this.state.end === header.after || this.state.recorded <= header.first || Date.now() - begunAt < ms) return;
    this.begin();
    // The one before is sealed when there is something to write after it.
    this.position(this.state.recorded, this.state.seenEnd);
  }

  /** What follows belongs to a history of this name, which continues the one before, and was streamed up to `recorded`. */
  history(history: string, recorded: Lsn): void {
    this.encodeAppended();
    this.turnOver();
    this.proceed({ history, recorded });
    this.add(encodeHistory(recorded, history, this.salt));
  }

  private proceed(change: Partial<LogState>): void {
    Object.assign(this.state, change);
    Object.assign(this.encoded, change);
  }

  // ── Encoding ────────────────────────────────────────────────────────────────────────────────────────────────────────

  private encodeAppended(): void {
    for (const transaction of this.appended) this.encode(transaction);
    this.appended = [];
    this.appendedBytes = 0;
  }

  private encode(transaction: Transaction): void {
    this.turnOver();
    const numbers = transaction.relations.map((relation) =>
      this.segment.relations.numberOf(relation, (number, text) => this.describe(number, text)),
    );
    const details = encodeDetails(transaction);
    const block = this.blockFor(recordBytes(transaction, details));
    const before = block.bytes;
    block.addTransaction(transaction, numbers, details);
    advance(this.encoded, transaction.commitEnd);
    this.count(block.bytes - before);
  }

  private get segment(): Segment {
    return this.segments.at(-1)!;
  }

  private get salt(): number {
    return this.segment.header.salt;
  }

  private describe(number: number, text: string): void {
    this.add(encodeRelation(this.encoded.recorded, number, text, this.salt));
  }

  private add(record: Buffer): void {
    const block = this.blockFor(record.length);
    block.addRecord(record);
    Object.assign(block.state, this.encoded);
    this.count(record.length);
  }

  private count(bytes: number): void {
    this.encodedBytes += bytes;
    this.segment.encoded += bytes;
    this.flushSoon();
  }

  /** A full segment is followed by another, under another name: there must have been something since the last. */
  private turnOver(): void {
    const { encoded, header } = this.segment;
    if (encoded >= this.options.segmentBytes && this.encoded.recorded > header.first) this.begin();
  }

  private begin(): void {
    const { directory, descriptions, segmentBytes } = this.options;
    const { end: after, recorded: first, seenEnd, history } = this.encoded;
    const header = { first, after, seenEnd, history, salt: newSalt() };
    this.segments.push(new Segment(header, { directory, descriptions, bytesMax: segmentBytes }));
  }

  private blockFor(bytes: number): Block {
    const last = this.blocks.at(-1);
    if (last?.segment === this.segment && last.hasRoom(bytes)) return last;
    const buffer = bytes <= blockBytes ? this.spare.pop() : undefined;
    const block = new Block(
      this.segment,
      this.encoded,
      buffer ?? Buffer.allocUnsafeSlow(bytes <= blockBytes ? blockBytes : bytes),
    );
    this.blocks.push(block);
    return block;
  }

  // ── Flushing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Resolves when all that was appended is durable, or when the disk refuses it. */
  async flushed(): Promise<void> {
    this.awaited++;
    this.stopGathering?.();
    // Asked again and again, as a failure ends nothing; but that keeps no process alive.
    while (this.flushing && !this.failure)
      await Promise.race([this.flushing, delay(retryMs, undefined, { ref: false })]);
    this.awaited--;
  }

  /** Nothing is written after this; what waits is dropped. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.stopGathering?.();
    await this.flushing;
    await Promise.all(this.segments.map((segment) => segment.close()));
  }

  private flushSoon(): void {
    this.flushing ??= this.flushAll();
    if (this.pendingBytes > gatherBytesMax) this.stopGathering?.();
  }

  private async flushAll(): Promise<void> {
    for (;;) {
      await this.gather();
      this.encodeAppended();
      if (this.blocks.length === 0 || this.stopping.signal.aborted) break;
      await this.persist(this.takeBlocks());
    }
    this.flushing = undefined;
  }

  private async gather(): Promise<void> {
    if (this.awaited > 0 || this.pendingBytes > gatherBytesMax || this.stopping.signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, gatherMs);
    this.stopGathering = resolve;
    await promise;
    clearTimeout(timer);
    this.stopGathering = undefined;
  }

  /** All that waits for the same segment. */
  private takeBlocks(): readonly Block[] {
    const other = this.blocks.findIndex(({ segment }) => segment !== this.blocks[0]!.segment);
    return this.blocks.splice(0, other < 0 ? this.blocks.length : other);
  }

  private async persist(blocks: readonly Block[]): Promise<void> {
    for (let attempt = 0; !this.stopping.signal.aborted; attempt++) {
      try {
        await this.write(blocks);
        return this.succeed(blocks);
      } catch (error) {
        this.fail(error);
        const ms = Math.min(retryMs * 2 ** attempt, retryMsMax);
        await delay(ms, undefined, { signal: this.stopping.signal }).catch(() => {});
      }
    }
  }

  private async write(blocks: readonly Block[]): Promise<void> {
    const { disk } = this.options;
    const { segment } = blocks[0]!;
    if (segment !== this.written) await this.written.seal(disk, Date.now());
    await this.syncLarge(blocks);
    await segment.write(blocks, disk);
    this.written = segment;
  }

  /** Their bytes and their names, before anything refers to them. */
  private async syncLarge(blocks: readonly Block[]): Promise<void> {
    const { directory, disk } = this.options;
    const larges = blocks.flatMap((block) => block.larges);
    for (const { position } of larges) await syncFile(disk, largePath(directory, position));
    if (larges.length > 0) await syncDirectory(directory);
  }

  private succeed(blocks: readonly Block[]): void {
    this.failure = undefined;
    for (const { bytes, buffer } of blocks) {
      this.encodedBytes -= bytes;
      if (buffer.length === blockBytes && this.spare.length < spareBuffersMax) this.spare.push(buffer);
    }
    this.options.onFlushed();
  }

  private fail(cause: unknown): void {
    if (this.failure) return;
    this.failure = diskRefused("write the log", cause);
    this.options.onFailed(this.failure);
  }
}
