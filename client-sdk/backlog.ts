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
import { type Pile, type Segment, type Spill, spillsOf } from "./pile.ts";
import type { Member } from "./local-tables.ts";
import type { Join, Load, Placed } from "./joins.ts";
import type { Replica } from "./replica.ts";
import { deleteSpilled, readSpilled } from "./staging.ts";
import { operationsOf, stepsOf, type Telling } from "./steps.ts";

/** What subscribes: a shape, or a channel (`changes`). It is told, and asks nothing. */
export interface Subscriber {
  readonly request: ShapeRequest;
  /** No rows, only changes; nothing of it is kept on the replica. */
  readonly changes: boolean;
  readonly member: Member;
  /** Its rows are about to come, for the first time or again. */
  loading(): void;
  /** The replica has rows of it from an earlier process; `isCurrent`: as of the replica's position. */
  restored(isCurrent: boolean): void;
  /** Inside the replica's turn. */
  described(table: TableDescription, estimatedRows: number, database: Database): void;
  /** Inside the replica's turn. What it returns is called once everything before has been told. */
  altered(table: TableDescription, database: Database): () => void;
  progressed(rows: number, bytes: number): void;
  joined(): void;
  committed(commits: readonly Commit[]): void;
  failed(error: WalcastError): void;
}

export interface Lane {
  /** On the connection there is; another one on each. */
  id: number;
  readonly subscriber: Subscriber;
  stage: "asked" | "loading" | "joined" | "held" | "resuming" | "over";
  /** What the server called these rows, as of the last boundary. */
  identity: string | undefined;
  /** On the replica, from when `described` has been worked off until its rows stand in their table. */
  load: Load | undefined;
  /** Its join has been; before that nothing of it may be applied. */
  isApplied: boolean;
  /** Payloads of catch-up frames. */
  readonly catchUp: Pile;
  rows: number;
  bytes: number;
}

export interface Transaction {
  readonly kind: "transaction";
  readonly segments: readonly Segment[];
  readonly joins: readonly { readonly lane: Lane; readonly segments: readonly Segment[] }[];
  readonly position: Lsn;
  /** In memory. */
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
  | { readonly kind: "claimed"; readonly member: Member; readonly isCurrent: boolean }
  /** `done`: called in the same turn. */
  | { readonly kind: "discard"; readonly lane: Lane; readonly done: () => void }
  | {
      readonly kind: "remove";
      readonly member: Member;
      readonly done: () => void;
      readonly failed?: (error: WalcastError) => void;
    }
  /** Every row leaves, also of shapes that nobody has asked for in this process. */
  | { readonly kind: "empty"; readonly done: () => void }
  /** What nobody has asked for in this process leaves. */
  | { readonly kind: "removeUnclaimed" }
  /** Somebody whom others may wait for has failed. */
  | { readonly kind: "place" }
  | { readonly kind: "spill"; readonly spill: Spill }
  /** Their boundary will not come. */
  | { readonly kind: "unspill"; readonly numbers: readonly number[] }
  | { readonly kind: "told"; readonly telling: Telling }
  | { readonly kind: "audit"; readonly lane: Lane; readonly rows: string; readonly hash: string }
  /** All of it leaves in one local transaction. */
  | { readonly kind: "withdraw"; readonly withdrawals: readonly Withdrawal[] }
  | { readonly kind: "awaited"; readonly id: number }
  | { readonly kind: "epoch"; readonly epoch: string; readonly keeps: EpochKeeps };

/** The rows of a shape that somebody else was allowed to see. */
export interface Withdrawal {
  readonly member: Member;
  /** So may be what nobody has asked for yet. */
  readonly isPurge: boolean;
  readonly done: () => void;
}

/** What remains valid under a server's epoch: rows and position; the position shown, though nothing is resumed; nothing. */
export type EpochKeeps = "everything" | "shown" | "nothing";

export interface BacklogHooks {
  /** The stream cannot be trusted or applied any more: begin again. */
  breach(error: WalcastError): void;
  /** Inside the replica's turn, right after a local transaction. What it returns is called when the turn is over. */
  applied(changed: ReadonlySet<string>): () => void;
  /** Whether its rows are the server's. */
  audited(lane: Lane, matches: boolean): void;
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
  /** Those that have joined, until their rows stand in their table. */
  private readonly joined = new Map<Load, Lane>();
  private isWorking = false;
  private closed: WalcastError | undefined;

  constructor(replica: Promise<Replica>, hooks: BacklogHooks) {
    this.replica = replica;
    this.hooks = hooks;
  }

  push(work: Work): void {
    if (this.closed) return abandon(work, this.closed);
    this.queue.push(work);
    if (!this.isWorking) void this.work();
  }

  /** Before anything else that waits. */
  pushFirst(work: Work): void {
    if (this.closed) return;
    this.queue.unshift(work);
    if (!this.isWorking) void this.work();
  }

