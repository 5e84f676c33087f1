/** One reader's way through the files: chunk after chunk, with the file of the segment that it is in kept open. */
import { type FileHandle, open } from "node:fs/promises";
import { crc32 } from "node:zlib";
import type { Transaction } from "../changes/transaction.ts";
import type { Lsn } from "../protocol.ts";
import type { Chunk } from "./chunks.ts";
import { readAt } from "./disk.ts";
import {
  damaged,
  decodeTransaction,
  type Described,
  recordKind,
  recordKinds,
  recordLength,
  recordPosition,
  spaceOf,
} from "./record.ts";
import type { Segment } from "./segment.ts";

export class Reader {
  private segment: Segment | undefined;
  private file: FileHandle | undefined;

  /** The chunk's transactions after the position. Throws `log_failed` where it is not what was written. */
  async read(segment: Segment, chunk: Chunk, after: Lsn, described: Described): Promise<Transaction[]> {
    const file = await this.fileOf(segment);
    const bytes = await readAt(file, chunk.offset, chunk.length);
    if (!bytes || crc32(bytes) !== chunk.crc)
      throw damaged(`${segment.path} is damaged between bytes ${chunk.offset} and ${chunk.offset + chunk.length}`);
    return decodeChunk(bytes, after, described);
  }

  async close(): Promise<void> {
    const { file } = this;
    this.file = this.segment = undefined;
    await file?.close();
  }

  private async fileOf(segment: Segment): Promise<FileHandle> {
    if (this.file && this.segment === segment) return this.file;
    await this.close();
    this.file = await open(segment.path, "r");
    this.segment = segment;
    return this.file;
  }
}

function decodeChunk(bytes: Buffer, after: Lsn, described: Described): Transaction[] {
  const space = spaceOf(bytes);
  const transactions: Transaction[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = recordLength(space, at);
    if (length === 0 || length > bytes.length - at) throw damaged("a record exceeds its chunk");
    if (recordKind(space, at) === recordKinds.transaction && recordPosition(space, at) > after)
      transactions.push(decodeTransaction(space, at, length, described));
    at += length;
  }
  return transactions;
}

/** In runs of bounded size, of which a large transaction is one by itself. */
export function* runsOf(transactions: readonly Transaction[], bytesMax: number): Iterable<readonly Transaction[]> {
  let from = 0;
  let bytes = 0;
  for (let i = 0; i < transactions.length; i++) {
    const { large, bytes: own } = transactions[i]!;
    if (i > from && (large || transactions[i - 1]!.large || bytes + own.length > bytesMax)) {
      yield transactions.slice(from, i);
      from = i;
      bytes = 0;
    }
    bytes += own.length;
  }
  if (from < transactions.length) yield from === 0 ? transactions : transactions.slice(from);
}
