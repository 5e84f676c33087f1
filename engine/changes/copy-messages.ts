/**
 * Takes a connection that is in COPY mode apart: where in the bytes each CopyData lies, without an object per message, and
 * whatever else comes, for whoever speaks the rest of the protocol.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import assert from "node:assert/strict";
import { WalcastError } from "../errors.ts";

const COPY_DATA = 0x64; // 'd'
const HEADER_BYTES = 5;
/** As Postgres has it: no message is larger. */
const messageBytesMax = 0x3fff_ffff;

export interface CopyMessageEvents {
  /** What a CopyData has in it: bytes[start … end), valid only during the call. */
  readonly onData: (bytes: Buffer, start: number, end: number) => void;
  /** Any other message, whole. The receiver's to keep. */
  readonly onOther: (message: Buffer) => void;
}

const nothing = Buffer.alloc(0);

export class CopyMessages {
  private readonly events: CopyMessageEvents;
  /** The beginning of a message that has not come to its end: as much as its header says, or a header. */
  private begun = nothing;
  private begunBytes = 0;

  constructor(events: CopyMessageEvents) {
    this.events = events;
  }

  /** Takes the first `length` of these bytes, which are the caller's again when it returns. Throws `malformed_message`. */
  push(bytes: Buffer, length: number): void {
    let at = this.begunBytes > 0 ? this.complete(bytes, length) : 0;
    while (at + HEADER_BYTES <= length) {
      const end = at + messageBytes(bytes, at);
      if (end > length) break;
      this.message(bytes, at, end);
      at = end;
    }
    if (at < length) this.begin(bytes, at, length);
  }

  private message(bytes: Buffer, start: number, end: number): void {
    if (bytes[start] === COPY_DATA) this.events.onData(bytes, start + HEADER_BYTES, end);
    else this.events.onOther(Buffer.from(bytes.subarray(start, end)));
  }

  private begin(bytes: Buffer, start: number, end: number): void {
    assert(this.begunBytes === 0, "one message ends before the next begins");
    const isHeaderWhole = end - start >= HEADER_BYTES;
    this.begun = Buffer.allocUnsafe(isHeaderWhole ? messageBytes(bytes, start) : HEADER_BYTES);
    this.begunBytes = bytes.copy(this.begun, 0, start, end);
  }

  /** Takes what the message that has begun still lacks; gives where the next one starts. */
  private complete(bytes: Buffer, length: number): number {
    let at = 0;
    if (this.begunBytes < HEADER_BYTES) {
      at = this.add(bytes, at, length, HEADER_BYTES);
      if (this.begunBytes < HEADER_BYTES) return at;
    }
    const size = messageBytes(this.begun, 0);
    if (this.begun.length < size) this.begun = Buffer.concat([this.begun], size);
    at = this.add(bytes, at, length, size);
    if (this.begunBytes < size) return at;
    const whole = this.begun;
    this.begun = nothing;
    this.begunBytes = 0;
    this.message(whole, 0, size);
    return at;
  }

  /** Up to `size` bytes of it. */
  private add(bytes: Buffer, from: number, length: number, size: number): number {
    const until = Math.min(length, from + size - this.begunBytes);
    this.begunBytes += bytes.copy(this.begun, this.begunBytes, from, until);
    return until;
  }
}

/** Of the message that starts there, its tag included. */
function messageBytes(bytes: Buffer, start: number): number {
  const size = bytes.readUInt32BE(start + 1);
  if (size < HEADER_BYTES - 1 || size > messageBytesMax)
    throw new WalcastError(
      "malformed_message",
      `read the replication stream: expected a message of 4 to ${messageBytesMax} bytes, found ${size}`,
    );
  return size + 1;
}