  /** Nothing more is done on the replica, save what is being done right now: it may be another client's soon. */
  close(error: WalcastError): void {
    this.closed = error;
    for (const work of this.queue.splice(0)) abandon(work, error);
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
      for (const work of this.queue.splice(0)) if (work.kind === "remove" || work.kind === "empty") work.done();
    } finally {
      this.isWorking = false;
    }
  }

  /** What else came on this connection is void; what the application asked for is not. */
  private giveUpStream(error: unknown): void {
    const numbers = this.queue.flatMap((work) => (work.kind === "transaction" ? spilledIn(work) : []));
    this.queue = this.queue.filter(({ kind }) => keptKinds.has(kind));
    if (numbers.length > 0) this.queue.push({ kind: "unspill", numbers });
    this.hooks.breach(asReplicaFailure(error));
  }

  /** One turn on the replica. What it leads to is told after the turn, when the replica is free again. */
  private async turn(replica: Replica): Promise<void> {
    const tell: (() => void)[] = [];
    await replica.database.exclusive(async () => {
      const work = this.queue.shift();
      if (!work) return;
      if (work.kind === "transaction") this.apply(replica, work, tell);
      else this.workOn(replica, work, tell);
      if (this.queue.length === 0) replica.tidy();
      await replica.database.flush();
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
        this.discard(replica, work.lane);
        return work.done();
      case "remove":
        return this.forget(replica, work, tell);
      case "withdraw":
        return this.withdraw(replica, work.withdrawals, tell);
      case "claimed":
        return replica.claimed(work.member, work.isCurrent);
      case "empty":
        return void tell.push(this.hooks.applied(replica.removeAll()), work.done);
      case "removeUnclaimed":
        return void tell.push(this.hooks.applied(replica.removeUnclaimed()));
      case "place":
        return this.place(replica, new Set(), tell);
      case "spill":
        return replica.spill(work.spill);
      case "unspill":
        return replica.database.transaction(() => replica.database.script(deleteSpilled(work.numbers)));
      case "told":
        return this.tell(replica, work.telling, tell);
      case "audit":
        return this.audit(replica, work.lane, work.rows, work.hash, tell);
      case "awaited":
        return void tell.push(() => this.hooks.awaited(work.id));
      case "epoch":
        return replica.enterEpoch(work.epoch, work.keeps);
    }
  }

  private describe(
    replica: Replica,
    lane: Lane,
    table: TableDescription,
    estimatedRows: number,
    tell: (() => void)[],
  ): void {
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

  private forget(replica: Replica, work: Extract<Work, { kind: "remove" }>, tell: (() => void)[]): void {
    const table = removeOf(replica, work);
    // At once: no turn in between may find the rows gone from a shape that still says it is only being loaded anew.
    work.done();
    this.place(replica, new Set(table === undefined ? [] : [table]), tell);
  }

  private withdraw(replica: Replica, withdrawals: readonly Withdrawal[], tell: (() => void)[]): void {
    const members = withdrawals.map(({ member }) => member);
    const changed = replica.withdraw(
      members,
      withdrawals.some(({ isPurge }) => isPurge),
    );
    for (const { done } of withdrawals) done();
    this.place(replica, changed, tell);
  }

  /** Others may have waited for one that is gone. */
  private place(replica: Replica, changed: ReadonlySet<string>, tell: (() => void)[]): void {
    const placed = replica.place();
    const all = changed.union(placed.changed);
    if (all.size > 0) tell.push(this.hooks.applied(all));
    this.settle(placed, tell);
  }

  private discard(replica: Replica, lane: Lane): void {
    if (lane.isApplied && !lane.subscriber.changes) replica.outdate(lane.subscriber.member);
    lane.isApplied = false;
    if (!lane.load) return;
    this.joined.delete(lane.load);
    replica.discard(lane.load);
    lane.load = undefined;
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
    const segments = batch.flatMap((one) => one.segments);
    const { position } = batch.at(-1)!;
    const joins = batch.at(-1)!.joins.filter(({ lane }) => lane.stage !== "over");
    const isIdle = segments.length === 0 && joins.length === 0 && position === replica.reached;
    if (isIdle) return;
    const { joined, placed, tellings } = this.commit(replica, segments, joins, position, tell);
    const numbers = batch.flatMap(spilledIn);
    this.tellAll(replica, tellings, numbers, tell);
    for (const { lane } of joined) this.join(lane);
    this.settle(placed, tell);
    if (joined.length > 0) this.hooks.changed();
  }

  private commit(
    replica: Replica,
    segments: readonly Segment[],
    joins: Transaction["joins"],
    position: Lsn,
    tell: (() => void)[],
  ): { joined: Transaction["joins"]; placed: Placed; tellings: Telling[] } {
    const tellings: Telling[] = [];
    try {
      for (const segment of segments) this.prepareTypes(replica, segment);
      const steps = stepsOf(segments, replica.database, tellings);
      const placed = replica.commit(steps, joinsOf(joins, replica.database), position);
      this.applied(placed.changed, tellings, tell);
      return { joined: joins, placed, tellings };
    } catch (error) {
      if (joins.length === 0) throw error;
      for (const { lane } of joins) this.giveUp(lane, error, tell);
      return this.commit(replica, segments, [], position, tell);
    }
  }

  /** Its changes are applied from now on, though its rows may have to wait for others to be seen. */
  private join(lane: Lane): void {
    lane.isApplied = true;
    if (lane.load) this.joined.set(lane.load, lane);
    else lane.subscriber.joined();
  }

  private settle({ loads, failed }: Placed, tell: (() => void)[]): void {
    for (const load of loads) {
      const lane = this.takeJoined(load);
      lane.subscriber.joined();
    }
    for (const { load, error } of failed) {
      const lane = this.takeJoined(load);
      lane.isApplied = false;
      this.giveUp(lane, error, tell);
    }
    if (loads.length > 0) this.hooks.changed();
  }

  private takeJoined(load: Load): Lane {
    const lane = this.joined.get(load);
    if (!lane) throw new WalcastError("invariant", "bring in rows: expected those of a shape that has joined");
    this.joined.delete(load);
    lane.load = undefined;
    return lane;
  }

  private prepareTypes(replica: Replica, segment: Segment): void {
    if (segment.kind === "altered" && segment.alteration.lane.isApplied)
      replica.ensureTypes(segment.alteration.table.types);
  }

  /** Events come before anybody is told that the position is reached, where they are at hand. */
  private applied(changed: ReadonlySet<string>, tellings: readonly Telling[], tell: (() => void)[]): void {
    const settle = this.hooks.applied(changed);
    if (!tellings.some(({ kind }) => kind === "spilled")) for (const one of tellings) tell.push(() => tellNow(one));
    tell.push(settle);
  }

  /** What was put aside is told to channels part by part, each in a turn of its own, before anything else is done. */
  private tellAll(
    replica: Replica,
    tellings: readonly Telling[],
    numbers: readonly number[],
    tell: (() => void)[],
  ): void {
    if (numbers.length === 0) return;
    if (!tellings.some(({ kind }) => kind === "spilled"))
      return replica.database.transaction(() => replica.database.script(deleteSpilled(numbers)));
    const works = tellings.map((telling): Work => ({ kind: "told", telling }));
    tell.unshift(() => void this.queue.unshift(...works, { kind: "unspill", numbers }));
  }

  private tell(replica: Replica, telling: Telling, tell: (() => void)[]): void {
    if (telling.kind !== "spilled") return void tell.push(() => tellNow(telling));
    const commits = decodeCommits(readSpilled(replica.database, telling.number, telling.part));
    tell.push(() => tellNow({ kind: "commits", lane: telling.lane, commits }));
  }

  private audit(replica: Replica, lane: Lane, rows: string, hash: string, tell: (() => void)[]): void {
    if (!lane.isApplied || lane.stage === "over") return;
    const own = replica.audit(lane.subscriber.member);
    tell.push(() => this.hooks.audited(lane, own.rows === rows && own.hash === hash));
  }

  /** Whole transactions up to the first that joins something, or to the bound. */
  private takeBatch(first: Transaction): Transaction[] {
    const batch = [first];
    let bytes = first.bytes;
    while (batch.at(-1)!.joins.length === 0 && spilledIn(batch.at(-1)!).length === 0) {
      const next = this.queue[0];
      if (next?.kind !== "transaction" || bytes + next.bytes > BATCH_BYTES_MAX) break;
      bytes += next.bytes;
      batch.push(next);
      this.queue.shift();
    }
    return batch;
  }
}

/** What the application asked for, and what is owed to the replica, outlasts a stream that cannot be applied. */
const keptKinds = new Set<Work["kind"]>([
  "claimed",
  "remove",
  "withdraw",
  "discard",
  "empty",
  "removeUnclaimed",
  "place",
  "unspill",
]);

function spilledIn({ segments, joins }: Transaction): number[] {
  return [...spillsOf(segments), ...joins.flatMap((join) => spillsOf(join.segments))];
}

function joinsOf(joins: Transaction["joins"], database: Database): Join[] {
  return joins.flatMap(({ lane, segments }) =>
    lane.load ? [{ load: lane.load, portions: operationsOf(segments, database) }] : [],
  );
}

function tellNow(telling: Telling): void {
  if (telling.kind === "altered") telling.tell();
  if (telling.kind === "commits" && telling.lane.stage !== "over") telling.lane.subscriber.committed(telling.commits);
}

function removeOf(replica: Replica, { member, failed }: Extract<Work, { kind: "remove" }>): string | undefined {
  try {
    return replica.remove(member);
  } catch (error) {
    failed?.(asReplicaFailure(error));
    throw error;
  }
}

/** Who waits for it is told that it will not be done. */
function abandon(work: Work, error: WalcastError): void {
  if (work.kind === "remove") work.failed?.(error);
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
