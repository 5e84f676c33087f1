/**
 * The bytes of one snapshot between COPY and its readers. COPY writes at Postgres' speed; each reader follows at its own,
 * from its own offset, while the writing still goes on. Small ones stay in memory, others go to a file that is unlinked
 * as soon as it is open, so that it cannot be left behind.
 */
import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, unlink } from "node:fs/promises";
import path from "node:path";

/** Most shapes are smaller than this, and a file for each would cost more than it saves. */
const memoryBytesMax = 1 << 20;

export class Spool {
  private readonly directory: string;
  private chunks: Buffer[] = [];
  private file: FileHandle | undefined;
  private waiting: (() => void)[] = [];
  private ended = false;
  private closed = false;
  private failure: unknown;
  /** Bytes written so far. */
  length = 0;

  constructor(directory: string) {
    this.directory = directory;
  }

  async write(chunk: Buffer): Promise<void> {
    if (!this.file && this.length + chunk.length > memoryBytesMax) await this.moveToFile();
    if (this.closed) return;
    if (this.file) await this.file.write(chunk, 0, chunk.length, this.length);
    else this.chunks.push(chunk);
    this.length += chunk.length;
    this.wake();
  }

  /** No more will be written; readers that reach the end are done. */
  end(): void {
    this.ended = true;
    this.wake();
  }

  /** Readers that wait, and those to come, get this error. */
  fail(error: unknown): void {
    this.failure ??= error ?? new Error("the snapshot failed");
    this.wake();
  }

  /** Up to `bytesMax` bytes from `offset`, waiting for them if need be; an empty buffer at the end. */
  async read(offset: number, bytesMax: number): Promise<Buffer> {
    while (this.failure === undefined && offset >= this.length && !this.ended) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    if (this.failure !== undefined) throw this.failure;
    const length = Math.min(bytesMax, this.length - offset);
    return this.file ? this.readFile(this.file, offset, length) : this.readMemory(offset, length);
  }

  /** Whatever is still read or written afterwards fails. */
  async close(): Promise<void> {
    this.closed = true;
    this.fail(new Error("the snapshot is not needed any more"));
    this.chunks = [];
    const file = this.file;
    this.file = undefined;
    await file?.close();
  }

  private async moveToFile(): Promise<void> {
    await mkdir(this.directory, { recursive: true });
    const name = path.join(this.directory, `snapshot-${randomUUID()}`);
    const file = await open(name, "wx+", 0o600);
    await unlink(name);
    if (this.closed) return file.close();
    await file.write(Buffer.concat(this.chunks), 0, this.length, 0);
    this.file = file;
    this.chunks = [];
  }

  private async readFile(file: FileHandle, offset: number, length: number): Promise<Buffer> {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, offset);
    return buffer.subarray(0, bytesRead);
  }

  private readMemory(offset: number, length: number): Buffer {
    // Readers come back with growing offsets; one concatenation makes every later read a slice.
    if (this.chunks.length > 1) this.chunks = [Buffer.concat(this.chunks)];
    return this.chunks[0]?.subarray(offset, offset + length) ?? Buffer.alloc(0);
  }

  private wake(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}
