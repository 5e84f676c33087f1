/**
 * One file of the log, append-only: a header, records, and once it is sealed a footer with its index. Room is made ahead
 * of the writing, as zeros, so that making an append durable changes nothing but the bytes themselves.
 *
 * A segment exists in memory first: records are encoded for it, and numbered descriptions of tables with them, before
 * its file is made. Whatever fails here may be tried again from the start.
 */
import { type FileHandle, open } from "node:fs/promises";
import type { Lsn } from "../protocol.ts";
import type { Block, LogState } from "./block.ts";
import { Chunks, type Descriptions, SegmentRelations } from "./chunks.ts";
import { type Disk, nameOf, reuse, syncDirectory } from "./disk.ts";
import { encodeFooter, type FoundFooter } from "./footer.ts";
import { encodeHeader, headerBytes, type SegmentHeader } from "./header.ts";

/** What its records come to; written into the footer. */
export interface SegmentState extends LogState {
  /** The large transactions whose files belong to it, and their bytes. */
  larges: { position: Lsn; length: number }[];
}

/** Room that is made at once: little for an engine that idles, more for one that writes much. */
const aheadBytesMin = 1 << 20;
const aheadBytesMax = 16 << 20;
const zeros = Buffer.alloc(1 << 20);

export class Segment {
  readonly directory: string;
  readonly path: string;
  readonly header: SegmentHeader;
  readonly relations: SegmentRelations;
  readonly chunks: Chunks;
  /** Of what is durable. */
  readonly state: SegmentState;
  /** Bytes that have been encoded for it. */
  encoded: number;
  /** When its file was begun, in ms, and when it was sealed; the latter is undefined while it grows. */
  begunAt = Date.now();
  sealedAt: number | undefined;
  /** Whether it was found sealed. */
  readonly hasFooter: boolean;
  private file: FileHandle | undefined;
  private allocated = 0;
  private making: Promise<void> | undefined;
  private readonly bytesMax: number;

  constructor(
    header: SegmentHeader,
    { directory, descriptions, bytesMax }: { directory: string; descriptions: Descriptions; bytesMax: number },
    found?: FoundFooter,
  ) {
    this.directory = directory;
    this.header = header;
    this.bytesMax = bytesMax;
    this.path = nameOf(directory, header.first, "segment");
    this.relations = new SegmentRelations(descriptions, found?.relations);
    this.chunks = new Chunks(chunkBytes(bytesMax), headerBytes(header), found?.chunks);
    this.encoded = this.chunks.length;
    this.sealedAt = found?.sealedAt;
    this.hasFooter = found !== undefined;
    const { history, first, after, seenEnd } = header;
    this.state = found?.state ?? { history, end: after, recorded: first, seenEnd, larges: [] };
  }

  /** What it takes on the disk, large transactions included. */
  get bytes(): number {
    return this.state.larges.reduce((sum, { length }) => sum + length, this.chunks.length);
  }

  /** Makes the file, durable with its header; out of one that is not needed any more, where there is one. */
  async create(disk: Disk): Promise<void> {
    if (this.file) return;
    const file = await open(this.path, (await reuse(this.directory, this.path)) ? "r+" : "w+", 0o600);
    try {
      await disk.write(file.fd, [encodeHeader(this.header)], 0);
      await disk.sync(file.fd);
      await syncDirectory(this.directory);
      this.allocated = Math.max((await file.stat()).size, this.chunks.length);
    } catch (error) {
      await file.close();
      throw error;
    }
    this.file = file;
  }

  /** Opens what an earlier process wrote, and cuts off what is not part of it. */
  async reopen(): Promise<void> {
    const file = await open(this.path, "r+");
    await file.truncate(this.chunks.length);
    await file.sync();
    this.sealedAt = undefined;
    this.file = file;
    this.allocated = this.chunks.length;
  }

  /** Makes the blocks durable: one write, one sync. */
  async write(blocks: readonly Block[], disk: Disk): Promise<void> {
    await this.create(disk);
    const end = this.chunks.length + blocks.reduce((sum, { bytes }) => sum + bytes, 0);
    if (end > this.allocated) await this.making;
    const { fd } = this.file!;
    await disk.write(
      fd,
      blocks.flatMap(({ parts }) => parts),
      this.chunks.length,
    );
    await disk.sync(fd);
    this.allocated = Math.max(this.allocated, end);
    for (const block of blocks) this.note(block);
    this.makeRoom(disk);
  }

  private note(block: Block): void {
    this.chunks.add({ parts: block.parts, tables: block.tables, end: block.state.end });
    Object.assign(this.state, block.state);
    this.state.larges.push(...block.larges);
  }

  /** Beside the writing, and without its certainty: a write that finds no room makes its own. */
  private makeRoom(disk: Disk): void {
    const ahead = Math.min(Math.max(this.chunks.length, aheadBytesMin), aheadBytesMax);
    if (this.making || this.allocated - this.chunks.length > ahead / 2) return;
    const bytes = Math.min(ahead, this.bytesMax - this.allocated);
    if (bytes <= 0) return;
    const whole = Math.floor(bytes / zeros.length);
    const parts = [...Array.from({ length: whole }, () => zeros), zeros.subarray(0, bytes % zeros.length)];
    this.making = disk
      .write(this.file!.fd, parts, this.allocated)
      .then(() => void (this.allocated += bytes))
      .catch(() => {})
      .finally(() => (this.making = undefined));
  }

  /** No more will be written: the index is put at the end, and the file is closed. */
  async seal(disk: Disk, nowMs: number): Promise<void> {
    if (!this.file) return;
    await this.making;
    const { length } = this.chunks;
    const footer = encodeFooter(this, nowMs);
    await disk.write(this.file.fd, [footer], length);
    await this.file.truncate(length + footer.length);
    await disk.sync(this.file.fd);
    await this.close();
    this.sealedAt = nowMs;
  }

  async close(): Promise<void> {
    await this.making;
    const file = this.file;
    this.file = undefined;
    await file?.close();
  }
}

/** The piece in which a segment is read and skipped. */
export function chunkBytes(segmentBytes: number): number {
  return Math.min(1 << 20, Math.ceil(segmentBytes / 8));
}
