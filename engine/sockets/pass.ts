/**
 * One reading of the log for any number of connections that are behind. Each enters when the pass gets to its position and
 * leaves when it is live; what is read is routed and encoded once for all of them, by the code that serves the live ones,
 * through a registry of its own.
 *
 * Sockets set the pace. Those that take what they get are waited for; the others leave with nothing but their position,
 * unless all are like that. A connection that is alone here has it for a while, and for twice as long each time that others
 * wait and it was not enough: so it always gets through, whatever the size of a transaction.
 */
import { setImmediate as nextTurn, setTimeout as delay } from "node:timers/promises";
import { oidsOf } from "../changes/table.ts";
import { type Transaction, touches } from "../changes/transaction.ts";
import { type Lsn, WalcastError } from "../protocol.ts";
import { Registry, type Routed } from "../shapes/registry.ts";
import { alter, framesByFeed, type Outgoing, runs } from "./delivery.ts";
import type { Feed } from "./feed.ts";
import type { Hub } from "./hub.ts";
import type { Lane } from "./lane.ts";
import { Sending, taken } from "./sending.ts";

/** The last stretch to the stream is made in one turn of the event loop, which must stay short. */
const lastStretchBytes = 256 * 1024;

/** Others run in between when sending to many has taken as long. */
const turnMs = 10;

/** Slow connections are waited for while all together take at least so much in so long: 10 MiB a second. */
const patienceMs = 100;
const patienceBytes = 1 << 20;

/** How long a connection has a pass alone when others wait for theirs; twice as long each time that it has to come again. */
const turnOfOneMs = 2_000;
const turnOfOneMsMax = 600_000;

export interface PassOptions {
  /** For one connection, which is waited for as long as it takes where nobody waits for the pass to end. */
  readonly alone: boolean;
  /** Whether connections wait for a pass to end. */
  readonly isCrowded: () => boolean;
  readonly onLive: () => void;
  /** The connection is behind still, at its `reached`. */
  readonly onLeft: (feed: Feed) => void;
}

export class Pass {
  readonly isAlone: boolean;
  private readonly hub: Hub;
  private readonly options: PassOptions;
  private readonly registry: Registry<Lane>;
  private readonly feeds = new Set<Feed>();
  private readonly entering = new Set<Feed>();
  private readonly begun = performance.now();
  /** Everything up to here was sent to those who are in. */
  private position: Lsn;
  /** Who is at this position or further can still enter. */
  entry: Lsn;

  constructor(hub: Hub, first: Feed, options: PassOptions) {
    this.hub = hub;
    this.options = options;
    this.isAlone = options.alone;
    this.registry = new Registry(hub.frameBytes);
    this.position = this.entry = first.reached;
    this.entering.add(first);
  }

  /** It enters when the pass comes by. */
  take(feed: Feed): true {
    this.entering.add(feed);
    return true;
  }

  all(): Feed[] {
    return [...this.feeds, ...this.entering];
  }

  async run(): Promise<void> {
    while (this.admit()) {
      if (await this.finish()) continue;
      try {
        await this.read();
      } catch (error) {
        this.giveUp(tooOld(error));
      }
    }
  }

  // ── Who is in ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Lets in those whose position this is. False when nobody is in, and nobody will be. */
  private admit(): boolean {
    for (const feed of this.all()) if (feed.isOver) this.drop(feed);
    if (this.feeds.size === 0 && this.entering.size > 0) this.position = this.entry = this.nextEntry()!;
    for (const feed of this.entering)
      if (feed.reached <= this.position) {
        this.entering.delete(feed);
        this.feeds.add(feed);
        for (const lane of feed.moveTo(this.registry)) lane.resync(otherForm);
      }
    return this.feeds.size > 0;
  }

  private nextEntry(): Lsn | undefined {
    let next: Lsn | undefined;
    for (const { reached } of this.entering) if (next === undefined || reached < next) next = reached;
    return next;
  }

  private drop(feed: Feed): void {
    this.feeds.delete(feed);
    this.entering.delete(feed);
  }

