/**
 * The rows of one snapshot between COPY and its readers. COPY writes at Postgres' speed; each reader follows at its own, while
 * the writing still goes on. The rows are cut into pieces, each the payload of a frame, so that what is done to a piece (its
 * checksum, reading it back) is done once for all readers who are about there. Small spools stay in memory, others go to a
 * file. One that is kept for later readers is packed: compressed, piece by piece.
 */
import assert from "node:assert/strict";
import { promisify } from "node:util";
import { constants, crc32, zstdCompress, zstdDecompress } from "node:zlib";
import { type Payload, WalcastError } from "../protocol.ts";
import { SpoolFile } from "./spool-file.ts";
import { Lately, type SpoolMemory } from "./spool-memory.ts";

/** Most shapes are smaller than this, and a file for each would cost more than it saves. */
const memoryBytesMax = 1 << 20;
/** COPY waits while the disk has so much to write. */
const unwrittenBytesMax = 4 << 20;
/** Smaller than this, compressing gains nothing. */
const packedBytesMin = 16 << 10;
const firstRoomBytes = 16 << 10;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
/** Several times as fast as the default, for a few percent of the size. */
const fast = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

export interface SpoolOptions {
  readonly directory: string;
  readonly memory: SpoolMemory;
  /** About the size of a piece; a row that is larger is a piece of its own. */
  readonly pieceBytes: number;
}

interface Piece {
  /** Of its rows. */
  readonly crc: number;
  /** Where it is in the file, and how long it is there. */
  readonly at: number;
  readonly length: number;
  /** Where it is in memory. */
  bytes: Buffer | undefined;
}

export class Spool {
  private readonly options: SpoolOptions;
  private pieces: Piece[] = [];
  /** Rows that are no piece yet. */
  private room: Buffer = Buffer.alloc(0);
  private used = 0;
  private inFile = false;
  private file: SpoolFile | undefined;
  private writing: Promise<void> | undefined;
  /** pieces[0 … written) are in the file. */
  private written = 0;
  private unwrittenBytes = 0;
  private memoryTaken = 0;
  private isPacked = false;
  private ended = false;
  private failure: unknown;
  private readonly lately = new Lately<Promise<Payload>>();
  private waiting: (() => void)[] = [];
  /** Bytes of all pieces so far, before they are compressed. */
  length = 0;

  constructor(options: SpoolOptions) {
    this.options = options;
  }

  // ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** One row or several, whole. The bytes may change afterwards. */
  write(rows: Buffer, from = 0, to = rows.length): void {
    if (this.failure !== undefined) return;
    if (this.used + to - from > this.room.length) this.makeRoom(to - from);
    this.used += rows.copy(this.room, this.used, from, to);
  }

  /** Whether the disk is behind; `drained` resolves when it is not, or when nothing is written any more. */
  get isFull(): boolean {
    return this.failure === undefined && this.unwrittenBytes > unwrittenBytesMax;
  }

  async drained(): Promise<void> {
    while (this.isFull) await this.changed();
  }

  /** No more will be written; readers that reach the end are done. */
  end(): void {
    this.cut();
    this.ended = true;
    this.wake();
  }

  /** Nothing that is written is wanted any more. */
  get isOver(): boolean {
    return this.failure !== undefined;
  }

  /** Readers that wait, and those to come, get this error. */
  fail(error: unknown): void {
    this.failure ??= error ?? new Error("the snapshot failed");
    this.wake();
  }

  private makeRoom(bytes: number): void {
    const { pieceBytes } = this.options;
    if (this.used + bytes > pieceBytes) this.cut();
    const size = Math.min(Math.max(this.room.length * 4, firstRoomBytes), pieceBytes);
    const room = Buffer.allocUnsafeSlow(Math.max(size, this.used + bytes));
    this.room.copy(room, 0, 0, this.used);
    this.room = room;
  }

  private cut(): void {
    const rows = this.room.subarray(0, this.used);
    // What is nearly full is handed out as it is.
    const bytes = rows.length > this.room.length / 2 ? rows : ownCopy(rows);
    this.room = Buffer.alloc(0);
    this.used = 0;
    if (bytes.length > 0 && this.failure === undefined) this.push(bytes);
  }

  private push(bytes: Buffer): void {
    assert.equal(bytes.at(-1), newline, "COPY ends every row with a newline");
    const piece = { crc: crc32(bytes), at: this.length, length: bytes.length, bytes };
    this.pieces.push(piece);
    this.length += bytes.length;
    if (!this.inFile && !this.fitsInMemory(bytes.length)) {
      this.inFile = true;
      this.unwrittenBytes = this.length;
    } else if (this.inFile) this.unwrittenBytes += bytes.length;
    if (this.inFile) {
      this.lately.remember(this.pieces.length - 1, Promise.resolve({ bytes, crc: piece.crc }));
      this.writing ??= this.writeOut();
    }
    this.wake();
  }

