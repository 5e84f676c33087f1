/**
 * The file of a large transaction: a record for each message, in the order in which they came, those of subtransactions
 * that were rolled back later among them.
 *
 *     record: length of the message, u32 · xid of its subtransaction, u32 · the message, as outside of a block
 *
 * It is read in parts, so whoever sends a transaction of any size holds some hundred KiB of it, or one message. What comes
 * out is what went in: the checksum of the whole is compared before the last part is given.
 */
import { type FileHandle, open } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { WalcastError } from "../errors.ts";
import type { LargeBody, Part } from "./transaction.ts";

export const RECORD_HEADER_BYTES = 8;

const partBytes = 256 * 1024;

/** A LargeBody for a file that was staged, wherever it is now. */
export function largeBody(file: Omit<LargeBody, "parts">): LargeBody {
  const { path, length, crc, aborted } = file;
  return { path, length, crc, aborted, parts: () => readParts({ path, length, crc, aborted }) };
}

/** Writes a record's header at `at`; the message follows it. */
export function writeRecordHeader(into: Buffer, at: number, messageBytes: number, xid: number): void {
  into.writeUInt32LE(messageBytes, at);
  into.writeUInt32LE(xid, at + 4);
}

/**
 * The messages of whole records that lie in bytes[0 … end), without those of `aborted`. They are moved together in place:
 * `bytes` is the part's from here on.
 */
export function unpack(bytes: Buffer, end: number, aborted: ReadonlySet<number>): Part {
  const starts = [0];
  let length = 0;
  for (let at = 0, next; at < end; at = next) {
    next = recordEnd(bytes, at);
    if (aborted.has(bytes.readUInt32LE(at + 4))) continue;
    bytes.copyWithin(length, at + RECORD_HEADER_BYTES, next);
    length += next - at - RECORD_HEADER_BYTES;
    starts.push(length);
  }
  return { bytes: bytes.subarray(0, length), starts };
}

async function* readParts({ path, length, crc, aborted }: Omit<LargeBody, "parts">): AsyncGenerator<Part> {
  const skipped = new Set(aborted);
  const file = await open(path);
  try {
    let sum = 0;
    for (let position = 0; position < length;) {
      const { bytes, end } = await readRecords(file, path, position, length);
      sum = crc32(bytes.subarray(0, end), sum);
      position += end;
      if (position === length && sum !== crc) throw damaged(path, "its checksum differs");
      const part = unpack(bytes, end, skipped);
      if (part.starts.length > 1) yield part;
    }
  } finally {
    await file.close();
  }
}

/** About a part's worth, or one record where that is larger: whole records are bytes[0 … end). */
async function readRecords(
  file: FileHandle,
  path: string,
  position: number,
  length: number,
): Promise<{ bytes: Buffer; end: number }> {
  const bytes = await readExactly(file, path, position, Math.min(partBytes, length - position));
  const end = endOfWholeRecords(bytes);
  if (end > 0) return { bytes, end };
  const size = bytes.length < RECORD_HEADER_BYTES ? Infinity : recordEnd(bytes, 0);
  if (size > length - position) throw damaged(path, `a record at byte ${position} reaches past its end`);
  return { bytes: await readExactly(file, path, position, size), end: size };
}

async function readExactly(file: FileHandle, path: string, position: number, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(size);
  for (let at = 0; at < size;) {
    const { bytesRead } = await file.read(bytes, at, size - at, position + at);
    if (bytesRead === 0) throw damaged(path, `it ends at byte ${position + at}`);
    at += bytesRead;
  }
  return bytes;
}

function endOfWholeRecords(bytes: Buffer): number {
  let end = 0;
  while (end + RECORD_HEADER_BYTES <= bytes.length && recordEnd(bytes, end) <= bytes.length)
    end = recordEnd(bytes, end);
  return end;
}

function recordEnd(bytes: Buffer, at: number): number {
  return at + RECORD_HEADER_BYTES + bytes.readUInt32LE(at);
}

function damaged(path: string, found: string): WalcastError {
  return new WalcastError("log_failed", `read the large transaction in ${path}: ${found}`);
}
