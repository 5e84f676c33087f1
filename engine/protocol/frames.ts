/** Binary frames, in both directions, as the head of protocol.ts describes them. */
import { WalcastError } from "../errors.ts";
import { crc32 } from "./crc32.ts";
import type { Lsn } from "./lsn.ts";
import { malformed } from "./malformed.ts";
import { uint32 } from "./uint32.ts";

export const frameKinds = { commits: 1, copy: 2, catchUp: 3, join: 4, position: 5 } as const;
export type FrameKind = keyof typeof frameKinds;

const kindNames: readonly (FrameKind | undefined)[] = [undefined, "commits", "copy", "catchUp", "join", "position"];
const BOUNDARY = 1;
const HEADER_BYTES = 20;
const SECTION_BYTES = 12;

/** A payload and its CRC-32, made once and shared by every connection that gets it. */
export interface Payload {
  readonly bytes: Uint8Array;
  readonly crc: number;
}

export interface SectionOut {
  readonly subscription: number;
  readonly payload: Payload;
}

export interface FrameHead {
  readonly kind: FrameKind;
  readonly boundary: boolean;
  readonly number: number;
  readonly position: Lsn;
}

/** How long the header of a frame is: everything before the payloads. */
export function frameHeaderBytes(sections: number): number {
  return HEADER_BYTES + sections * SECTION_BYTES;
}

/**
 * Writes everything before the payloads to the beginning of `bytes`, and gives the header's checksum. `previousChecksum` is
 * that of the connection's binary frame before, or 0. By hand and without a view: this runs for each commit and client.
 */
export function encodeFrameHeader(
  bytes: Uint8Array,
  head: FrameHead,
  sections: readonly SectionOut[],
  previousChecksum: number,
): number {
  bytes[0] = frameKinds[head.kind];
  bytes[1] = head.boundary ? BOUNDARY : 0;
  bytes[2] = sections.length >>> 8;
  bytes[3] = sections.length;
  uint32(bytes, 4, head.number);
  if (head.position !== halved) halve(head.position);
  uint32(bytes, 12, high);
  uint32(bytes, 16, low);
  let at = HEADER_BYTES;
  for (const { subscription, payload } of sections) {
    uint32(bytes, at, subscription);
    uint32(bytes, at + 4, payload.bytes.length);
    uint32(bytes, at + 8, payload.crc);
    at += SECTION_BYTES;
  }
  const checksum = checksumOf(bytes, at, previousChecksum);
  uint32(bytes, 8, checksum);
  return checksum;
}

/** The position of the frame before, mostly that of this one, too: a bigint in halves is two more of them. */
let halved: Lsn | undefined;
let high = 0;
let low = 0;

function halve(position: Lsn): void {
  halved = position;
  high = Number(position >> 32n);
  low = Number(position & 0xffff_ffffn);
}

export interface SectionIn {
  readonly subscription: number;
  readonly payload: Uint8Array;
}

export interface Frame extends FrameHead {
  readonly checksum: number;
  readonly sections: readonly SectionIn[];
}

/**
 * A binary message → Frame. `expected` is what the connection must see next; payloads are views into `bytes`.
 * Throws `malformed_message`, `frame_out_of_order` or `checksum_mismatch`; the connection cannot be used afterwards.
 */
export function decodeFrame(bytes: Uint8Array, expected: { number: number; previousChecksum: number }): Frame {
  if (bytes.length < HEADER_BYTES) throw malformed(`expected a header of ${HEADER_BYTES} bytes, found ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = kindNames[view.getUint8(0)];
  if (!kind) throw malformed(`expected a frame kind from 1 to 5, found ${view.getUint8(0)}`);
  const count = view.getUint16(2);
  const headerBytes = HEADER_BYTES + count * SECTION_BYTES;
  if (bytes.length < headerBytes)
    throw malformed(`expected ${count} section headers, found the end at byte ${bytes.length}`);
  const number = view.getUint32(4);
  if (number !== expected.number)
    throw new WalcastError("frame_out_of_order", `read a frame: expected number ${expected.number}, found ${number}`);
  const checksum = view.getUint32(8);
  if (checksum !== checksumOf(bytes, headerBytes, expected.previousChecksum))
    throw new WalcastError(
      "checksum_mismatch",
      `read frame ${number}: its header's checksum does not continue the frame before`,
    );
  return {
    kind,
    boundary: (view.getUint8(1) & BOUNDARY) !== 0,
    number,
    checksum,
    position: view.getBigUint64(12) as Lsn,
    sections: decodeSections(bytes, view, count, headerBytes),
  };
}

function decodeSections(bytes: Uint8Array, view: DataView, count: number, headerBytes: number): SectionIn[] {
  const sections: SectionIn[] = [];
  let start = headerBytes;
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + i * SECTION_BYTES;
    const end = start + view.getUint32(at + 4);
    if (end > bytes.length)
      throw malformed(`expected a payload up to byte ${end}, found the end at byte ${bytes.length}`);
    const payload = bytes.subarray(start, end);
    if (crc32(payload) !== view.getUint32(at + 8))
      throw new WalcastError("checksum_mismatch", `read a frame: section ${i}'s payload does not have its checksum`);
    sections.push({ subscription: view.getUint32(at), payload });
    start = end;
  }
  if (start !== bytes.length) throw malformed(`${bytes.length - start} bytes left over`);
  return sections;
}

/** The header's CRC, without the checksum field itself. */
function checksumOf(bytes: Uint8Array, headerBytes: number, seed: number): number {
  return crc32(bytes, crc32(bytes, seed, 0, 8), 12, headerBytes);
}
