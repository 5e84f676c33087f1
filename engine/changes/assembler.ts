/**
 * Collects pgoutput messages into whole Transactions. The bytes it is given are valid only during the call, so messages
 * are copied; nothing is decoded here beyond what is needed to know where a transaction ends and which tables it touches.
 *
 * Most transactions come whole, after their commit, from Begin to Commit. Those that outgrow Postgres' memory
 * (logical_decoding_work_mem) come while they run, in blocks, several of them interleaved, and their Stream Commit or
 * Stream Abort says later what became of them. Both come out alike: in memory, or in a file where they are large.
 */
import assert from "node:assert/strict";
import { unknownChange } from "../../migrations/0002_descriptions.ts";
import { must } from "../invariants.ts";
import { parseDescription } from "./catalog.ts";
import { widenXid } from "./pg-snapshot.ts";
import { decodeMessage } from "./pgoutput.ts";
import { Message, messageTags, STREAMED_HEADER_BYTES } from "./pgoutput-message.ts";
import { messagesRelation } from "./messages.ts";
import { OpenTransaction } from "./open-transaction.ts";
import { Relations } from "./relations.ts";
import type { Staging } from "./staging.ts";
import type { DescribedRelation, SchemaChange, Transaction } from "./transaction.ts";

export class TransactionAssembler {
  private readonly message = new Message();
  private readonly relations = new Relations();
  private readonly staging: Staging;
  private readonly largeBytes: number;
  private readonly messagePrefix: string | undefined;
  private recentXid: bigint;
  /** Between Begin and Commit. */
  private open: OpenTransaction | undefined;
  /** Those that are sent while they run, by xid. */
  private readonly running = new Map<number, OpenTransaction>();
  /** The one of them whose block this is: between Stream Start and Stream Stop. */
  private block: OpenTransaction | undefined;

  /**
   * `recentXid`: any 64-bit xid from about now, against which pgoutput's 32 bits are widened. `largeBytes`: a transaction
   * with more than that is left on disk, and so is a single message. `messagePrefix`: that of messages which are kept.
   */
  constructor(recentXid: bigint, staging: Staging, largeBytes: number, messagePrefix?: string) {
    this.recentXid = recentXid;
    this.staging = staging;
    this.largeBytes = largeBytes;
    this.messagePrefix = messagePrefix;
  }

  /** True between Begin and Commit, and within a block. */
  get inTransaction(): boolean {
    return this.open !== undefined || this.block !== undefined;
  }

  /** Takes one pgoutput message; gives the transaction that it completes, or will have when its file is written. */
  receive(bytes: Buffer, start: number, end: number): Transaction | Promise<Transaction> | undefined {
    const tag = bytes[start];
    assert(tag !== undefined, "a message has a tag");
    switch (tag) {
      case messageTags.begin:
        return this.begin(this.decode(bytes, start, end));
      case messageTags.commit:
        return this.commit(this.decode(bytes, start, end));
      case messageTags.streamStart:
        return this.startBlock(this.decode(bytes, start, end));
      case messageTags.streamStop:
        return this.stopBlock(this.decode(bytes, start, end));
      case messageTags.streamCommit:
        return this.commitRunning(this.decode(bytes, start, end));
      case messageTags.streamAbort:
        return this.abort(this.decode(bytes, start, end));
      case messageTags.relation:
        return this.relation(this.decodeWithin(bytes, start, end));
      default:
        return this.keep(bytes, start, end, tag);
    }
  }

  private decode(bytes: Buffer, start: number, end: number): Message {
    return decodeMessage(bytes, start, end, this.message);
  }

  private decodeWithin(bytes: Buffer, start: number, end: number): Message {
    return decodeMessage(bytes, start, end, this.message, this.block !== undefined);
  }

  // ── A transaction that comes whole ──────────────────────────────────────────────────────────────────────────────────

  private begin({ xid }: Message): undefined {
    assert(!this.inTransaction, "a transaction ends before the next begins");
    this.open = OpenTransaction.whole(xid, this.staging, this.largeBytes);
  }

  private commit(message: Message): Transaction | Promise<Transaction> {
    assert(this.open, "a commit ends a transaction");
    const transaction = this.open;
    this.open = undefined;
    return this.finish(transaction, message);
  }

  private finish(transaction: OpenTransaction, { endLsn, time }: Message): Transaction | Promise<Transaction> {
    const xid = widenXid(transaction.xid, this.recentXid);
    // One that ran for long has an old xid.
    if (xid > this.recentXid) this.recentXid = xid;
    return transaction.finish({ commitEnd: endLsn, xid, commitTime: time });
  }

  // ── One that comes while it runs ────────────────────────────────────────────────────────────────────────────────────

