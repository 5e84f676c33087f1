/**
 * Records that wait to be written: encoded once, one after another, into a buffer that goes to the disk as it is. A block
 * belongs to one segment. A transaction too large to be copied ends its block: its bytes go to the disk from where they are.
 */
import type { Transaction } from "../changes/transaction.ts";
import type { Lsn } from "../protocol.ts";
import { addTables } from "./chunks.ts";
import { encodeTransaction, type Space, spaceOf, transactionRecordBytes } from "./record.ts";
import type { Segment } from "./segment.ts";

/** Room for a read from the replication socket, several times over. */
export const blockBytes = 256 * 1024;

/** From this size on copying costs more than another part for the system call. */
const copiedBytesMax = 64 * 1024;

/** Where the log is after a record. */
export interface LogState {
  /** Commit-end of the last transaction. */
  end: Lsn;
  /** Everything up to here has been streamed. */
  recorded: Lsn;
  /** Up to this commit every transaction has been seen by some snapshot. */
  seenEnd: Lsn;
  history: string;
}

export class Block {
  readonly segment: Segment;
  readonly tables = new Set<number>();
  readonly larges: { position: Lsn; length: number }[] = [];
  /** Where the log is at the block's end. */
  readonly state: LogState;
  private readonly space: Space;
  private length = 0;
  private body: Buffer | undefined;

  constructor(segment: Segment, state: LogState, buffer: Buffer) {
    this.segment = segment;
    this.state = { ...state };
    this.space = spaceOf(buffer);
  }

  get buffer(): Buffer {
    return this.space.bytes;
  }

  get bytes(): number {
    return this.length + (this.body?.length ?? 0);
  }

  get parts(): readonly Buffer[] {
    const encoded = this.space.bytes.subarray(0, this.length);
    return this.body ? [encoded, this.body] : [encoded];
  }

  hasRoom(bytes: number): boolean {
    return this.body === undefined && this.length + bytes <= this.space.bytes.length;
  }

  addRecord(record: Buffer): void {
    this.space.bytes.set(record, this.length);
    this.length += record.length;
  }

  /** The descriptions that it names, by their numbers in the segment, have their records already. */
  addTransaction(transaction: Transaction, numbers: readonly number[], details: Buffer | undefined): void {
    const bytes = recordBytes(transaction, details);
    const copied = isCopied(transaction);
    const parts = { transaction, numbers, details, copied };
    encodeTransaction(this.space, this.length, bytes, parts, this.segment.header.salt);
    this.length += bytes;
    if (!copied) this.body = transaction.bytes;
    addTables(this.tables, transaction);
    if (transaction.large) this.larges.push({ position: transaction.commitEnd, length: transaction.large.length });
    advance(this.state, transaction.commitEnd);
  }
}

/** A transaction was appended. What had been streamed in quiet is never taken back by it. */
export function advance(state: LogState, commitEnd: Lsn): void {
  state.end = commitEnd;
  if (commitEnd > state.recorded) state.recorded = commitEnd;
}

/** What the transaction's record takes of a block's buffer. */
export function recordBytes(transaction: Transaction, details: Buffer | undefined): number {
  return transactionRecordBytes(transaction, details) + (isCopied(transaction) ? transaction.bytes.length : 0);
}

function isCopied({ bytes }: Transaction): boolean {
  return bytes.length <= copiedBytesMax;
}
