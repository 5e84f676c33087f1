/**
 * The header of a segment's file: what its records go on from. All numbers are little-endian.
 *
 *     magic · version u32 · length u32 · first u64 · after u64 · seen u64 · salt u32 · history · CRC-32 u32
 */
import { randomInt } from "node:crypto";
import { crc32 } from "node:zlib";
import { type Lsn, WalcastError } from "../protocol.ts";

const headerMagic = "WALCAST\n";
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

/** A read of so much has all of it. */
export const headerBytesMax = 4096;

/** Drawn for each file, so that records which an earlier one left on the disk are not taken for its own. */
export function newSalt(): number {
  return randomInt(2 ** 32);
}

const headerFixedBytes = 44;

export function headerBytes({ history }: SegmentHeader): number {
  return headerFixedBytes + Buffer.byteLength(history) + 4;
}

export function encodeHeader(header: SegmentHeader): Buffer {
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

function unknownFormat(version: number): Error {
  return new WalcastError(
    "log_failed",
    `open the log: its files have format ${version}, this engine knows ${formatVersion}`,
    {
      hint: "start the version that wrote them, or give another dataDir",
    },
  );
}
