/**
 * From the log to the connections: takes what one read brought, finds the shapes it changes, and gives each connection
 * that is live what its joined shapes get of it. Everything here happens within one turn of the event loop, so between
 * two turns a live connection is at the log's end. Who cannot keep up, and whom a large transaction concerns, falls
 * behind and is brought up again from the log.
 */
import type { Logger } from "pino";
import type { Snapshots } from "../changes/snapshot.ts";
import type { Transaction } from "../changes/transaction.ts";
import type { Log } from "../log/log.ts";
import { closeCodes, type ErrorCode, type Lsn } from "../protocol.ts";
import { Registry, type Routed } from "../shapes/registry.ts";
import { Audits } from "./audit.ts";
import { CatchUp } from "./catch-up.ts";
import { alter, type FrameSections, framesByFeed, runs } from "./delivery.ts";
import type { Feed } from "./feed.ts";
import { type FrameCounters, sectionBytes } from "./frames.ts";
import type { Lane } from "./lane.ts";

/** A commit that waits for a synchronous standby is invisible for as long as that takes. Longer than this is not waited for where everything else of a client waits too. */
const settleMs = 2_000;

/** Of tables that nobody comes back for, which a database may make and drop for ever. The oldest change has long been visible by then. */
const changedMax = 1_000;

/** About what a table's description takes. */
const descriptionBytes = 16 * 1024;

export interface HubOptions {
  readonly tail: Log;
  readonly snapshots: Snapshots;
  readonly log: Logger;
  /** About the largest payload of one frame, in bytes. */
  readonly frameBytes: number;
  /** A table's description is out of date, and so may rows be that were read of it, unless they contain transaction `xid`. */
  readonly onTableChanged: (oid: number, xid?: bigint) => void;
}

export class Hub {
  readonly live: Registry<Lane>;
  readonly tail: Log;
  readonly snapshots: Snapshots;
  readonly log: Logger;
  readonly frameBytes: number;
  readonly counters: FrameCounters & { fellBehind: number; unknownChanges: number } = {
    sendsDropped: 0,
    fellBehind: 0,
    unknownChanges: 0,
  };
  /** Resyncs so far, by the code of their cause. */
  readonly resyncs = new Map<ErrorCode, number>();
  /** Errors that clients were answered with so far, by code. */
  readonly refusals = new Map<ErrorCode, number>();
  /** Clients that came back: "resumed", or the code of why they could not. */
  readonly returned = new Map<string, number>();
  /** Every greeted connection. */
  readonly connections = new Set<Feed>();
  readonly catchUp: CatchUp;
  readonly audits: Audits;
  private readonly onTableChanged: (oid: number, xid?: bigint) => void;
  private readonly waiting = new Set<Waiting>();
  /** Tables whose last change has been streamed, by oid, until queries are known to show it: those that changed last, the newest at the end. */
  private readonly changed = new Map<number, Change>();

  constructor(options: HubOptions) {
    this.live = new Registry(options.frameBytes);
    this.tail = options.tail;
    this.snapshots = options.snapshots;
    this.log = options.log;
    this.frameBytes = options.frameBytes;
    this.onTableChanged = options.onTableChanged;
    this.catchUp = new CatchUp(this);
    this.audits = new Audits(this);
  }

  /** Where every live connection is, between two turns of the event loop. */
  get position(): Lsn {
    return this.tail.end;
  }

  /** What the log has just appended, after `before`. */
  deliver(transactions: readonly Transaction[], before: Lsn): void {
    this.forgetChanged(transactions);
    let at = before;
    for (const run of runs(transactions)) {
      if (run[0]!.large) this.leaveToCatchUp(run[0]!, at);
      else this.deliverRun(run, at);
      at = run.at(-1)!.commitEnd;
    }
    this.catchUp.streamed(at);
    this.wakeWaiting();
  }

  /** A table is not what its shapes were resolved against: all of them are loaded anew. */
  tableChanged(oid: number): void {
    this.onTableChanged(oid);
    this.resync(this.live.entriesOf(oid));
  }

