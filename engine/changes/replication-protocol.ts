/**
 * What is said within the CopyData of a replication connection: XLogData and keepalives by the server, status updates by us.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import { WalcastError } from "../errors.ts";
import { type Lsn, lsnFromHalves } from "../protocol.ts";

const XLOG_DATA = 0x77; // 'w'
const KEEPALIVE = 0x6b; // 'k'
const KEEPALIVE_BYTES = 18;
const MICROSECONDS_TO_2000 = 946_684_800_000_000n;

/** Before an XLogData's own bytes: its kind, where they are in the WAL, where the WAL ends, and when it was sent. */
export const XLOG_HEADER_BYTES = 25;

export interface ReplicationEvents {
  /** bytes[start … end) are an XLogData, header included; something follows the header. */
  readonly onXLogData: (bytes: Buffer, start: number, end: number) => void;
  readonly onKeepalive: (walEnd: Lsn, replyRequested: boolean) => void;
}

/** bytes[start … end) are one message; the bytes around it are others'. Throws `malformed_message`. */
export function readReplicationMessage(bytes: Buffer, start: number, end: number, events: ReplicationEvents): void {
  const length = end - start;
  const kind = length > 0 ? bytes[start] : undefined;
  if (kind === XLOG_DATA && length > XLOG_HEADER_BYTES) return events.onXLogData(bytes, start, end);
  if (kind !== KEEPALIVE || length !== KEEPALIVE_BYTES)
    throw new WalcastError(
      "malformed_message",
      `read the replication stream: expected XLogData or a keepalive, found ${length} bytes of kind ${kind}`,
    );
  const walEnd = lsnFromHalves(bytes.readUInt32BE(start + 1), bytes.readUInt32BE(start + 5));
  events.onKeepalive(walEnd, bytes[start + 17] === 1);
}

/** Standby status update. Written and flushed are told apart, so that the server's view of our lag is true. */
export function statusUpdate(received: Lsn, acknowledged: Lsn, replyRequested: boolean): Buffer {
  const message = Buffer.alloc(34);
  message[0] = 0x72; // 'r'
  message.writeBigUInt64BE(received > acknowledged ? received : acknowledged, 1);
  message.writeBigUInt64BE(acknowledged, 9);
  message.writeBigUInt64BE(acknowledged, 17);
  message.writeBigInt64BE(BigInt(Date.now()) * 1000n - MICROSECONDS_TO_2000, 25);
  message[33] = replyRequested ? 1 : 0;
  return message;
}
