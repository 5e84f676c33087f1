/**
 * A transaction as it was committed: what the stream hands on, the log keeps, and shapes are routed by. Its messages are
 * pgoutput's, decoded by nobody beyond what is needed to know which tables it touches.
 */
import type { Lsn } from "../protocol.ts";
import type { Relation } from "./pgoutput-message.ts";
import type { Table } from "./table.ts";

export interface Transaction {
  /** First byte after the commit record: the only position there is. */
  readonly commitEnd: Lsn;
  /** 64 bits wide. */
  readonly xid: bigint;
  /** Microseconds since 2000-01-01 UTC. */
  readonly commitTime: bigint;
  /** The messages between Begin and Commit, back to back: message i is bytes[starts[i] … starts[i + 1]). */
  readonly bytes: Buffer;
  /** One more entry than there are messages. */
  readonly starts: readonly number[];
  /** Every description of a table that held for a row in here. Two of one oid: the table changed in the middle. */
  readonly relations: readonly DescribedRelation[];
  /** What event triggers noted in this transaction, in its order. */
  readonly schemaChanges: readonly SchemaChange[];
  /** Too large for memory: `bytes` is empty, and the messages come from a file, in parts. */
  readonly large?: LargeBody;
}

/** Messages, back to back: message i is bytes[starts[i] … starts[i + 1]). */
export interface Part {
  readonly bytes: Buffer;
  readonly starts: readonly number[];
}

/**
 * The messages of a large transaction, on disk; large.ts makes one. Its file belongs to the log once the transaction is
 * appended, not yet synced; whatever still lies in the staging directory at the next connection to Postgres is deleted.
 */
export interface LargeBody {
  readonly path: string;
  /** Bytes of the file. */
  readonly length: number;
  /** CRC-32 of the file. */
  readonly crc: number;
  /** Subtransactions, by their 32-bit xids, that were rolled back: their messages are in the file, and not in the parts. */
  readonly aborted: readonly number[];
  /** In order, each of some hundred KiB, or one message. Any number of readers, each at its own pace. */
  parts(): AsyncIterable<Part>;
}

export interface DescribedRelation extends Relation {
  /** Names and types of the columns in one text: equal exactly if rows of both read alike. */
  readonly signature: string;
}

export interface SchemaChange {
  readonly tableOid: number;
  /** The table's version after the change; null where it was dropped or rewritten. */
  readonly version: string | null;
  /** What the table is after the change, where that could be told. */
  readonly table?: Table;
  /** Why nobody knows what it is. */
  readonly cause?: string;
}

/** Whether a transaction may have rows of these tables, or change their form. */
export function touches({ relations, schemaChanges }: Transaction, tables: ReadonlySet<number>): boolean {
  return relations.some(({ oid }) => tables.has(oid)) || schemaChanges.some(({ tableOid }) => tables.has(tableOid));
}

export function relationSignature(columns: readonly { name: string; typeOid: number; typmod: number }[]): string {
  return JSON.stringify(columns.map((column) => [column.name, column.typeOid, column.typmod]));
}