  private fitsInMemory(bytes: number): boolean {
    if (this.length > memoryBytesMax || !this.options.memory.take(bytes)) return false;
    this.memoryTaken += bytes;
    return true;
  }

  /** As much at once as there is. */
  private async writeOut(): Promise<void> {
    try {
      this.file ??= await this.newFile();
      while (this.written < this.pieces.length && this.failure === undefined) await this.writeSome(this.file);
      this.giveMemory();
    } catch (error) {
      this.fail(error);
    } finally {
      this.writing = undefined;
    }
  }

  private async writeSome(file: SpoolFile): Promise<void> {
    const some = this.pieces.slice(this.written);
    const parts = some.map(({ bytes }) => bytes!);
    await file.write(parts, some[0]!.at);
    for (const piece of some) piece.bytes = undefined;
    this.written += some.length;
    this.unwrittenBytes -= parts.reduce((sum, { length }) => sum + length, 0);
    this.wake();
  }

  private async newFile(): Promise<SpoolFile> {
    const file = await SpoolFile.create(this.options.directory);
    if (this.failure === undefined) return file;
    await file.close();
    throw this.failure;
  }

  // ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether all of it is there, and can be read. */
  get isWhole(): boolean {
    return this.ended && this.failure === undefined;
  }

  /** One piece, waiting for it if need be; undefined after the last. */
  async piece(n: number): Promise<Payload | undefined> {
    while (this.failure === undefined && n >= this.pieces.length && !this.ended) await this.changed();
    if (this.failure !== undefined) throw this.failure;
    const piece = this.pieces[n];
    if (!piece) return undefined;
    return piece.bytes && !this.isPacked ? (piece as Payload) : this.recalled(n, piece);
  }

  private recalled(n: number, piece: Piece): Promise<Payload> {
    const recalled = this.lately.get(n) ?? this.readBack(piece, this.file, this.isPacked);
    this.lately.remember(n, recalled);
    return recalled;
  }

  private async readBack(
    { at, length, bytes, crc }: Piece,
    file: SpoolFile | undefined,
    isPacked: boolean,
  ): Promise<Payload> {
    try {
      const stored = bytes ?? (await file!.read(at, length));
      const rows = isPacked ? await decompress(stored) : stored;
      if (crc32(rows) !== crc) throw new Error("it is damaged");
      return { bytes: rows, crc };
    } catch (cause) {
      this.fail(new WalcastError("snapshot_failed", `read back a snapshot: ${(cause as Error).message}`, { cause }));
      throw this.failure;
    }
  }

  // ── Being kept ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What it takes of the memory, and of the disk. */
  get memoryBytes(): number {
    return this.inFile ? 0 : this.storedBytes;
  }

  get fileBytes(): number {
    return this.inFile ? this.storedBytes : 0;
  }

  private get storedBytes(): number {
    const last = this.pieces.at(-1);
    return last ? last.at + last.length : 0;
  }

  /** Once it is whole. Readers may go on meanwhile. */
  async pack(): Promise<void> {
    this.lately.clear();
    await this.writing;
    if (this.isPacked || this.length < packedBytesMin || !this.isWhole) return;
    const file = this.inFile ? await this.newFile() : undefined;
    try {
      this.becomePacked(await this.packedInto(file), file);
    } catch (error) {
      await file?.close();
      throw error;
    }
  }

  private async packedInto(file: SpoolFile | undefined): Promise<Piece[]> {
    const packed: Piece[] = [];
    let at = 0;
    for (let n = 0; n < this.pieces.length; n++) {
      const rows = await this.piece(n);
      this.lately.delete(n);
      const bytes = await compress(rows!.bytes, fast);
      await file?.write([bytes], at);
      packed.push({ crc: rows!.crc, at, length: bytes.length, bytes: file ? undefined : bytes });
      at += bytes.length;
    }
    if (this.failure !== undefined) throw this.failure;
    return packed;
  }

  private becomePacked(pieces: Piece[], file: SpoolFile | undefined): void {
    const before = this.file;
    this.pieces = pieces;
    this.file = file;
    this.isPacked = true;
    this.giveMemory();
    void before?.close();
  }

  /** Whatever is still read or written afterwards fails. */
  async close(): Promise<void> {
    this.fail(new Error("the snapshot is not needed any more"));
    this.pieces = [];
    this.lately.clear();
    this.giveMemory();
    await this.writing;
    await this.file?.close();
    this.file = undefined;
  }

  private giveMemory(): void {
    this.options.memory.give(this.memoryTaken);
    this.memoryTaken = 0;
  }

  // ── Waiting ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  private changed(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  private wake(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}

const newline = 0x0a;

/** In memory of its own: what is kept for long in a buffer that Node shares out would keep all 64 KiB of that. */
function ownCopy(rows: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(rows.length);
  rows.copy(copy);
  return copy;
}