  /** The table's description may be out of date: whoever asks next shall get a new one. */
  forget(oid: number): void {
    this.onTableChanged(oid);
  }

  /**
   * Resolves when whoever asks for the table next does not find it as it was before a change that was streamed, or when that takes
   * long: a commit can be streamed before any query shows it.
   */
  async settled(oid: number): Promise<void> {
    const change = this.changed.get(oid);
    if (!change) return;
    // One for all who come back at the same time.
    await (change.settling ??= this.settle(oid, change));
  }

  private async settle(oid: number, change: Change): Promise<void> {
    try {
      const until = performance.now() + settleMs;
      await this.snapshots.seeing(change.at, () => performance.now() > until);
      if (this.changed.get(oid) === change) this.changed.delete(oid);
      // As it was is how somebody may have found it meanwhile.
      this.onTableChanged(oid);
    } finally {
      change.settling = undefined;
    }
  }

  /** Shapes that cannot be continued as they are. */
  resync(broken: Routed<Lane>["broken"]): void {
    for (const { shape, subscribers } of broken) {
      this.onTableChanged(shape.table.oid);
      const cause = {
        code: "schema_changed",
        message: `the table ${shape.table.schema}.${shape.table.name} changed: its rows are loaded again`,
      } as const;
      for (const lane of [...subscribers]) lane.resync(cause);
    }
  }

  /** Shapes whose predicate failed for a row: theirs alone are over. */
  fail(failed: Routed<Lane>["failed"]): void {
    for (const { entry, failure } of failed) for (const lane of [...entry.subscribers]) lane.fail(failure);
  }

  /** The connection has everything up to the hub's position. */
  goLive(feed: Feed): void {
    const cause = { code: "schema_changed", message: "the table changed: its rows are loaded again" } as const;
    for (const lane of feed.moveTo(this.live)) lane.resync(cause);
    feed.becomeLive();
    this.sendPosition(feed);
  }

  noteRefusal(code: ErrorCode): void {
    this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
  }

  noteReturn(result: string): void {
    this.returned.set(result, (this.returned.get(result) ?? 0) + 1);
  }

  /** The connection is over: nothing is sent to it, and it waits for nothing. */
  disconnected(feed: Feed): void {
    this.connections.delete(feed);
    feed.end();
    for (const waiting of this.waiting) if (waiting.feed === feed) this.release(waiting);
  }

  /** Idle connections learn how far the stream is, and that they are still connected, though nothing may have changed. */
  sendPositions(): void {
    for (const { frames, isLive } of this.connections) {
      if (!frames.idle() || frames.insideCommit) continue;
      frames.frame("position", true, isLive ? this.position : frames.position, []);
      // Or every other time it would be this frame that makes it look busy.
      frames.idle();
    }
  }

  sendPosition({ frames }: Feed): void {
    if (frames.position < this.position) frames.frame("position", true, this.position, []);
  }

  /**
   * Resolves when the connection is live at the position or further, or over; a barrier sees to it that an idle database
   * gets there too.
   */
  async reached(position: Lsn, feed: Feed): Promise<void> {
    if (this.position < position) await this.streamed(position, feed);
    await feed.live();
  }

  /** Resolves when the stream has got to where the connection left off, or the connection is over. */
  async arrived(feed: Feed): Promise<void> {
    if (feed.isOver || this.position >= feed.reached) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.waiting.add({ position: feed.reached, feed, resolve });
    await promise;
  }

  private async streamed(position: Lsn, feed: Feed): Promise<void> {
    const { promise: passed, resolve } = Promise.withResolvers<void>();
    const waiting = { position, feed, resolve };
    this.waiting.add(waiting);
    try {
      await Promise.race([passed, this.snapshots.commitBarrier()]);
      await passed;
    } finally {
      this.waiting.delete(waiting);
    }
  }

