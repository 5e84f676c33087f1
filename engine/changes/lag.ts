/**
 * Whether the server is behind its own commits, by what it says itself: every XLogData message tells when it was sent, and
 * a Begin when its transaction committed. Both are the server's clock, so no two clocks are compared; and a transaction
 * that comes in several reads is measured against its own commit, however long ago the one before it was.
 */
import { messageTags } from "./pgoutput.ts";

// A walsender that keeps up sends within a millisecond of the commit; with synchronous_commit = off it may take
// wal_writer_delay (200 ms), and then pooling costs little of what there is.
const behindUs = 20_000;

export const XLOG_HEADER_BYTES = 25;
const SENT_AT = 17;
const BEGIN_TIME_AT = XLOG_HEADER_BYTES + 9;

export class Lag {
  private sent = 0;
  private committed = 0;

  /** Takes an XLogData message, header included. */
  note(chunk: Buffer): void {
    this.sent = microseconds(chunk, SENT_AT);
    if (chunk[XLOG_HEADER_BYTES] === messageTags.begin) this.committed = microseconds(chunk, BEGIN_TIME_AT);
  }

  /** What was known is used up: it takes another message to be behind again. */
  reset(): void {
    this.sent = 0;
  }

  get isBehind(): boolean {
    return this.committed > 0 && this.sent - this.committed > behindUs;
  }
}

/** Since 2000, which fits a double exactly until the year 2285; a bigint for every message would be garbage. */
function microseconds(bytes: Buffer, at: number): number {
  return bytes.readInt32BE(at) * 0x100000000 + bytes.readUInt32BE(at + 4);
}
