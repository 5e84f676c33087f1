/**
 * What a connection has received and the replica has not yet taken, in order. Working it off is a loop that takes all
 * whole transactions waiting (within a bound) as one local transaction, lets the live queries look at that state, and
 * only then tells anybody.
 */
import {
  type Commit,
  decodeCommits,
  type Lsn,
  type ShapeRequest,
  type TableDescription,
  WalcastError,
} from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import type { Change, Load, Member, Replica } from "./replica.ts";

/** What subscribes: a shape, or a channel (`changes`). It is told, and asks nothing. */
export interface Subscriber {
  readonly request: ShapeRequest;
  /** No rows, only changes; nothing of it is kept on the replica. */
  readonly changes: boolean;
  readonly member: Member;
  /** Its rows are about to come, for the first time or again. */
  loading(): void;
  /** Inside the replica's turn. */
  described(table: TableDescription, estimatedRows: number, database: Database): void;
  progressed(rows: number, bytes: number): void;
  joined(): void;
  committed(commits: readonly Commit[]): void;
  failed(error: WalcastError): void;
}

export interface Lane {
  readonly id: number;
  readonly subscriber: Subscriber;
  stage: "asked" | "loading" | "joined" | "over";
  /** On the replica, once `described` has been worked off. */
  load: Load | undefined;
  /** Its rows stand in their table; until then nothing of it may be applied. */
  isApplied: boolean;
  description: TableDescription | undefined;
  /** Payloads of catch-up frames. */
  catchUp: Uint8Array[];
  rows: number;
  bytes: number;
}

export interface Transaction {
  readonly kind: "transaction";
  readonly sections: ReadonlyMap<Lane, readonly Uint8Array[]>;
  readonly joins: readonly { readonly lane: Lane; readonly payloads: readonly Uint8Array[] }[];
  readonly position: Lsn;
  readonly bytes: number;
}

type Work =
  | Transaction
  | {
      readonly kind: "described";
      readonly lane: Lane;
      readonly table: TableDescription;
      readonly estimatedRows: number;
    }
  | { readonly kind: "copy"; readonly lane: Lane; readonly lines: Uint8Array }
  | { readonly kind: "discard"; readonly lane: Lane }
  | { readonly kind: "remove"; readonly member: Member; readonly done: () => void }
  | { readonly kind: "awaited"; readonly id: number }
  | { readonly kind: "newHistory" };

export interface BacklogHooks {
  /** The stream cannot be trusted or applied any more: begin again. */
  breach(error: WalcastError): void;
  /** Inside the replica's turn, right after a local transaction. What it returns is called when the turn is over. */
  applied(changed: ReadonlySet<string>): () => void;
  /** The replica is as the server wanted it when it answered this await. */
  awaited(id: number): void;
  /** Something about the lanes is different: the client's status may be, too. */
  changed(): void;
  /** The replica cannot hold this one. */
  failed(lane: Lane, error: WalcastError): void;
}

// One local transaction of this size takes some tens of milliseconds; a browser should get to paint in between.
const BATCH_BYTES_MAX = 1 << 20;

export class Backlog {
  private readonly replica: Promise<Replica>;
  private readonly hooks: BacklogHooks;
  private queue: Work[] = [];
  private isWorking = false;

  constructor(replica: Promise<Replica>, hooks: BacklogHooks) {
    this.replica = replica;
    this.hooks = hooks;
  }

  push(work: Work): void {
    this.queue.push(work);
    if (!this.isWorking) void this.work();
  }

  private async work(): Promise<void> {
    this.isWorking = true;
    try {
      const replica = await this.replica;
      while (this.queue.length > 0) {
        await this.turn(replica).catch((error: unknown) => this.giveUpStream(error));
      }
    } catch {
      // The replica did not open. Whoever waits for rows is told by their own promises.
      for (const work of this.queue.splice(0)) if (work.kind === "remove") work.done();
    } finally {
      this.isWorking = false;
    }
  }

  /** What else came on this connection is void; what the application asked for is not. */
  private giveUpStream(error: unknown): void {
    this.queue = this.queue.filter(({ kind }) => kind === "remove" || kind === "discard");
    this.hooks.breach(asReplicaFailure(error));
  }

  /** One turn on the replica. What it leads to is told after the turn, when the replica is free again. */
  private async turn(replica: Replica): Promise<void> {
    const tell: (() => void)[] = [];
    await replica.database.exclusive(() => {
      const work = this.queue.shift()!;
      if (work.kind === "transaction") this.apply(replica, work, tell);
      else this.workOn(replica, work, tell);
      if (this.queue.length === 0) replica.tidy();
    });
    for (const call of tell) call();
  }

  private workOn(replica: Replica, work: Exclude<Work, Transaction>, tell: (() => void)[]): void {
    switch (work.kind) {
      case "described":
        return this.guarded(work.lane, tell, () =>
          this.describe(replica, work.lane, work.table, work.estimatedRows, tell),
        );
      case "copy":
        return this.guarded(work.lane, tell, () =>
          this.copy(replica, work.lane, this.takeCopies(work.lane, work.lines), tell),
        );
      case "discard":
        return discard(replica, work.lane);
      case "remove":
        return this.forget(replica, work.member, work.done, tell);
      case "awaited":
        return void tell.push(() => this.hooks.awaited(work.id));
      case "newHistory":
        return replica.forgetPosition();
    }
  }

  private describe(
    replica: Replica,
    lane: Lane,
    table: TableDescription,
    estimatedRows: number,
    tell: (() => void)[],
  ): void {
    lane.description = table;
    lane.rows = lane.bytes = 0;
    if (!lane.subscriber.changes) {
      lane.load = replica.describe(lane.subscriber.member, table);
      tell.push(this.hooks.applied(new Set()));
    }
    lane.subscriber.described(table, estimatedRows, replica.database);
  }