  private forgetChanged(transactions: readonly Transaction[]): void {
    for (const { schemaChanges, xid, commitEnd } of transactions)
      for (const { tableOid, cause } of schemaChanges) {
        if (cause !== undefined) this.noteUnknown(tableOid, cause);
        this.noteChanged(tableOid, commitEnd);
        this.onTableChanged(tableOid, xid);
      }
  }

  private noteChanged(tableOid: number, at: Lsn): void {
    const { changed } = this;
    changed.delete(tableOid);
    changed.set(tableOid, { at });
    if (changed.size > changedMax) changed.delete(changed.keys().next().value!);
  }

  private noteUnknown(tableOid: number, cause: string): void {
    this.counters.unknownChanges++;
    this.log.warn({ tableOid, cause }, "a table changed, and how could not be noted: its rows are loaded again");
  }

  private deliverRun(transactions: readonly Transaction[], before: Lsn): void {
    const altered = this.alter(transactions[0]!, before);
    const { changed, broken, failed } = this.live.route(transactions);
    // First: no client may take a shape that misses these transactions for one that has reached their position.
    this.resync(broken);
    this.fail(failed);
    const end = transactions.at(-1)!.commitEnd;
    for (const { feed, frames } of framesByFeed(changed, this.frameBytes)) this.send(feed, frames, before, end);
    for (const { frames } of altered) if (frames.insideCommit) frames.frame("commits", true, end, []);
  }

  /** Who has no room even for the new description falls behind with the old one. */
  private alter(transaction: Transaction, before: Lsn): ReadonlySet<Feed> {
    for (const { tableOid } of transaction.schemaChanges)
      for (const { feed } of this.live.entriesOf(tableOid).flatMap(({ subscribers }) => [...subscribers]))
        if (feed.isLive && !feed.frames.takes(descriptionBytes)) this.fallBehind(feed, before);
    return alter(this.live, transaction);
  }

  /** What goes wrong with one connection is its own affair. */
  private send(feed: Feed, frames: readonly FrameSections[], before: Lsn, end: Lsn): void {
    try {
      if (!sendAtOnce(feed, frames, end)) this.fallBehind(feed, before);
    } catch (error) {
      this.log.error({ err: error }, "sending to a connection failed: it is closed");
      feed.frames.close(closeCodes.goingAway, "invariant");
    }
  }

  /**
   * Those who have shapes of its tables get it from the log, as fast as they take it; all others go on. What it does to the
   * form of a table is found there, too.
   */
  private leaveToCatchUp(large: Transaction, before: Lsn): void {
    const concerned = new Set<Feed>();
    for (const oid of [...large.relations.map((one) => one.oid), ...large.schemaChanges.map((one) => one.tableOid)])
      for (const { feed } of this.live.subscribersOf(oid)) concerned.add(feed);
    for (const feed of concerned) this.fallBehind(feed, before);
  }

  private fallBehind(feed: Feed, at: Lsn): void {
    this.counters.fellBehind++;
    feed.becomeBehind(at);
    this.catchUp.enter(feed);
  }

  private wakeWaiting(): void {
    for (const waiting of this.waiting) if (waiting.position <= this.position) this.release(waiting);
  }

  private release(waiting: Waiting): void {
    this.waiting.delete(waiting);
    waiting.resolve();
  }
}

/** False where it does not fit into the budget: a part may have been sent, without a boundary. */
function sendAtOnce({ frames }: Feed, list: readonly FrameSections[], end: Lsn): boolean {
  for (let i = 0; i < list.length; i++) {
    const sections = list[i]!;
    if (!frames.takes(sectionBytes(sections))) return false;
    const isLast = i === list.length - 1;
    frames.frame("commits", isLast, isLast ? end : frames.position, sections);
  }
  return true;
}

interface Waiting {
  readonly position: Lsn;
  readonly feed: Feed;
  readonly resolve: () => void;
}

interface Change {
  readonly at: Lsn;
  settling?: Promise<void> | undefined;
}
