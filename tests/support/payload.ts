/** Encodes transactions and frames the way protocol.ts describes them, for tests that play the server. */
import {
  type Commit,
  crc32,
  encodeFrameHeader,
  frameHeaderBytes,
  type FrameKind,
  type Lsn,
  oldKinds,
  type Operation,
  tags,
  type Value,
} from "../../engine/protocol.ts";

export function encodeCommits(commits: readonly Commit[]): Uint8Array {
  return Buffer.concat(commits.map(encodeCommit));
}

function encodeCommit({ position, commitTime, xid, operations }: Commit): Buffer {
  const head = Buffer.alloc(29);
  head.writeUInt8(tags.commit, 0);
  head.writeBigUInt64BE(position, 1);
  head.writeBigInt64BE(commitTime, 9);
  head.writeBigUInt64BE(xid, 17);
  head.writeUInt32BE(operations.length, 25);
  return Buffer.concat([head, ...operations.map(encodeOperation)]);
}

function encodeOperation(operation: Operation): Buffer {
  switch (operation.kind) {
    case "insert":
      return Buffer.concat([Buffer.of(tags.insert), encodeTuple(operation.row)]);
    case "update":
      return Buffer.concat([
        Buffer.of(tags.update),
        encodeOld(operation.oldKey, operation.old),
        encodeTuple(operation.row),
      ]);
    case "delete":
      return Buffer.concat([Buffer.of(tags.delete), encodeOld(operation.key, operation.old)]);
    case "truncate":
      return Buffer.of(tags.truncate);
  }
}

function encodeOld(key: readonly Value[] | undefined, row: readonly Value[] | undefined): Buffer {
  if (key) return Buffer.concat([Buffer.of(oldKinds.key), encodeTuple(key)]);
  if (row) return Buffer.concat([Buffer.of(oldKinds.row), encodeTuple(row)]);
  return Buffer.of(oldKinds.none);
}

function encodeTuple(values: readonly Value[]): Buffer {
  const count = Buffer.alloc(2);
  count.writeUInt16BE(values.length);
  return Buffer.concat([count, ...values.map(encodeValue)]);
}

function encodeValue(value: Value): Buffer {
  if (value === null) return Buffer.of(tags.null);
  if (value === undefined) return Buffer.of(tags.unchanged);
  const text = Buffer.from(value);
  const head = Buffer.alloc(5);
  head.writeUInt8(tags.text);
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, text]);
}

export interface FrameToSend {
  readonly kind: FrameKind;
  readonly position: Lsn;
  readonly boundary?: boolean;
  readonly sections?: readonly { readonly subscription: number; readonly bytes: Uint8Array }[];
}

export function encodeFrame(
  { kind, position, boundary = true, sections = [] }: FrameToSend,
  number: number,
  previousChecksum: number,
): { bytes: Buffer; checksum: number } {
  const out = sections.map(({ subscription, bytes }) => ({ subscription, payload: { bytes, crc: crc32(bytes) } }));
  const header = new Uint8Array(frameHeaderBytes(out.length));
  const checksum = encodeFrameHeader(header, { kind, boundary, number, position }, out, previousChecksum);
  return { bytes: Buffer.concat([header, ...sections.map(({ bytes }) => bytes)]), checksum };
}

/** A line of COPY text. https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2 */
export function copyLine(values: readonly (string | null)[]): string {
  const escapes: Record<string, string> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };
  return `${values.map((value) => (value === null ? "\\N" : value.replace(/[\\\t\n\r]/g, (found) => escapes[found]!))).join("\t")}\n`;
}
