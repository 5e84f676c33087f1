/**
 * Collects pgoutput messages into whole Transactions. The bytes it is given are valid only during the call, so each
 * transaction's messages are copied, back to back, into a buffer of the transaction's own; nothing is decoded here
 * beyond what is needed to know where a transaction ends and which tables it touches.
 */
import assert from "node:assert/strict";
import type { Lsn } from "../protocol.ts";
import { widenXid } from "./pg-snapshot.ts";
import { decodeMessage, Message, messageTags, type Relation } from "./pgoutput.ts";

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

/** The messages of a large transaction, on disk. Its file belongs to the log once the transaction is appended. */
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
}

export function relationSignature(columns: readonly { name: string; typeOid: number; typmod: number }[]): string {
  return JSON.stringify(columns.map((column) => [column.name, column.typeOid, column.typmod]));
}

export class TransactionAssembler {
  private readonly message = new Message();
  private readonly relations = new Map<number, DescribedRelation>();
  private open: OpenTransaction | undefined;
  private recentXid: bigint;

  /** `recentXid`: any 64-bit xid from about now, against which pgoutput's 32 bits are widened. */
  constructor(recentXid: bigint) {
    this.recentXid = recentXid;
  }

  /** True between Begin and Commit. */
  get inTransaction(): boolean {
    return this.open !== undefined;
  }

  /** Takes one pgoutput message; gives the transaction that it completes. */
  receive(bytes: Buffer, start: number, end: number): Transaction | undefined {
    const tag = bytes[start];
    assert(tag !== undefined, "a message has a tag");
    if (tag === messageTags.begin) this.begin(bytes, start, end);
    else if (tag === messageTags.commit) return this.commit(bytes, start, end);
    else if (tag === messageTags.relation) this.relation(bytes, start, end);
    else this.keep(bytes, start, end, tag);
    return undefined;
  }

  private begin(bytes: Buffer, start: number, end: number): void {
    assert(!this.open, "a transaction ends before the next begins");
    const { xid, time } = decodeMessage(bytes, start, end, this.message);
    this.recentXid = widenXid(xid, this.recentXid);
    this.open = new OpenTransaction(this.recentXid, time);
  }

  private commit(bytes: Buffer, start: number, end: number): Transaction {
    assert(this.open, "a commit ends a transaction");
    const transaction = this.open.finish(decodeMessage(bytes, start, end, this.message).endLsn);
    this.open = undefined;
    return transaction;
  }

  private relation(bytes: Buffer, start: number, end: number): void {
    const relation = decodeMessage(bytes, start, end, this.message).relation();
    this.relations.set(relation.oid, { ...relation, signature: relationSignature(relation.columns) });
  }

  private keep(bytes: Buffer, start: number, end: number, tag: number): void {
    if (!this.open) {
      // Outside a transaction there may only be messages that were not transactional, and Type and Origin announcements.
      assert(
        tag === messageTags.message || tag === messageTags.type || tag === messageTags.origin,
        "no row is decoded outside Begin and Commit",
      );
      return;
    }
    if (tag === messageTags.truncate)
      for (const oid of decodeMessage(bytes, start, end, this.message).relationOids) this.use(oid);
    else if (tag === messageTags.insert || tag === messageTags.update || tag === messageTags.delete)
      this.row(bytes, start, end, tag);
    else return;
    this.open.append(bytes, start, end);
  }

  private row(bytes: Buffer, start: number, end: number, tag: number): void {
    const relation = this.use(bytes.readUInt32BE(start + 1));
    if (tag === messageTags.insert && relation.name === "schema_changes" && relation.schema === "walcast") {
      this.open!.schemaChanges.push(schemaChange(decodeMessage(bytes, start, end, this.message), relation));
    }
  }

  private use(oid: number): DescribedRelation {
    const relation = this.relations.get(oid);
    assert(relation, "a Relation message comes before the first row of its table");
    this.open!.use(relation);
    return relation;
  }
}

function schemaChange(message: Message, relation: Relation): SchemaChange {
  const column = (name: string): string | null => message.new.text(relation.columns.findIndex((c) => c.name === name));
  return { tableOid: Number(column("table_oid")), version: column("version") };
}

class OpenTransaction {
  readonly schemaChanges: SchemaChange[] = [];
  private readonly relations: DescribedRelation[] = [];
  private readonly starts: number[] = [0];
  private bytes = Buffer.allocUnsafe(256);
  private length = 0;
  private last: DescribedRelation | undefined;
  private readonly xid: bigint;
  private readonly commitTime: bigint;

  constructor(xid: bigint, commitTime: bigint) {
    this.xid = xid;
    this.commitTime = commitTime;
  }

  use(relation: DescribedRelation): void {
    if (relation === this.last) return;
    this.last = relation;
    if (!this.relations.includes(relation)) this.relations.push(relation);
  }

  append(bytes: Buffer, start: number, end: number): void {
    const length = this.length + end - start;
    if (length > this.bytes.length) this.grow(length);
    bytes.copy(this.bytes, this.length, start, end);
    this.length = length;
    this.starts.push(length);
  }

  finish(commitEnd: Lsn): Transaction {
    const { xid, commitTime, starts, relations, schemaChanges } = this;
    return { commitEnd, xid, commitTime, bytes: this.bytes.subarray(0, this.length), starts, relations, schemaChanges };
  }

  private grow(length: number): void {
    const grown = Buffer.allocUnsafe(Math.max(length, this.bytes.length * 2));
    this.bytes.copy(grown, 0, 0, this.length);
    this.bytes = grown;
  }
}
