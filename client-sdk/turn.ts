/**
 * One turn on the replica, in which a piece of what was received is worked off. Whatever that leads to is told after the
 * turn, when the replica is free again.
 */
import { decodeCommits, type Lsn, type TableDescription, WalcastError } from "../engine/protocol.ts";
import { Changed } from "./changed.ts";
import type { Database } from "./database.ts";
import { readerOf } from "./event-reader.ts";
import type { Join, Load, Placed } from "./joins.ts";
import { type Lane, unexpected } from "./lane.ts";
import type { Segment } from "./pile.ts";
import { asReplicaFailure } from "./query-errors.ts";
import type { Replica } from "./replica.ts";
import { deleteSpilled, readSpilled } from "./staging.ts";
import { operationsOf, stepsOf, tellCommits, type Telling, tellNow } from "./steps.ts";
import { spilledIn, type Transaction, type Withdrawal, type Work } from "./work.ts";

export interface TurnHooks {
  /** Inside the replica's turn, right after a local transaction. What it returns is called when the turn is over. */
  applied(changed: Changed): () => void;
  /** Whether its rows are the server's. */
  audited(lane: Lane, matches: boolean): void;
  /** The replica is as the server wanted it when it answered this await. */
  awaited(id: number): void;
  /** Something about the lanes is different: the client's status may be, too. */
  changed(): void;
  /** The replica cannot hold this one. */
  failed(lane: Lane, error: WalcastError): void;
}

export class Turn {
  /** To be called when the turn is over, in this order. */
  readonly tell: (() => void)[] = [];
  /** To be done before anything else that waits. */
  next: readonly Work[] = [];
  private readonly replica: Replica;
  private readonly hooks: TurnHooks;
  /** Those that have joined, until their rows stand in their table. */
  private readonly joined: Map<Load, Lane>;

  constructor(replica: Replica, hooks: TurnHooks, joined: Map<Load, Lane>) {
    this.replica = replica;
    this.hooks = hooks;
    this.joined = joined;
  }

  work(work: Exclude<Work, { kind: "transaction" | "copy" }>): void {
    switch (work.kind) {
      case "described":
        return this.guarded(work.lane, () => this.describe(work.lane, work.table, work.estimatedRows));
      case "discard":
        this.discard(work.lane);
        return work.done();
      case "remove":
        return this.remove(work);
      case "withdraw":
        return this.withdraw(work.withdrawals);
      case "claimed":
        return this.replica.claimed(work.member, work.isCurrent);
      case "empty":
        return void this.tell.push(this.hooks.applied(new Changed(this.replica.removeAll())), work.done);
      case "removeUnclaimed":
        return void this.tell.push(this.hooks.applied(new Changed(this.replica.removeUnclaimed())));
      case "place":
        return this.place(new Changed());
      case "spill":
        return this.replica.spill(work.spill);
      case "unspill":
        return this.unspill(work.numbers);
      case "told":
        return this.told(work.telling);
      case "audit":
        return this.audit(work.lane, work.rows, work.hash);
      case "access":
        // Rows that wait beside the table are others than those in sight, which stay what they were called.
        if (work.lane.isShown) this.replica.noteAccess(work.lane.subscriber.member, work.access);
        return;
      case "awaited":
        return void this.tell.push(() => this.hooks.awaited(work.id));
      case "owner":
        return this.replica.setOwner(work.owner);
      case "epoch":
        return this.replica.enterEpoch(work.epoch, work.keeps);
    }
  }

  copy(lane: Lane, lines: readonly Uint8Array[]): void {
    this.guarded(lane, () => {
      if (!lane.load) throw unexpected("rows", lane.stage);
      lane.rows += this.replica.copy(lane.load, lines);
      lane.bytes += lines.reduce((sum, { length }) => sum + length, 0);
      this.tell.push(() => lane.subscriber.progressed(lane.rows, lane.bytes));
    });
  }

  /** As one local transaction. Only the last may join something. */
  apply(batch: readonly Transaction[]): void {
    const segments = batch.flatMap((one) => one.segments);
    const { position } = batch.at(-1)!;
    const joins = batch.at(-1)!.joins.filter(({ lane }) => lane.stage !== "over");
    const isIdle = segments.length === 0 && joins.length === 0 && position === this.replica.reached;
    if (isIdle) return;
    const { joined, placed, tellings } = this.commit(segments, joins, position);
    this.tellAll(tellings, earlierOf(joined, this.replica.database), batch.flatMap(spilledIn));
    for (const { lane } of joined) this.join(lane);
    this.settle(placed);
    if (joined.length > 0) this.hooks.changed();
  }

