/**
 * Whether the server is behind its own commits, by what it says itself: every XLogData message tells when it was sent, and
 * a Begin when its transaction committed. Both are the server's clock, so no two clocks are compared; and a transaction
 * that comes in several reads is measured against its own commit, however long ago the one before it was.
 *
 * Within a transaction that takes long to be sent there is more, and nobody gets any of it before its end. The walsender
 * is through with it sooner if it does not wake a reader for each row.
 *
 * A block of a transaction that still runs says nothing of commits. But nothing else comes before it is over, and it comes
 * as fast as it can be taken: within one there is always more.
 */
import { messageTags } from "./pgoutput-message.ts";
import { XLOG_HEADER_BYTES } from "./replication-protocol.ts";

// A walsender that keeps up sends within a millisecond of the commit; with synchronous_commit = off it may take
// wal_writer_delay (200 ms), and then pooling costs little of what there is.
const behindUs = 20_000;

// What comes within this time should not wait for a pause to end; of what takes longer, a pause is a small part.
const longUs = 3_000;

const SENT_AT = 17;
const BEGIN_TIME_AT = XLOG_HEADER_BYTES + 9;
const STREAM_COMMIT_TIME_AT = XLOG_HEADER_BYTES + 22;

export class Lag {
  private sent = 0;
  private committed = 0;
  /** When the transaction began to be sent that is not over; 0 between transactions. */
  private began = 0;
  private inBlock = false;

  /** Takes an XLogData message that starts there, header included. */
  note(bytes: Buffer, start: number): void {
    const tag = bytes[start + XLOG_HEADER_BYTES];
    if (tag === messageTags.streamStart) this.inBlock = true;
    else if (tag === messageTags.streamStop) this.inBlock = false;
    else if (!this.inBlock) this.noteCommitted(bytes, start, tag);
  }

  private noteCommitted(bytes: Buffer, start: number, tag: number | undefined): void {
    this.sent = microseconds(bytes, start + SENT_AT);
    if (tag === messageTags.begin) this.begin(microseconds(bytes, start + BEGIN_TIME_AT));
    else if (tag === messageTags.commit) this.began = 0;
    else if (tag === messageTags.streamCommit) this.committed = microseconds(bytes, start + STREAM_COMMIT_TIME_AT);
  }

  private begin(committed: number): void {
    this.committed = committed;
    this.began = this.sent;
  }

  /** What was known is used up: it takes another message to be behind again. */
  reset(): void {
    this.sent = 0;
  }

  get isBehind(): boolean {
    return this.inBlock || isOver(behindUs, this.committed, this.sent) || isOver(longUs, this.began, this.sent);
  }
}

function isOver(limitUs: number, since: number, now: number): boolean {
  return since > 0 && now - since > limitUs;
}

/** Since 2000, which fits a double exactly until the year 2285; a bigint for every message would be garbage. */
function microseconds(bytes: Buffer, at: number): number {
  return bytes.readInt32BE(at) * 0x100000000 + bytes.readUInt32BE(at + 4);
}
