/**
 * Where the messages of a transaction wait for its commit while nobody knows how large it becomes: in a buffer of 256 KiB
 * at most, and behind that in a file of its own. Writing never blocks; how much is on its way to the disk is known as
 * `pendingBytes`, and whoever reads from Postgres waits while it is too much.
 *
 * A Staging lives as long as a replication connection. What has not been handed on by then is deleted: Postgres sends
 * transactions that it was not acknowledged again, from their beginning.
 */
import assert from "node:assert/strict";
import { type FileHandle, mkdir, open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { diskRefused } from "../explain.ts";
import { largeBody, RECORD_HEADER_BYTES, unpack, writeRecordHeader } from "./large.ts";
import type { LargeBody, Part } from "./transaction.ts";

const firstBufferBytes = 4 * 1024;
const bufferBytesMax = 256 * 1024;
// Of many transactions that are open at once, each with a buffer that is not full: above this they go to disk all the same.
const heldBytesMax = 8 * 1024 * 1024;
/** Buffers that are kept for what comes next: one that is dropped goes on taking memory until V8 collects it. */
const spareBuffersMax = 8;

export class Staging {
  private readonly directory: string;
  private readonly onFailed: (error: unknown) => void;
  private readonly bodies = new Set<StagedBody>();
  private readonly discarding = new Set<Promise<void>>();
  private made: Promise<unknown> | undefined;
  /** Of the largest size that is used again. */
  private readonly spare: Buffer[] = [];
  /** Given to the disk, and not written yet. */
  pendingBytes = 0;
  /** In buffers. */
  heldBytes = 0;

  /** `onFailed`: the disk refused; no transaction in here can be completed any more. */
  constructor(directory: string, onFailed: (error: unknown) => void) {
    this.directory = directory;
    this.onFailed = onFailed;
  }

  /** Deletes what another connection left behind. */
  async open(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }

  buffer(): Buffer {
    return this.spare.pop() ?? Buffer.allocUnsafeSlow(bufferBytesMax);
  }

  /** Nobody reads it any more. */
  giveBack(buffer: Buffer): void {
    if (buffer.length === bufferBytesMax && this.spare.length < spareBuffersMax) this.spare.push(buffer);
  }

  begin(xid: number): StagedBody {
    const body = new StagedBody(this, join(this.directory, String(xid)));
    this.bodies.add(body);
    return body;
  }

  /** Made when there is something to put into it, which is seldom. */
  makeDirectory(): Promise<unknown> {
    return (this.made ??= mkdir(this.directory, { recursive: true, mode: 0o700 }));
  }

  failed(error: unknown): void {
    this.onFailed(diskRefused(`stage a transaction in ${this.directory}`, error));
  }

  /** Its file, if it has one, is somebody else's. */
  release(body: StagedBody): void {
    this.bodies.delete(body);
  }

  discard(body: StagedBody): void {
    this.bodies.delete(body);
    const discarded = body.remove().finally(() => this.discarding.delete(discarded));
    this.discarding.add(discarded);
    discarded.catch((error: unknown) => this.failed(error));
  }

  async close(): Promise<void> {
    for (const body of this.bodies) this.discard(body);
    await Promise.allSettled(this.discarding);
  }
}

/** The messages of one transaction: appended, then either finished or discarded. */
export class StagedBody {
  private readonly staging: Staging;
  private readonly path: string;
  private buffer: Buffer = Buffer.alloc(0);
  private used = 0;
  /** Bytes that went to the file, or are on their way. */
  private filed = 0;
  private crc = 0;
  private file: FileHandle | undefined;
  private writes: Promise<void> = Promise.resolve();

  constructor(staging: Staging, path: string) {
    this.staging = staging;
    this.path = path;
  }

  /** Takes a message: its tag, and what follows it, which is bytes[start … end). */
  append(xid: number, tag: number, bytes: Buffer, start: number, end: number): void {
    const messageBytes = 1 + end - start;
    this.reserve(RECORD_HEADER_BYTES + messageBytes);
    writeRecordHeader(this.buffer, this.used, messageBytes, xid);
    this.buffer[this.used + RECORD_HEADER_BYTES] = tag;
    bytes.copy(this.buffer, this.used + RECORD_HEADER_BYTES + 1, start, end);
    this.used += RECORD_HEADER_BYTES + messageBytes;
  }

  /** Nothing comes for a while: a buffer is not held for nothing where there are many of them. */
  rest(): void {
    if (this.staging.heldBytes > heldBytesMax) this.flush();
  }

  discard(): void {
    this.staging.discard(this);
  }

  /**
   * Gives what is left without the subtransactions that were rolled back; at once where no file was needed. Up to
   * `largeBytes` it comes back into memory.
   */
  finish(aborted: ReadonlySet<number>, largeBytes: number): Part | Promise<Part | LargeBody> {
    if (this.filed > 0 || this.used > largeBytes) return this.finishOnDisk(aborted, largeBytes);
    const part = unpack(this.buffer, this.used, aborted);
    this.drop();
    this.staging.release(this);
    return part;
  }

  private async finishOnDisk(aborted: ReadonlySet<number>, largeBytes: number): Promise<Part | LargeBody> {
    this.flush();
    await this.writes;
    await this.file!.close();
    const { path, filed: length, crc } = this;
    if (length <= largeBytes) return this.readBack(aborted);
    const body = largeBody({ path, length, crc, aborted: [...aborted] });
    if (aborted.size > 0 && (await isEmpty(body))) return this.forgotten();
    this.staging.release(this);
    return body;
  }

  /** All of it was rolled back. */
  private forgotten(): Part {
    this.discard();
    return { bytes: Buffer.alloc(0), starts: [0] };
  }

  private async readBack(aborted: ReadonlySet<number>): Promise<Part> {
    const bytes = await readFile(this.path);
    assert(bytes.length === this.filed && crc32(bytes) === this.crc, "what was staged is read back");
    this.discard();
    return unpack(bytes, bytes.length, aborted);
  }

  private reserve(size: number): void {
    const needed = this.used + size;
    if (needed <= this.buffer.length) return;
    if (needed <= bufferBytesMax) return this.grow(needed);
    this.flush();
    // A message that is larger than a buffer gets one of its own, and is copied just this once.
    this.hold(size > bufferBytesMax ? Buffer.allocUnsafeSlow(size) : this.staging.buffer());
  }

  private grow(needed: number): void {
    const size = Math.max(needed, Math.min(this.buffer.length * 2, bufferBytesMax), firstBufferBytes);
    const grown = Buffer.allocUnsafeSlow(size);
    this.buffer.copy(grown, 0, 0, this.used);
    this.hold(grown);
  }

  private hold(buffer: Buffer): void {
    this.staging.heldBytes += buffer.length - this.buffer.length;
    this.buffer = buffer;
  }

  private drop(): void {
    this.hold(Buffer.alloc(0));
    this.used = 0;
  }

  private flush(): void {
    if (this.used === 0) return;
    const { buffer } = this;
    const chunk = buffer.subarray(0, this.used);
    this.crc = crc32(chunk, this.crc);
    this.filed += chunk.length;
    this.staging.pendingBytes += chunk.length;
    this.drop();
    this.writes = this.writes.then(() => this.write(chunk)).then(() => this.staging.giveBack(buffer));
    this.writes.catch((error: unknown) => this.staging.failed(error));
  }

  private async write(chunk: Buffer): Promise<void> {
    if (!this.file) {
      await this.staging.makeDirectory();
      // One that exists is somebody else's: two transactions of one xid are never open at once.
      this.file = await open(this.path, "wx");
    }
    for (let at = 0; at < chunk.length;) at += (await this.file.write(chunk, at)).bytesWritten;
    this.staging.pendingBytes -= chunk.length;
  }

  /** For the Staging. */
  async remove(): Promise<void> {
    this.drop();
    await this.writes.catch(() => {});
    await this.file?.close();
    if (this.filed > 0) await rm(this.path, { force: true });
  }
}

async function isEmpty(body: LargeBody): Promise<boolean> {
  for await (const _ of body.parts()) return false;
  return true;
}
