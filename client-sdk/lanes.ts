/**
 * From the messages of a connection to local transactions. Every subscription has a lane: its first rows travel in it,
 * with a position of their own, until it joins the connection's at a commit boundary.
 *
 *     asked ─described─▶ loading ─join─▶ joined          resync: joined ─▶ asked          error, unsubscribe: ─▶ over
 *
 * Receiving is cheap and synchronous: it keeps what arrives in order. Working it off is a loop that takes all whole
 * transactions waiting (within a bound) as one local transaction, lets the live queries look at that state, and only
 * then tells anybody.
 */
import {
  type Commit,
  decodeCommits,
  type Frame,
  type Lsn,
  type SectionIn,
  type ServerMessage,
  type ShapeRequest,
  type TableDescription,
  WalcastError,
  type ClientMessage,
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

export interface LanesHooks {
  send(message: ClientMessage): void;
  /** The stream cannot be trusted or applied any more: begin again. */
  breach(error: WalcastError): void;
  /** Inside the replica's turn, right after a local transaction. What it returns is called when the turn is over. */
  applied(changed: ReadonlySet<string>): () => void;
  /** The replica is as the server wanted it when it answered this await. */
  awaited(id: number): void;
  /** Something about the lanes is different: the client's status may be, too. */
  changed(): void;
}

interface Lane {
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

interface Transaction {
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

// One local transaction of this size takes some tens of milliseconds; a browser should get to paint in between.
const BATCH_BYTES_MAX = 1 << 20;

/** Errors after which a client must not go on showing the rows it has. */
const revoking = new Set(["forbidden", "unauthenticated", "token_expired", "unknown_table", "unknown_column"]);

export class Lanes {
  private readonly replica: Promise<Replica>;
  private readonly hooks: LanesHooks;
  private readonly subscribers = new Set<Subscriber>();
  private lanes = new Map<number, Lane>();
  private nextId = 1;
  isOnline = false;
  private staged = new Map<Lane, Uint8Array[]>();
  private stagedBytes = 0;
  private position = 0n as Lsn;
  private queue: Work[] = [];
  private isWorking = false;

  constructor(replica: Promise<Replica>, hooks: LanesHooks) {
    this.replica = replica;
    this.hooks = hooks;
  }

  /** Whether every subscription's rows are complete. */
  get allJoined(): boolean {
    return (
      this.isOnline &&
      this.lanes.values().every(({ stage, isApplied }) => (stage === "joined" && isApplied) || stage === "over")
    );
  }

  add(subscriber: Subscriber): void {
    this.subscribers.add(subscriber);
    if (this.isOnline) this.open(subscriber);
  }

  /** Resolves when its rows are gone from the replica. */
  remove(subscriber: Subscriber): Promise<void> {
    this.subscribers.delete(subscriber);
    const lane = this.laneOf(subscriber);
    if (lane && this.isOnline) this.hooks.send({ kind: "unsubscribe", id: lane.id });
    if (lane) this.end(lane);
    return new Promise((done) => this.push({ kind: "remove", member: subscriber.member, done }));
  }

  /** The rows of all shapes leave: another user is here. */
  purge(): void {
    for (const subscriber of this.subscribers) this.push({ kind: "remove", member: subscriber.member, done: () => {} });
  }

  // ── Receiving ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A new connection has greeted us; `isNewHistory`: it counts positions of another database than the one before. */
  online(isNewHistory: boolean): void {
    this.isOnline = true;
    if (isNewHistory) this.push({ kind: "newHistory" });
    this.position = 0n as Lsn;
    for (const subscriber of this.subscribers) this.open(subscriber);
    this.hooks.changed();
  }

  /** What was staged and not yet whole is lost; what is whole will still be applied. */
  offline(): void {
    this.isOnline = false;
    this.clearStaged();
    for (const lane of this.lanes.values()) this.end(lane);
    this.lanes = new Map();
    this.hooks.changed();
  }

  /** Throws WalcastError where the message cannot be. */
  message(message: ServerMessage): void {
    switch (message.kind) {
      case "described":
        return this.described(this.lane(message.id), message.table, message.estimatedRows);
      case "resync":
        return this.resync(this.lane(message.id));
      case "unsubscribed":
        return void this.lanes.delete(message.id);
      case "awaited":
        return this.push({ kind: "awaited", id: message.id });
      case "error":
        if (message.subscription !== undefined) this.refused(this.lane(message.subscription), message.error);
        return;
      case "welcome":
    }
  }

  frame(frame: Frame): void {
    switch (frame.kind) {
      case "copy":
        return frame.sections.forEach((section) => this.copied(section));
      case "catchUp":
        return frame.sections.forEach((section) => this.expect(section, "loading")?.catchUp.push(section.payload));
      case "commits":
        frame.sections.forEach((section) => this.stage(section));
        return frame.boundary ? this.boundary(frame.position, []) : undefined;
      case "join":
        return this.boundary(frame.position, frame.sections);
      case "position":
        return this.boundary(frame.position, []);
    }
  }

  private open(subscriber: Subscriber): void {
    const lane: Lane = {
      id: this.nextId++,
      subscriber,
      stage: "asked",
      load: undefined,
      isApplied: false,
      description: undefined,
      catchUp: [],
      rows: 0,
      bytes: 0,
    };
    this.lanes.set(lane.id, lane);
    subscriber.loading();
    this.hooks.send({
      kind: "subscribe",
      id: lane.id,
      shape: subscriber.request,
      ...(subscriber.changes ? { changes: true } : {}),
    });
    this.hooks.changed();
  }

  private described(lane: Lane | undefined, table: TableDescription, estimatedRows: number): void {
    if (!lane) return;
    if (lane.stage !== "asked") throw unexpected("a description", lane.stage);
    lane.stage = "loading";
    this.push({ kind: "described", lane, table, estimatedRows });
  }

  private copied(section: SectionIn): void {
    const lane = this.expect(section, "loading");
    if (lane) this.push({ kind: "copy", lane, lines: section.payload });
  }

  private stage(section: SectionIn): void {
    const lane = this.expect(section, "joined");
    if (!lane) return;
    const staged = this.staged.get(lane);
    if (staged) staged.push(section.payload);
    else this.staged.set(lane, [section.payload]);
    this.stagedBytes += section.payload.length;
  }

  private boundary(position: Lsn, joining: readonly SectionIn[]): void {
    if (position < this.position)
      throw new WalcastError(
        "frame_out_of_order",
        "read a frame: expected its position not to be before the last one's",
      );
    this.position = position;
    const joins = joining.flatMap((section) => this.joining(section) ?? []);
    this.push({ kind: "transaction", sections: this.staged, joins, position, bytes: this.stagedBytes });
    this.clearStaged();
  }

  private joining(section: SectionIn): Transaction["joins"][number] | undefined {
    const lane = this.expect(section, "loading");
    if (!lane) return undefined;
    lane.stage = "joined";
    const payloads = [...lane.catchUp, section.payload];
    lane.catchUp = [];
    return { lane, payloads };
  }

  private resync(lane: Lane | undefined): void {
    if (!lane) return;
    this.staged.delete(lane);
    lane.stage = "asked";
    lane.catchUp = [];
    this.push({ kind: "discard", lane });
    lane.subscriber.loading();
    this.hooks.changed();
  }

  private refused(lane: Lane | undefined, error: WalcastErrorJson): void {
    if (lane)
      this.fail(lane, new WalcastError(error.code, error.message, { position: error.position, hint: error.hint }));
  }

  private fail(lane: Lane, error: WalcastError): void {
    this.end(lane);
    this.subscribers.delete(lane.subscriber);
    const tell = (): void => {
      lane.subscriber.failed(error);
      this.hooks.changed();
    };
    if (revoking.has(error.code)) this.push({ kind: "remove", member: lane.subscriber.member, done: tell });
    else tell();
  }

  private end(lane: Lane): void {
    if (lane.stage === "over") return;
    lane.stage = "over";
    this.staged.delete(lane);
    this.push({ kind: "discard", lane });
    this.hooks.changed();
  }

  private clearStaged(): void {
    this.staged = new Map();
    this.stagedBytes = 0;
  }

  private laneOf(subscriber: Subscriber): Lane | undefined {
    return this.lanes.values().find((lane) => lane.subscriber === subscriber && lane.stage !== "over");
  }

  /** Undefined for one that is over: the server may not know yet. */
  private lane(id: number): Lane | undefined {
    if (id >= this.nextId)
      throw new WalcastError(
        "malformed_message",
        `read a message: expected a subscription that was asked for, found ${id}`,
      );
    const lane = this.lanes.get(id);
    return lane?.stage === "over" ? undefined : lane;
  }

  private expect({ subscription }: SectionIn, stage: Lane["stage"]): Lane | undefined {
    const lane = this.lane(subscription);
    if (lane && lane.stage !== stage) throw unexpected("rows", lane.stage);
    return lane;
  }

  // ── Working it off ─────────────────────────────────────────────────────────────────────────────────────────────────

  private push(work: Work): void {
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
    tell.push(() => {
      if (this.isOnline && this.lanes.get(lane.id) === lane) this.hooks.send({ kind: "unsubscribe", id: lane.id });
      this.fail(lane, asReplicaFailure(error));
    });
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

type WalcastErrorJson = Extract<ServerMessage, { kind: "error" }>["error"];

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

function unexpected(what: string, stage: string): WalcastError {
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
