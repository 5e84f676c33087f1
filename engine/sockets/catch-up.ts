/**
 * Brings connections that are behind up to the stream, many of them in one pass over the log. A connection that is full
 * costs nothing but its position: it gets on when its socket has room.
 *
 *     enter ──room──▶ a pass that will come by its position ──▶ … ──▶ live
 *       ▲                                 │
 *       └───────── left behind ───────────┘
 */
import type { Logger } from "pino";
import { noteBreach } from "../invariants.ts";
import { closeCodes, type Lsn } from "../protocol.ts";
import type { Feed } from "./feed.ts";
import type { Hub } from "./hub.ts";
import { Pass } from "./pass.ts";

/** Passes that read at the same time, for many connections and for one alone. Each holds a batch in memory. */
const sharedPassesMax = 4;
const alonePassesMax = 16;

/** In bytes of WAL. Nearer than this, waiting for a pass to come by costs less than reading the log once more. */
const nearBytes = 64n << 20n;

/** Clients that lost one engine come to the next one after another. Those who come within so long of each other start together, */
const gatherMs = 10;
/** up to this much after the first. */
const gatherMsMax = 200;

export class CatchUp {
  private readonly hub: Hub;
  private readonly log: Logger;
  private readonly passes = new Set<Pass>();
  /** Behind, with room, and not in a pass yet. */
  private waiting = new Set<Feed>();
  /** The same, of those that others do not wait for: in the order in which they came. */
  private readonly slow = new Set<Feed>();
  /** Further than the log: the engine was started anew, and gets there. */
  private readonly ahead = new Set<Feed>();
  private gathering: { readonly until: number; timer: NodeJS.Timeout } | undefined;
  /** Passes begun so far. */
  passesTotal = 0;
  /** Connections that were brought up to the stream. */
  caughtUpTotal = 0;

  constructor(hub: Hub) {
    this.hub = hub;
    this.log = hub.log;
  }

  /** The connection is behind, at `feed.reached`. */
  enter(feed: Feed): void {
    void this.enterWithRoom(feed);
  }

  /** The stream has got to this position: who waited for it is not ahead any more. */
  streamed(position: Lsn): void {
    for (const feed of this.ahead)
      if (feed.isOver || feed.reached <= position) {
        this.ahead.delete(feed);
        this.enter(feed);
      }
  }

  private async enterWithRoom(feed: Feed): Promise<void> {
    await feed.frames.room();
    if (feed.isOver) return;
    if (feed.reached > this.hub.position) return void this.ahead.add(feed);
    (feed.isSlow ? this.slow : this.waiting).add(feed);
    this.schedule();
  }

  private schedule(): void {
    const now = performance.now();
    const until = this.gathering?.until ?? now + gatherMsMax;
    clearTimeout(this.gathering?.timer);
    const timer = setTimeout(() => this.assign(), Math.min(gatherMs, Math.max(until - now, 0)));
    this.gathering = { until, timer };
  }

  private assign(): void {
    this.gathering = undefined;
    const waiting = [...this.waiting].filter((feed) => !feed.isOver).sort((a, b) => (a.reached < b.reached ? -1 : 1));
    this.waiting = new Set(waiting.filter((feed) => !this.place(feed)));
    for (const feed of this.slow) if (feed.isOver || this.placeAlone(feed)) this.slow.delete(feed);
  }

  /** Whether there was a place for it. */
  private place(feed: Feed): boolean {
    const nearest = this.nearest(feed.reached);
    if (nearest && feed.reached - nearest.entry <= nearBytes) return nearest.take(feed);
    if (this.passesThatAre({ alone: false }) < sharedPassesMax) return this.begin(feed, false);
    return nearest?.take(feed) ?? false;
  }

  private placeAlone(feed: Feed): boolean {
    return this.passesThatAre({ alone: true }) < alonePassesMax && this.begin(feed, true);
  }

  private passesThatAre({ alone }: { alone: boolean }): number {
    return [...this.passes].filter(({ isAlone }) => isAlone === alone).length;
  }

  /** The pass that will come by this position next. */
  private nearest(position: Lsn): Pass | undefined {
    let nearest: Pass | undefined;
    for (const pass of this.passes)
      if (!pass.isAlone && pass.entry <= position && (!nearest || pass.entry > nearest.entry)) nearest = pass;
    return nearest;
  }

  private begin(feed: Feed, alone: boolean): true {
    const pass = new Pass(this.hub, feed, {
      alone,
      isCrowded: () => (alone ? this.slow : this.waiting).size > 0,
      onLive: () => this.caughtUpTotal++,
      onLeft: (left) => this.enter(left),
    });
    this.passes.add(pass);
    this.passesTotal++;
    // Not before everybody who comes along has entered.
    queueMicrotask(() => void this.run(pass));
    return true;
  }

  private async run(pass: Pass): Promise<void> {
    try {
      await pass.run();
    } catch (error) {
      this.log.error({ err: error }, "reading the log for connections that are behind failed: they start again");
      noteBreach("joined_whole");
      for (const feed of pass.all()) feed.frames.close(closeCodes.goingAway, "log_failed");
    } finally {
      this.passes.delete(pass);
      if (this.waiting.size + this.slow.size > 0) this.schedule();
    }
  }
}
