/**
 * A subscription's way on a connection: how far its rows have come, and what becomes of them with what the server says. One that
 * has joined outlives its connection: the next one goes on with it where the server can.
 *
 *             ┌──── interrupted ◀─ connection lost
 *             ▼             │ (with what has come of its first rows, or with what a channel was told)
 *     asked ─described─▶ loading ─join─▶ joined ─connection lost─▶ held ─welcome that resumes─▶ resuming ─resumed─▶ joined
 *       ▲                                  │                        │                             │
 *       └──────────── resync ──────────────┴─ (without `resumes`: over, and a new lane is asked) ─┘
 *                                                            error, unsubscribe: ─▶ over, from anywhere
 */
import { errorFromJson, formatLsn, type Lsn, type ServerMessage, type Told, WalcastError } from "../engine/protocol.ts";
import type { Backlog } from "./backlog.ts";
import type { Incoming } from "./incoming.ts";
import type { Load } from "./joins.ts";
import { Pile } from "./pile.ts";
import type { Subscriber } from "./subscriber.ts";

export type Said<Kind extends ServerMessage["kind"]> = Extract<ServerMessage, { kind: Kind }>;

export class Lane {
  readonly subscriber: Subscriber;
  /** On the connection there is; another one on each. */
  id = 0;
  stage: "asked" | "loading" | "interrupted" | "joined" | "held" | "resuming" | "over" = "asked";
  /** What has come of its first rows, while another connection could go on with them. */
  part: { readonly id: string; frames: number } | undefined;
  /** Of a channel that did not end with its connection: the changes that it has been told. Those that follow are asked for. */
  told: Told | undefined;
  /** What the server called these rows, as of the last boundary. */
  identity: string | undefined;
  /** On the replica, from when `described` has been worked off until its rows stand in their table. */
  load: Load | undefined;
  /** Its join has been; before that nothing of it may be applied. */
  isApplied = false;
  /** Payloads of catch-up frames. */
  readonly catchUp = new Pile();
  rows = 0;
  bytes = 0;
  private readonly incoming: Incoming;
  private readonly backlog: Backlog;

  constructor(subscriber: Subscriber, incoming: Incoming, backlog: Backlog) {
    this.subscriber = subscriber;
    this.incoming = incoming;
    this.backlog = backlog;
  }

  /** Joined, and its rows stand in their table. */
  get isShown(): boolean {
    return this.stage === "joined" && this.isApplied && !this.load;
  }

  get wasComplete(): boolean {
    return !this.subscriber.changes && ["joined", "held", "resuming"].includes(this.stage);
  }

  // ── What the server says ───────────────────────────────────────────────────────────────────────────────────────────

  described({ table, estimatedRows, load, continues }: Said<"described">): void {
    this.expect("asked", "a description");
    this.stage = "loading";
    if (continues) {
      // What came of its rows before stands, and the rest follows.
      if (this.part && this.part.id === load && this.identity === table.identity) return;
      this.part = undefined;
      throw unexpected("the rest of its rows", this.stage);
    }
    if (this.part) this.discard();
    this.part = load === undefined ? undefined : { id: load, frames: 0 };
    this.identity = table.identity;
    this.backlog.push({ kind: "described", lane: this, table, estimatedRows });
  }

  listening({ identity, cause }: Said<"listening">): void {
    this.expect("asked", "messages");
    this.stage = "loading";
    this.identity = identity;
    this.subscriber.listening?.(cause && errorFromJson(cause));
  }

  resumed(): void {
    this.expect("resuming", "a resumption");
    this.stage = "joined";
  }

  altered({ table, added }: Said<"altered">): void {
    this.expect("joined", "an alteration");
    this.incoming.alter({ lane: this, table, added });
  }

  audit({ rows, hash }: Said<"audit">): void {
    if (this.stage === "joined") this.backlog.push({ kind: "audit", lane: this, rows, hash });
  }

  /** Its rows come again. */
  resync({ purge }: Said<"resync">): void {
    this.stage = "asked";
    if (purge) return this.discard();
    // Stale from now on; said once more in its turn, as a join that waits to be applied makes it ready before.
    this.subscriber.loading();
    this.discard(() => {
      if (this.stage !== "over") this.subscriber.loading();
    });
  }

  private expect(stage: Lane["stage"], what: string): void {
    if (this.stage !== stage) throw unexpected(what, this.stage);
  }

  // ── From one connection to the next ────────────────────────────────────────────────────────────────────────────────

  /** An earlier process left its rows, at the position that the next connection goes on from. */
  hold(identity: string): void {
    this.stage = "held";
    this.identity = identity;
    this.isApplied = true;
  }

  /** With its connection. */
  lost(): void {
    if (this.stage === "joined" || this.stage === "resuming") this.stage = "held";
    else if (this.part || this.told) {
      // Changes between those that were told and the join come again.
      this.incoming.forget(this);
      this.stage = "interrupted";
    } else if (this.stage !== "held") this.end();
  }

  /** The next connection goes on from elsewhere: what a channel was told until here stays told, and what follows is asked for. */
  takeAlong(epoch: string, position: Lsn): void {
    const { stage, identity, subscriber } = this;
    this.end();
    // Messages know by themselves.
    if (stage !== "held" || subscriber.messages) return;
    this.told = { identity: identity!, epoch, position: formatLsn(position) };
    this.stage = "interrupted";
  }

  end(): void {
    if (this.stage === "over") return;
    this.stage = "over";
    this.discard();
  }

  private discard(done: () => void = () => {}): void {
    this.part = this.told = undefined;
    this.incoming.forget(this);
    this.backlog.push({ kind: "discard", lane: this, done });
  }
}

export function unexpected(what: string, stage: string): WalcastError {
  return new WalcastError(
    "malformed_message",
    `read a message: did not expect ${what} for a subscription that is ${stage}`,
  );
}