  private copy(replica: Replica, lane: Lane, lines: readonly Uint8Array[], tell: (() => void)[]): void {
    if (!lane.load) throw unexpected("rows", lane.stage);
    replica.copy(lane.load, lines);
    for (const part of lines) {
      lane.rows += countLines(part);
      lane.bytes += part.length;
    }
    tell.push(() => lane.subscriber.progressed(lane.rows, lane.bytes));
  }

  /** Small frames that follow one another are loaded together: each COPY has a price of its own. */
  private takeCopies(lane: Lane, first: Uint8Array): Uint8Array[] {
    const lines = [first];
    let bytes = first.length;
    for (
      let next = this.queue[0];
      next?.kind === "copy" && next.lane === lane && bytes + next.lines.length <= BATCH_BYTES_MAX;
      next = this.queue[0]
    ) {
      bytes += next.lines.length;
      lines.push(next.lines);
      this.queue.shift();
    }
    return lines;
  }

  private forget(replica: Replica, member: Member, done: () => void, tell: (() => void)[]): void {
    const table = replica.remove(member);
    if (table !== undefined) tell.push(this.hooks.applied(new Set([table])));
    tell.push(done);
  }

  /** One shape that the replica cannot hold must not take the others with it. */
  private guarded(lane: Lane, tell: (() => void)[], work: () => void): void {
    if (lane.stage === "over") return;
    try {
      work();
    } catch (error) {
      this.giveUp(lane, error, tell);
    }
  }

  private giveUp(lane: Lane, error: unknown, tell: (() => void)[]): void {
    tell.push(() => this.hooks.failed(lane, asReplicaFailure(error)));
  }

  private apply(replica: Replica, first: Transaction, tell: (() => void)[]): void {
    const batch = this.takeBatch(first);
    const commits = decodeBatch(batch);
    const joins = batch.at(-1)!.joins.filter(({ lane }) => lane.stage !== "over");
    const position = later(batch.at(-1)!.position, replica.position);
    const changes = changesOf(commits);
    const isIdle = changes.length === 0 && joins.length === 0 && position === replica.position;
    // Before anybody is told that the position is reached.
    this.tellCommitted(commits, tell);
    if (isIdle) return;
    const joined = this.commit(replica, changes, joins, position, tell);
    for (const { lane } of joined) {
      lane.load = undefined;
      lane.isApplied = true;
      lane.subscriber.joined();
    }
    if (joined.length > 0) this.hooks.changed();
  }

  private commit(
    replica: Replica,
    changes: Change[],
    joins: Transaction["joins"],
    position: Lsn,
    tell: (() => void)[],
  ): Transaction["joins"] {
    const loads = joins.flatMap(({ lane, payloads }) =>
      lane.load ? [{ load: lane.load, operations: operationsOf(payloads.flatMap(decodeCommits)) }] : [],
    );
    try {
      tell.push(this.hooks.applied(replica.commit(changes, loads, position)));
      return joins;
    } catch (error) {
      if (joins.length === 0) throw error;
      for (const { lane } of joins) this.giveUp(lane, error, tell);
      tell.push(this.hooks.applied(replica.commit(changes, [], position)));
      return [];
    }
  }

  /** Whole transactions up to the first that joins something, or to the bound. */
  private takeBatch(first: Transaction): Transaction[] {
    const batch = [first];
    let bytes = first.bytes;
    while (batch.at(-1)!.joins.length === 0) {
      const next = this.queue[0];
      if (next?.kind !== "transaction" || bytes + next.bytes > BATCH_BYTES_MAX) break;
      bytes += next.bytes;
      batch.push(next);
      this.queue.shift();
    }
    return batch;
  }

  private tellCommitted(commits: ReadonlyMap<Lane, readonly Commit[]>, tell: (() => void)[]): void {
    for (const [lane, list] of commits) if (lane.stage !== "over") tell.push(() => lane.subscriber.committed(list));
  }
}

function decodeBatch(batch: readonly Transaction[]): Map<Lane, Commit[]> {
  const commits = new Map<Lane, Commit[]>();
  for (const { sections } of batch) {
    for (const [lane, payloads] of sections) {
      const list = commits.get(lane) ?? [];
      list.push(...payloads.flatMap(decodeCommits));
      commits.set(lane, list);
    }
  }
  return commits;
}

function changesOf(commits: ReadonlyMap<Lane, readonly Commit[]>): Change[] {
  return [...commits].flatMap(([{ subscriber, isApplied }, list]) =>
    subscriber.changes || !isApplied ? [] : [{ member: subscriber.member, operations: operationsOf(list) }],
  );
}

function operationsOf(commits: readonly Commit[]): Change["operations"] {
  return commits.flatMap(({ operations }) => operations);
}

function discard(replica: Replica, lane: Lane): void {
  lane.isApplied = false;
  if (lane.load) replica.discard(lane.load);
  lane.load = undefined;
}

function later(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}

/** Every line of COPY text ends in a newline, and newlines inside values are escaped. */
function countLines(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count++;
  return count;
}

export function unexpected(what: string, stage: string): WalcastError {
  return new WalcastError(
    "malformed_message",
    `read a message: did not expect ${what} for a subscription that is ${stage}`,
  );
}

function asReplicaFailure(error: unknown): WalcastError {
  if (error instanceof WalcastError && error.code !== "query_failed") return error;
  return new WalcastError(
    "replica_failed",
    `apply what the server sent: ${error instanceof Error ? error.message : String(error)}`,
    { cause: error },
  );
}
