/**
 * What a pgoutput message of protocol version 2 says, as far as it was decoded: where things are. The strings, the
 * positions and the times are made when somebody asks.
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */
import assert from "node:assert/strict";
import { type Lsn, lsnFromHalves } from "../protocol.ts";
import { Tuple } from "./tuple.ts";

export const messageTags = {
  begin: 0x42, // 'B'
  commit: 0x43, // 'C'
  origin: 0x4f, // 'O'
  relation: 0x52, // 'R'
  type: 0x59, // 'Y'
  insert: 0x49, // 'I'
  update: 0x55, // 'U'
  delete: 0x44, // 'D'
  truncate: 0x54, // 'T'
  message: 0x4d, // 'M'
  streamStart: 0x53, // 'S'
  streamStop: 0x45, // 'E'
  streamCommit: 0x63, // 'c'
  streamAbort: 0x41, // 'A'
} as const;

/** In a block of a streamed transaction: how many bytes of a message are its tag and its xid. */
export const STREAMED_HEADER_BYTES = 5;

/** What an update or a delete brings of the row as it was. */
export const NO_OLD_TUPLE = 0;
export const OLD_KEY = 0x4b; // 'K': the replica identity's columns, the others NULL
export const OLD_ROW = 0x4f; // 'O': all columns, under REPLICA IDENTITY FULL

/** Bits of a truncate's options. */
export const TRUNCATE_CASCADE = 1;
export const TRUNCATE_RESTART_IDENTITY = 2;

/** How later rows of a table are laid out, as it was when they were written. */
export interface Relation {
  readonly oid: number;
  /** Empty for pg_catalog, as pgoutput sends it. */
  readonly schema: string;
  readonly name: string;
  readonly replicaIdentity: "d" | "n" | "f" | "i";
  readonly columns: readonly RelationColumn[];
}

export interface RelationColumn {
  readonly name: string;
  readonly typeOid: number;
  readonly typmod: number;
  /** Part of the replica identity. */
  readonly isKey: boolean;
}

/** The message that was decoded last. Valid until the next decode, and only as long as `bytes` hold still. */
export class Message {
  tag = 0;
  bytes: Buffer = Buffer.alloc(0);
  start = 0;
  end = 0;
  /** The first byte after the tag and, within a block, the xid. */
  body = 0;
  /** insert, update, delete, relation. */
  relationOid = 0;
  /** begin, stream start, commit and abort: the transaction's 32 bits. Within a block: those of the subtransaction. */
  xid = 0;
  /** stream abort: which subtransaction was rolled back. The whole transaction, where it equals `xid`. */
  subxid = 0;
  /** stream start: whether the transaction was not heard of before. */
  isFirstBlock = false;
  /** update, delete: NO_OLD_TUPLE, OLD_KEY or OLD_ROW. */
  oldKind = NO_OLD_TUPLE;
  /** Has no columns where `oldKind` says so. */
  readonly old = new Tuple();
  /** insert, update. Without columns in a delete. */
  readonly new = new Tuple();
  truncateOptions = 0;
  relationOids: readonly number[] = [];
  /** message: whether it belongs to the transaction around it, or was sent whatever became of that. */
  transactional = false;
  // Where the text fields are: a type's schema and name, a logical message's prefix and content, an origin's name.
  firstStart = 0;
  firstEnd = 0;
  secondStart = 0;
  secondEnd = 0;
  described: Relation | undefined = undefined;

  /** begin, commit, stream commit: where the commit record starts. origin: the commit at the origin. message: where it was emitted. */
  get lsn(): Lsn {
    const { tag, body } = this;
    if (tag === messageTags.begin || tag === messageTags.origin) return this.lsnAt(body);
    if (tag === messageTags.message) return this.lsnAt(body + 1);
    return this.lsnAt(this.afterCommitFlags());
  }

  /** commit, stream commit: the first byte after the commit record, the only position that is ever kept. */
  get endLsn(): Lsn {
    return this.lsnAt(this.afterCommitFlags() + 8);
  }

  /** begin, commit, stream commit: microseconds since 2000-01-01 UTC. */
  get time(): bigint {
    if (this.tag === messageTags.begin) return this.bytes.readBigInt64BE(this.body + 8);
    return this.bytes.readBigInt64BE(this.afterCommitFlags() + 16);
  }

  relation(): Relation {
    assert(this.tag === messageTags.relation && this.described, "only a Relation describes a table");
    return this.described;
  }

  /** message: what kind it is, chosen by whoever emitted it. */
  prefix(): string {
    assert(this.tag === messageTags.message, "only a logical message has a prefix");
    return this.first();
  }

  /** message: a view, not a copy. */
  content(): Buffer {
    assert(this.tag === messageTags.message, "only a logical message has a content");
    return this.bytes.subarray(this.secondStart, this.secondEnd);
  }

  originName(): string {
    assert(this.tag === messageTags.origin, "only an origin has an origin's name");
    return this.first();
  }

  /** type: made for this, as it comes too seldom to be worth anything else. */
  type(): { readonly oid: number; readonly schema: string; readonly name: string } {
    assert(this.tag === messageTags.type, "only a Type names a type");
    const name = this.bytes.toString("utf8", this.secondStart, this.secondEnd);
    return { oid: this.bytes.readUInt32BE(this.body), schema: this.first(), name };
  }

  private first(): string {
    return this.bytes.toString("utf8", this.firstStart, this.firstEnd);
  }

  private afterCommitFlags(): number {
    const { tag, body } = this;
    assert(
      tag === messageTags.commit || tag === messageTags.streamCommit,
      "what is asked for, a message of its kind has",
    );
    return tag === messageTags.commit ? body + 1 : body + 5;
  }

  private lsnAt(at: number): Lsn {
    return lsnFromHalves(this.bytes.readUInt32BE(at), this.bytes.readUInt32BE(at + 4));
  }
}
