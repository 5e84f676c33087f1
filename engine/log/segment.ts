/**
 * One file of the log, append-only: a header, records, and once it is sealed a footer with its index. Room is made ahead
 * of the writing, as zeros, so that making an append durable changes nothing but the bytes themselves.
 *
 * A segment exists in memory first: records are encoded for it, and numbered descriptions of tables with them, before
 * its file is made. Whatever fails here may be tried again from the start.
 */
import { randomInt } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { type Lsn, WalcastError } from "../protocol.ts";
import type { Block, LogState } from "./block.ts";
import { type Chunk, Chunks, type Descriptions, SegmentRelations } from "./chunks.ts";
import { type Disk, nameOf, reuse, syncDirectory } from "./disk.ts";

const headerMagic = "WALCAST\n";
const footerMagic = "walcast\n";
const formatVersion = 1;

/** What a segment's first bytes say about it. */
export interface SegmentHeader {
  /** Which history the records belong to; see `history.ts`. */
  readonly history: string;
  /** Everything up to here had been streamed when it was begun: its name. */
  readonly first: Lsn;
  /** Commit-end of the last transaction before it. */
  readonly after: Lsn;
  /** Up to here every transaction had been seen by some snapshot. */
  readonly seenEnd: Lsn;
  readonly salt: number;
}

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
  /** When it was sealed, in ms; undefined while it grows. */
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

export function newSalt(): number {
  return randomInt(2 ** 32);
}

// ── Header: magic, version u32, length u32, first u64, after u64, seen u64, salt u32, history, CRC-32 ──────────────────

const headerFixedBytes = 44;

function headerBytes({ history }: SegmentHeader): number {
  return headerFixedBytes + Buffer.byteLength(history) + 4;
}

function encodeHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(headerBytes(header));
  bytes.write(headerMagic, 0);
  bytes.writeUInt32LE(formatVersion, 8);
  bytes.writeUInt32LE(bytes.length, 12);
  bytes.writeBigUInt64LE(header.first, 16);
  bytes.writeBigUInt64LE(header.after, 24);
  bytes.writeBigUInt64LE(header.seenEnd, 32);
  bytes.writeUInt32LE(header.salt, 40);
  bytes.write(header.history, headerFixedBytes);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

/** Undefined where no header was written whole. Throws where it is of a form that this version does not know. */
export function decodeHeader(bytes: Buffer): SegmentHeader | undefined {
  if (bytes.length < headerFixedBytes + 4 || bytes.toString("latin1", 0, 8) !== headerMagic) return undefined;
  const length = bytes.readUInt32LE(12);
  if (length < headerFixedBytes + 4 || length > bytes.length) return undefined;
  if (crc32(bytes.subarray(0, length - 4)) !== bytes.readUInt32LE(length - 4)) return undefined;
  if (bytes.readUInt32LE(8) !== formatVersion) throw unknownFormat(bytes.readUInt32LE(8));
  return {
    first: bytes.readBigUInt64LE(16) as Lsn,
    after: bytes.readBigUInt64LE(24) as Lsn,
    seenEnd: bytes.readBigUInt64LE(32) as Lsn,
    salt: bytes.readUInt32LE(40),
    history: bytes.toString("utf8", headerFixedBytes, length - 4),
  };
}

export const headerBytesMax = 4096;

function unknownFormat(version: number): Error {
  return new WalcastError(
    "log_failed",
    `open the log: its files have format ${version}, this engine knows ${formatVersion}`,
    {
      hint: "start the version that wrote them, or give another dataDir",
    },
  );
}

// ── Footer: the index as JSON, its length u32, CRC-32 u32 begun with the salt, magic ──────────────────────────────────

const trailerBytes = 16;

interface Footer {
  readonly sealedAt: number;
  readonly history: string;
  readonly end: string;
  readonly recorded: string;
  readonly seenEnd: string;
  readonly larges: readonly { readonly position: string; readonly length: number }[];
  readonly relations: readonly string[];
  readonly chunks: readonly {
    readonly offset: number;
    readonly length: number;
    readonly crc: number;
    readonly end: string;
    readonly tables: readonly number[];
  }[];
}

function encodeFooter({ state, relations, chunks, header }: Segment, sealedAt: number): Buffer {
  const footer: Footer = {
    sealedAt,
    history: state.history,
    end: String(state.end),
    recorded: String(state.recorded),
    seenEnd: String(state.seenEnd),
    larges: state.larges.map(({ position, length }) => ({ position: String(position), length })),
    relations: relations.texts,
    chunks: chunks.all.map((chunk) => ({ ...chunk, end: String(chunk.end), tables: [...chunk.tables] })),
  };
  const json = Buffer.from(JSON.stringify(footer));
  const trailer = Buffer.alloc(trailerBytes);
  trailer.writeUInt32LE(json.length, 0);
  trailer.writeUInt32LE(crc32(json, header.salt), 4);
  trailer.write(footerMagic, 8);
  return Buffer.concat([json, trailer]);
}

export interface FoundFooter {
  readonly state: SegmentState;
  readonly chunks: Chunk[];
  readonly relations: readonly string[];
  readonly sealedAt: number;
}

/** Reads it from the end of a file of `size` bytes; undefined where there is none, or not a whole one. */
export async function readFooter(file: FileHandle, size: number, salt: number): Promise<FoundFooter | undefined> {
  const trailer = await readAt(file, size - trailerBytes, trailerBytes);
  if (trailer?.toString("latin1", 8) !== footerMagic) return undefined;
  const length = trailer.readUInt32LE(0);
  const json = await readAt(file, size - trailerBytes - length, length);
  if (!json || crc32(json, salt) !== trailer.readUInt32LE(4)) return undefined;
  return decodeFooter(JSON.parse(json.toString()) as Footer);
}

function decodeFooter({ chunks, relations, sealedAt, history, larges, ...positions }: Footer): FoundFooter {
  return {
    sealedAt,
    relations,
    state: {
      history,
      end: BigInt(positions.end) as Lsn,
      recorded: BigInt(positions.recorded) as Lsn,
      seenEnd: BigInt(positions.seenEnd) as Lsn,
      larges: larges.map(({ position, length }) => ({ position: BigInt(position) as Lsn, length })),
    },
    chunks: chunks.map((chunk) => ({ ...chunk, end: BigInt(chunk.end) as Lsn, tables: new Set(chunk.tables) })),
  };
}

/** Exactly these bytes; undefined where the file does not have them. */
export async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer | undefined> {
  if (offset < 0 || length < 0) return undefined;
  const bytes = Buffer.allocUnsafeSlow(length);
  let have = 0;
  while (have < length) {
    const { bytesRead } = await file.read(bytes, have, length - have, offset + have);
    if (bytesRead === 0) return undefined;
    have += bytesRead;
  }
  return bytes;
}