  private startBlock({ xid, isFirstBlock }: Message): undefined {
    assert(!this.inTransaction, "a block lies outside of other blocks and transactions");
    assert(this.running.has(xid) !== isFirstBlock, "a transaction's first block is its first");
    if (isFirstBlock)
      this.running.set(xid, OpenTransaction.running(xid, this.staging, this.largeBytes, this.relations));
    this.block = this.running.get(xid);
  }

  private stopBlock(_stop: Message): undefined {
    assert(this.block, "a block starts before it stops");
    this.block.rest();
    this.block = undefined;
  }

  private commitRunning(message: Message): Transaction | Promise<Transaction> {
    const transaction = this.running.get(message.xid);
    assert(transaction && !this.inTransaction, "what is committed has been sent, and its blocks are over");
    this.running.delete(message.xid);
    this.relations.adopt(transaction.relations);
    return this.finish(transaction, message);
  }

  /** Comes for each subtransaction that is rolled back, also those within it, and for the whole. */
  private abort({ xid, subxid }: Message): undefined {
    assert(!this.inTransaction, "a rollback is told between blocks");
    if (xid !== subxid) return this.running.get(xid)?.abort(subxid);
    this.running.get(xid)?.discard();
    this.running.delete(xid);
  }

  // ── Within either ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** What a running transaction says of a table holds for its own rows alone: another's may be older, or never know. */
  private relation(message: Message): undefined {
    (this.block?.relations ?? this.relations).describe(message.relation());
  }

  private keep(bytes: Buffer, start: number, end: number, tag: number): undefined {
    const into = this.block ?? this.open;
    if (!into) return assertNoRow(tag);
    const body = start + (this.block ? STREAMED_HEADER_BYTES : 1);
    if (tag === messageTags.truncate) this.truncate(into, this.decodeWithin(bytes, start, end));
    else if (tag === messageTags.insert || tag === messageTags.update || tag === messageTags.delete)
      this.row(into, bytes, start, end, tag, body);
    else if (tag !== messageTags.message || !this.isKept(into, this.decodeWithin(bytes, start, end))) return;
    into.append(this.block ? bytes.readUInt32BE(start + 1) : into.xid, tag, bytes, body, end);
  }

  private truncate(into: OpenTransaction, { relationOids, xid }: Message): void {
    for (const oid of relationOids) this.use(into, oid, this.block ? xid : into.xid);
  }

  private row(into: OpenTransaction, bytes: Buffer, start: number, end: number, tag: number, body: number): void {
    const xid = this.block ? bytes.readUInt32BE(start + 1) : into.xid;
    const relation = this.use(into, bytes.readUInt32BE(body), xid);
    if (tag === messageTags.insert && relation.name === "schema_changes" && relation.schema === "walcast")
      into.noteSchemaChange(xid, schemaChange(this.decodeWithin(bytes, start, end), relation));
  }

  /** Whatever else people say to each other is theirs. */
  private isKept(into: OpenTransaction, message: Message): boolean {
    if (!message.transactional) return false;
    const xid = this.block ? message.xid : into.xid;
    const prefix = message.prefix();
    if (prefix === this.messagePrefix) {
      into.use(messagesRelation, xid);
      return true;
    }
    const change = prefix === unknownChange ? unknown(message.content()) : undefined;
    if (change) into.noteSchemaChange(xid, change);
    return false;
  }

  private use(into: OpenTransaction, oid: number, xid: number): DescribedRelation {
    const relation = (this.block ? into.relations : this.relations).get(oid);
    must(relation, "row_in_transaction", "a Relation message comes before the first row of its table");
    into.use(relation, xid);
    return relation;
  }
}

/** Outside a transaction there may only be messages that were not transactional, and Type and Origin announcements. */
function assertNoRow(tag: number): undefined {
  must(
    tag === messageTags.message || tag === messageTags.type || tag === messageTags.origin,
    "row_in_transaction",
    "no row is decoded outside Begin and Commit",
  );
}

/** As `walcast.note_unknown` says it; undefined where somebody else did. */
function unknown(content: Buffer): SchemaChange | undefined {
  const [, oid, cause = ""] = /^(\d{1,10}) (.{1,200})/s.exec(content.toString()) ?? [];
  return oid === undefined ? undefined : { tableOid: Number(oid), version: null, cause };
}

function schemaChange(message: Message, relation: DescribedRelation): SchemaChange {
  const column = (name: string): string | null => message.new.text(relation.columns.findIndex((c) => c.name === name));
  const description = column("description");
  return {
    tableOid: Number(column("table_oid")),
    version: column("version"),
    ...(description === null ? {} : { table: parseDescription(description) }),
  };
}