  /** It is behind at this pass's position, and gets on in another one. */
  private leave(feed: Feed): void {
    this.drop(feed);
    if (this.isAlone) feed.turns++;
    feed.isSlow = true;
    feed.becomeBehind(this.position);
    this.options.onLeft(feed);
  }

  /** The log does not reach back to where this pass is: those who are in load their shapes anew. */
  private giveUp({ code, message }: WalcastError): void {
    for (const feed of this.feeds) {
      feed.becomeBehind(this.hub.position);
      for (const lane of [...feed.joined.keys()]) lane.resync({ code, message });
      this.drop(feed);
      this.hub.goLive(feed);
    }
  }

  /** Whoever shows one of its tables loads that anew, and forgets what came of it. */
  private giveUpTablesOf(transaction: Transaction, { code, message }: WalcastError): void {
    for (const feed of this.feeds) {
      const lanes = [...feed.joined].filter(([, { table }]) => touches(transaction, new Set(oidsOf(table))));
      if (lanes.length > 0) feed.frames.rewind();
      for (const [lane] of lanes) lane.resync({ code, message });
    }
  }

  // ── Through the log ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Up to the log's end as it is now, or up to a connection that enters with tables that this reading leaves out. */
  private async read(): Promise<void> {
    const { end } = this.hub.tail;
    const tables = this.tables();
    for await (const batch of this.hub.tail.read(this.position, tables)) {
      for (const run of runs(batch.transactions)) if (!(await this.advance(run, run.at(-1)!.commitEnd, tables))) return;
      if (!(await this.advance([], batch.end, tables))) return;
    }
    await this.advance([], end, tables);
    await nextTurn();
  }

  /** In steps from one connection that enters to the next. False where the reading has to begin again from `position`. */
  private async advance(transactions: readonly Transaction[], end: Lsn, tables: ReadonlySet<number>): Promise<boolean> {
    while (this.position < end) {
      this.entry = this.step(end);
      await this.deliver(
        transactions.filter(({ commitEnd }) => commitEnd > this.position && commitEnd <= this.entry),
        this.entry,
      );
      this.position = this.entry;
      if (!this.admit() || !this.tables().isSubsetOf(tables)) return false;
    }
    return true;
  }

  private step(end: Lsn): Lsn {
    const next = this.nextEntry();
    return next !== undefined && next < end ? next : end;
  }

  private tables(): Set<number> {
    const tables = new Set<number>();
    for (const feed of this.feeds) for (const oid of feed.tables()) tables.add(oid);
    return tables;
  }

  private async deliver(transactions: readonly Transaction[], end: Lsn): Promise<void> {
    const [first] = transactions;
    if (!first) return;
    const altered = alter(this.registry, first);
    if (first.large) await this.deliverLarge(first);
    else
      await this.sendAll(
        this.route(() => this.registry.route(transactions)),
        end,
      );
    this.endCommit(altered, end);
  }

  private endCommit(feeds: Iterable<Feed>, end: Lsn): void {
    for (const feed of feeds)
      if (this.feeds.has(feed) && feed.frames.insideCommit) feed.frames.frame("commits", true, end, []);
  }

  /** The boundary comes when all of its parts were sent. Where they cannot be read any more, others go on without. */
  private async deliverLarge(transaction: Transaction): Promise<void> {
    this.route(() => this.registry.examine(transaction));
    if (!this.registry.concerns(transaction)) return;
    try {
      await this.deliverParts(transaction);
    } catch (error) {
      this.giveUpTablesOf(transaction, tooOld(error));
    }
    this.endCommit(this.feeds, transaction.commitEnd);
  }

  /** Each is sent before the next is read. */
  private async deliverParts(transaction: Transaction): Promise<void> {
    for await (const part of transaction.large!.parts()) {
      await this.sendAll(
        this.route(() => this.registry.routePart(transaction, part)),
        undefined,
      );
      if (this.feeds.size === 0) return;
    }
  }

  private route(work: () => Routed<Lane>): readonly Outgoing[] {
    const { changed, broken, failed } = work();
    // First: no client may take a shape that misses these transactions for one that has reached their position.
    this.hub.resync(broken);
    this.hub.fail(failed);
    return framesByFeed(changed, this.hub.frameBytes);
  }

