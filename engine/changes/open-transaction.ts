/**
 * A transaction whose commit has not come: its messages, and of the tables only what was said of them and who used it. A
 * subtransaction may yet be rolled back, and then everything that it did was for nothing; the rest is not touched by that.
 *
 * One that comes whole is collected in memory until it is too large for that; one that comes while it runs may wait for
 * hours beside many others, so it is staged from the start.
 */
import { isDeepStrictEqual } from "node:util";
import { Relations } from "./relations.ts";
import type { StagedBody, Staging } from "./staging.ts";
import type { DescribedRelation, LargeBody, Part, SchemaChange, Transaction } from "./transaction.ts";

type Head = Pick<Transaction, "commitEnd" | "xid" | "commitTime">;

export class OpenTransaction {
  /** 32 bits. */
  readonly xid: number;
  /** What was said of tables, if that was said to this transaction alone. */
  readonly relations: Relations;
  private readonly staging: Staging;
  private readonly largeBytes: number;
  private body: CollectedBody | StagedBody;
  private readonly aborted = new Set<number>();
  private readonly usersByRelation = new Map<DescribedRelation, number[]>();
  private readonly schemaChanges: { readonly xid: number; readonly change: SchemaChange }[] = [];
  private lastRelation: DescribedRelation | undefined;
  private lastUser = 0;

  static whole(xid: number, staging: Staging, largeBytes: number): OpenTransaction {
    return new OpenTransaction(xid, staging, largeBytes, noRelations, new CollectedBody());
  }

  static running(xid: number, staging: Staging, largeBytes: number, everybodys: Relations): OpenTransaction {
    return new OpenTransaction(xid, staging, largeBytes, new Relations(everybodys), staging.begin(xid));
  }

  private constructor(
    xid: number,
    staging: Staging,
    largeBytes: number,
    relations: Relations,
    body: CollectedBody | StagedBody,
  ) {
    this.xid = xid;
    this.staging = staging;
    this.largeBytes = largeBytes;
    this.relations = relations;
    this.body = body;
  }

  /** Takes a message of the (sub)transaction `xid`: its tag, and what follows it, which is bytes[start … end). */
  append(xid: number, tag: number, bytes: Buffer, start: number, end: number): void {
    this.body.append(xid, tag, bytes, start, end);
    if (this.body instanceof CollectedBody && this.body.length > this.largeBytes) this.body = this.stage(this.body);
  }

  private stage(collected: CollectedBody): StagedBody {
    const body = this.staging.begin(this.xid);
    collected.copyTo(body, this.xid);
    return body;
  }

  /** Users are noted as runs: a million subtransactions cost less than their rows. The top level is sure to count. */
  use(relation: DescribedRelation, xid: number): void {
    if (relation === this.lastRelation && xid === this.lastUser) return;
    this.lastRelation = relation;
    this.lastUser = xid;
    const users = this.usersByRelation.get(relation);
    if (!users || xid === this.xid) this.usersByRelation.set(relation, [xid]);
    else if (users[0] !== this.xid) users.push(xid);
  }

  noteSchemaChange(xid: number, change: SchemaChange): void {
    this.schemaChanges.push({ xid, change });
  }

  /** A block is over, and nobody knows when the next one comes. */
  rest(): void {
    if (!(this.body instanceof CollectedBody)) this.body.rest();
  }

  abort(subxid: number): undefined {
    this.aborted.add(subxid);
  }

  discard(): void {
    if (!(this.body instanceof CollectedBody)) this.body.discard();
  }

  finish(head: Head): Transaction | Promise<Transaction> {
    const body = this.body.finish(this.aborted, this.largeBytes);
    return body instanceof Promise ? body.then((ready) => this.whole(head, ready)) : this.whole(head, body);
  }

  private whole({ commitEnd, xid, commitTime }: Head, body: Part | LargeBody): Transaction {
    const relations = this.usedRelations();
    const schemaChanges = this.schemaChanges.filter((one) => !this.aborted.has(one.xid)).map(({ change }) => change);
    if (!("parts" in body)) {
      const { bytes, starts } = body;
      return { commitEnd, xid, commitTime, bytes, starts, relations, schemaChanges };
    }
    return { commitEnd, xid, commitTime, bytes: nothing, starts: [0], relations, schemaChanges, large: body };
  }

  private isUsed(relation: DescribedRelation): boolean {
    return this.usersByRelation.get(relation)!.some((xid) => !this.aborted.has(xid));
  }

  private usedRelations(): DescribedRelation[] {
    if (this.aborted.size === 0) return [...this.usersByRelation.keys()];
    const relations = [...this.usersByRelation.keys()].filter((one) => this.isUsed(one));
    // A change that was rolled back in between leaves two descriptions that are equal.
    return relations.filter((one, at) => !relations.slice(0, at).some((other) => isDeepStrictEqual(one, other)));
  }
}

const nothing = Buffer.alloc(0);
const noRelations = new Relations();

/** In memory, in the form in which it is handed on. */
class CollectedBody {
  private readonly starts: number[] = [0];
  private bytes = Buffer.allocUnsafe(256);
  length = 0;

  append(_xid: number, tag: number, bytes: Buffer, start: number, end: number): void {
    const length = this.length + 1 + end - start;
    if (length > this.bytes.length) this.grow(length);
    this.bytes[this.length] = tag;
    bytes.copy(this.bytes, this.length + 1, start, end);
    this.length = length;
    this.starts.push(length);
  }

  finish(): Part {
    return { bytes: this.bytes.subarray(0, this.length), starts: this.starts };
  }

  copyTo(body: StagedBody, xid: number): void {
    const { bytes, starts } = this;
    for (let i = 0; i + 1 < starts.length; i++)
      body.append(xid, bytes[starts[i]!]!, bytes, starts[i]! + 1, starts[i + 1]!);
  }

  private grow(length: number): void {
    const grown = Buffer.allocUnsafe(Math.max(length, this.bytes.length * 2));
    this.bytes.copy(grown, 0, 0, this.length);
    this.bytes = grown;
  }
}
