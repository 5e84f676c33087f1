/**
 * What of the work can be done before there is a replica, and is done at once: channels, topics and keys have nothing on it.
 * They are told in the order in which everything came, and what comes after the replica's opening is told after this. The rest
 * waits for the replica, if anybody wants one; where nobody does, all that is known is where it would be. So it is while a replica
 * is being opened that may have a position of its own: what comes is not for it, if it has.
 */
import type { Lsn, WalcastError } from "../engine/protocol.ts";
import { readerOf } from "./event-reader.ts";
import type { Lane } from "./lane.ts";
import { asReplicaFailure } from "./query-errors.ts";
import type { Segment } from "./pile.ts";
import { tellingsOf, tellNow } from "./steps.ts";
import { outlastsStream, type Transaction, type Work } from "./work.ts";

export interface AheadHooks {
  /** It waits for the replica. */
  rest(work: Work): void;
  /** Everything up to here was told, and nobody wants more. */
  told(position: Lsn): void;
  awaited(id: number): void;
  /** The lanes are different. */
  changed(): void;
  /** What came cannot be read: begin again. */
  failed(error: WalcastError): void;
}

type Epoch = Extract<Work, { kind: "epoch" }>;

export class Ahead {
  private readonly hooks: AheadHooks;
  private waiting: Work[] = [];
  private isDue = false;
  private rows: "unwanted" | "opening" | "wanted";
  /** Where a replica that is opened later begins. */
  private epoch: Epoch | undefined;
  private last: Transaction | undefined;

  /** `isOpening`: rows are wanted, and it will be known where they are when the replica is open. */
  constructor(isOpening: boolean, hooks: AheadHooks) {
    this.rows = isOpening ? "opening" : "unwanted";
    this.hooks = hooks;
  }

  /** Done in a moment: whoever is told may do anything, and the one who pushes is in the middle of something. */
  push(work: Work): void {
    this.waiting.push(work);
    if (this.isDue) return;
    this.isDue = true;
    queueMicrotask(() => this.finish());
  }

  /** Somebody wants rows, and they begin where the connection is: from now on all that is for the replica is kept for it. */
  want(): void {
    if (this.rows === "wanted") return;
    if (this.epoch) this.hooks.rest({ ...this.epoch, keeps: "everything" });
    if (this.last) this.hooks.rest(this.last);
    this.epoch = this.last = undefined;
    this.rows = "wanted";
  }

  /** The same, but they are somewhere else. */
  wantElsewhere(): void {
    this.finish();
    this.epoch = this.last = undefined;
    this.want();
  }

  finish(): void {
    this.isDue = false;
    for (let work = this.waiting.shift(); work; work = this.waiting.shift()) this.attempt(work);
  }

  /** What is left is not done. */
  close(): Work[] {
    return this.waiting.splice(0);
  }

  private attempt(work: Work): void {
    try {
      this.take(work);
    } catch (error) {
      this.waiting = this.waiting.filter(outlastsStream);
      this.hooks.failed(asReplicaFailure(error));
    }
  }

  private take(work: Work): void {
    if (work.kind === "transaction") return this.transaction(work);
    if ((work.kind === "described" || work.kind === "discard") && work.lane.subscriber.changes)
      return work.kind === "described" ? describe(work) : discard(work);
    if (this.rows === "wanted" || (this.rows === "opening" && work.kind !== "epoch")) this.hooks.rest(work);
    else this.forgo(work);
  }

  private transaction(work: Transaction): void {
    const joined = work.joins.filter(({ lane }) => lane.subscriber.changes && lane.stage !== "over");
    for (const { lane } of joined) join(lane, work.position);
    const told = [work.segments, ...joined.map(({ segments }) => segments)].flatMap((segments) =>
      tellingsOf(partOf(segments, true)),
    );
    for (const telling of told) tellNow(telling);
    const rest = {
      ...work,
      segments: partOf(work.segments, false),
      joins: work.joins.filter(({ lane }) => !lane.subscriber.changes),
    };
    if (this.rows === "wanted") this.hooks.rest(rest);
    else this.last = rest;
    if (this.rows === "unwanted") this.hooks.told(work.position);
    if (joined.length > 0) this.hooks.changed();
  }

  /** There are no rows, so there is nothing to do for it. */
  private forgo(work: Work): void {
    if (work.kind === "epoch") {
      if (work.keeps === "nothing") this.last = undefined;
      this.epoch = work;
    }
    if (work.kind === "remove" || work.kind === "empty") work.done();
    if (work.kind === "withdraw") for (const { done } of work.withdrawals) done();
    if (work.kind === "awaited") this.hooks.awaited(work.id);
  }
}

function describe({ lane, table, estimatedRows }: Extract<Work, { kind: "described" }>): void {
  if (lane.stage !== "over") lane.subscriber.described(table, estimatedRows, readerOf);
}

function discard({ lane, done }: Extract<Work, { kind: "discard" }>): void {
  lane.isApplied = false;
  done();
}

function join(lane: Lane, position: Lsn): void {
  lane.isApplied = true;
  lane.subscriber.joined(position);
}

/** That of channels and the like, or that of shapes. */
function partOf(segments: readonly Segment[], changes: boolean): Segment[] {
  return segments.flatMap((segment): Segment[] => {
    switch (segment.kind) {
      case "payloads": {
        const parts = segment.parts.filter(({ lane }) => lane.subscriber.changes === changes);
        return parts.length > 0 ? [{ kind: "payloads", parts }] : [];
      }
      case "altered":
        return segment.alteration.lane.subscriber.changes === changes ? [segment] : [];
      case "spilled":
        return changes ? [] : [segment];
    }
  });
}