  // ── At the sockets' pace ────────────────────────────────────────────────────────────────────────────────────────────

  /** `end`: where the boundary is that the last frame carries; without one, they are fragments. */
  private async sendAll(all: readonly Outgoing[], end: Lsn | undefined): Promise<void> {
    const slow: Sending[] = [];
    let since = performance.now();
    for (const { feed, frames } of all) {
      if (!this.feeds.has(feed) || feed.isOver) continue;
      const sending = new Sending(feed, frames, end);
      if (!sending.sendWhatFits()) slow.push(sending);
      if (performance.now() - since < turnMs) continue;
      await nextTurn();
      since = performance.now();
    }
    if (slow.length > 0) await this.waitFor(slow);
  }

  private async waitFor(slow: readonly Sending[]): Promise<void> {
    const all = Promise.all(slow.map((sending) => sending.finish()));
    const over = new AbortController();
    const patience = this.loseSlow(slow, over.signal);
    await all;
    over.abort();
    await patience;
  }

  /** As long as nobody waits for them, nobody is slow. */
  private async loseSlow(slow: readonly Sending[], signal: AbortSignal): Promise<void> {
    let before = taken(slow);
    while (await passed(patienceMs, signal)) {
      const now = taken(slow);
      const left = slow.filter((one) => !one.isDone);
      if (now - before < patienceBytes && this.isHeldUpBy(left.length))
        for (const sending of left) {
          sending.giveUp();
          this.leave(sending.feed);
        }
      before = now;
    }
  }

  private isHeldUpBy(slow: number): boolean {
    if (this.isAlone) return this.options.isCrowded() && this.turnIsOver();
    return slow < this.feeds.size || this.entering.size > 0 || this.options.isCrowded();
  }

  private turnIsOver(): boolean {
    const [feed] = this.feeds;
    return performance.now() - this.begun > Math.min(turnOfOneMs * 2 ** (feed?.turns ?? 0), turnOfOneMsMax);
  }

  // ── Up to the stream ────────────────────────────────────────────────────────────────────────────────────────────────

  /** In one turn of the event loop: what is left is sent, and they are live. False where more than a little is left. */
  private async finish(): Promise<boolean> {
    const rest = this.lastStretch();
    if (!rest) return false;
    const end = this.hub.position;
    const frames = new Map(this.route(() => this.registry.route(rest)).map((one) => [one.feed, one.frames]));
    for (const feed of [...this.feeds]) {
      const sending = new Sending(feed, frames.get(feed) ?? [], end);
      if (sending.sendWhatFits()) this.goLive(feed);
      else if (this.isAlone) await this.waitFor([sending]);
      else this.leave(feed);
    }
    this.position = this.entry = end;
    return true;
  }

  private lastStretch(): readonly Transaction[] | undefined {
    const tables = this.tables();
    const rest = this.hub.tail.recent(this.position)?.filter((transaction) => touches(transaction, tables));
    if (
      !rest ||
      rest.some(({ large, schemaChanges }) => large || schemaChanges.length > 0) ||
      weight(rest) > lastStretchBytes
    )
      return undefined;
    const next = this.nextEntry();
    return next !== undefined && next < this.hub.position ? undefined : rest;
  }

  private goLive(feed: Feed): void {
    this.drop(feed);
    if (feed.isOver) return;
    this.hub.goLive(feed);
    this.options.onLive();
  }
}

const otherForm = { code: "schema_changed", message: "the table changed: its rows are loaded again" } as const;

/** That what is asked for is not there any more; any other error is thrown on. */
function tooOld(error: unknown): WalcastError {
  if (error instanceof WalcastError && error.code === "position_too_old") return error;
  throw error;
}

function weight(transactions: readonly Transaction[]): number {
  return transactions.reduce((sum, { bytes }) => sum + bytes.length, 0);
}

/** False when the signal came first. */
async function passed(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await delay(ms, undefined, { signal });
    return true;
  } catch {
    return false;
  }
}