  // ── Shapes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  private describe(lane: Lane, table: TableDescription, estimatedRows: number): void {
    lane.rows = lane.bytes = 0;
    if (!lane.subscriber.changes) {
      lane.load = this.replica.describe(lane.subscriber.member, table);
      this.tell.push(this.hooks.applied(new Changed()));
    }
    lane.subscriber.described(table, estimatedRows, readerOf);
  }

  private remove(work: Extract<Work, { kind: "remove" }>): void {
    const table = removeOf(this.replica, work);
    // At once: no turn in between may find the rows gone from a shape that still says it is only being loaded anew.
    work.done();
    this.place(new Changed(table === undefined ? [] : [table]));
  }

  private withdraw(withdrawals: readonly Withdrawal[]): void {
    const members = withdrawals.map(({ member }) => member);
    const changed = this.replica.withdraw(
      members,
      withdrawals.some(({ isPurge }) => isPurge),
    );
    for (const { done } of withdrawals) done();
    this.place(new Changed(changed));
  }

  /** Others may have waited for one that is gone. */
  private place(changed: Changed): void {
    const placed = this.replica.place();
    changed.add(placed.changed);
    if (!changed.isEmpty) this.tell.push(this.hooks.applied(changed));
    this.settle(placed);
  }

  private discard(lane: Lane): void {
    if (lane.isApplied && !lane.subscriber.changes) this.replica.outdate(lane.subscriber.member);
    lane.isApplied = false;
    if (!lane.load) return;
    this.joined.delete(lane.load);
    this.replica.discard(lane.load);
    lane.load = undefined;
  }

  private audit(lane: Lane, rows: string, hash: string): void {
    if (!lane.isApplied || lane.stage === "over") return;
    const own = this.replica.audit(lane.subscriber.member);
    this.tell.push(() => this.hooks.audited(lane, own.rows === rows && own.hash === hash));
  }

  /** One shape that the replica cannot hold must not take the others with it. */
  private guarded(lane: Lane, work: () => void): void {
    if (lane.stage === "over") return;
    try {
      work();
    } catch (error) {
      this.giveUp(lane, error);
    }
  }

  private giveUp(lane: Lane, error: unknown): void {
    this.tell.push(() => this.hooks.failed(lane, asReplicaFailure(error)));
  }

  // ── Transactions ───────────────────────────────────────────────────────────────────────────────────────────────────

  private commit(
    segments: readonly Segment[],
    joins: Transaction["joins"],
    position: Lsn,
  ): { joined: Transaction["joins"]; placed: Placed; tellings: Telling[] } {
    const tellings: Telling[] = [];
    const { database } = this.replica;
    try {
      for (const segment of segments) this.prepareTypes(segment);
      const steps = stepsOf(segments, database, tellings);
      const placed = this.replica.commit(steps, joinsOf(joins, database), position);
      this.applied(placed.changed, tellings);
      return { joined: joins, placed, tellings };
    } catch (error) {
      if (joins.length === 0) throw error;
      for (const { lane } of joins) this.giveUp(lane, error);
      return this.commit(segments, [], position);
    }
  }

  private prepareTypes(segment: Segment): void {
    if (segment.kind !== "altered") return;
    const { lane, table } = segment.alteration;
    if (lane.isApplied && !lane.subscriber.changes) this.replica.ensureTypes(table.types);
  }

  /** Its changes are applied from now on, though its rows may have to wait for others to be seen. */
  private join(lane: Lane): void {
    lane.isApplied = true;
    if (lane.load) this.joined.set(lane.load, lane);
    else lane.subscriber.joined(this.replica.position);
  }

  private settle({ loads, failed }: Placed): void {
    for (const load of loads) this.takeJoined(load).subscriber.joined(this.replica.position);
    for (const { load, error } of failed) {
      const lane = this.takeJoined(load);
      lane.isApplied = false;
      this.giveUp(lane, error);
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

  // ── Telling ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Events come before anybody is told that the position is reached, where they are at hand. */
  private applied(changed: Changed, tellings: readonly Telling[]): void {
    const settle = this.hooks.applied(changed);
    if (!tellings.some(isSpilled)) for (const one of tellings) this.tell.push(() => tellNow(one));
    this.tell.push(settle);
  }

  /** What was put aside is told to channels part by part, each in a turn of its own, before anything else is done. */
  private tellAll(tellings: readonly Telling[], earlier: readonly Telling[], numbers: readonly number[]): void {
    const late = tellings.some(isSpilled) ? [...tellings, ...earlier] : earlier.some(isSpilled) ? earlier : [];
    if (late.length > 0)
      this.next = [...late.map((telling): Work => ({ kind: "told", telling })), { kind: "unspill", numbers }];
    else {
      for (const one of earlier) this.tell.push(() => tellNow(one));
      if (numbers.length > 0) this.unspill(numbers);
    }
  }

  private unspill(numbers: readonly number[]): void {
    const { database } = this.replica;
    database.transaction(() => database.script(deleteSpilled(numbers)));
  }

  private told(telling: Telling): void {
    if (telling.kind !== "spilled") return void this.tell.push(() => tellNow(telling));
    const commits = decodeCommits(readSpilled(this.replica.database, telling.number, telling.part));
    this.tell.push(() => tellCommits(telling.lane, commits));
  }
}

function removeOf(replica: Replica, { member, failed }: Extract<Work, { kind: "remove" }>): string | undefined {
  try {
    return replica.remove(member);
  } catch (error) {
    failed?.(asReplicaFailure(error));
    throw error;
  }
}

/** What those who keep nothing are told of the time before they joined: earlier messages of a topic. */
function earlierOf(joins: Transaction["joins"], database: Database): Telling[] {
  const tellings: Telling[] = [];
  for (const { lane, segments } of joins)
    if (lane.subscriber.changes) Array.from(stepsOf(segments, database, tellings));
  return tellings;
}

function joinsOf(joins: Transaction["joins"], database: Database): Join[] {
  return joins.flatMap(({ lane, segments }) =>
    lane.load ? [{ load: lane.load, portions: operationsOf(segments, database) }] : [],
  );
}

function isSpilled({ kind }: Telling): boolean {
  return kind === "spilled";
}
