/**
 * Keeps the database's changes coming: one Stream after another, for as long as the engine lives. Before each it holds the
 * claim on the slot, brings the database to where it can be streamed, and compares the history that the server has with
 * the one in the log. Whatever is wrong is said in one sentence with its mend (`reason`), and tried again with backoff.
 *
 *     starting ──first stream──▶ live ◀──────▶ reconnecting
 */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import type { Logger } from "pino";
import { type ErrorJson, WalcastError } from "../errors.ts";
import { mayPass, reasonOf } from "../explain.ts";
import { must } from "../invariants.ts";
import type { Log } from "../log/log.ts";
import { formatLsn, type Lsn, zeroLsn } from "../protocol.ts";
import type { Claim } from "./claim.ts";
import { queryConfig, withConnection } from "./connection.ts";
import { formatEpoch, leadsFrom, type Lineage, parseEpoch } from "./epoch.ts";
import { type History, readHistory } from "./history.ts";
import { Repeated } from "./repeated.ts";
import { prepareDatabase } from "./setup.ts";
import { forgetReadyTables, renewSlot } from "./slot.ts";
import { isDecodingFailure, Stream } from "./stream.ts";
import type { Transaction } from "./transaction.ts";
import { formatHistory, judge, type Kept, type Served, type Verdict } from "./verdict.ts";

/** The log, as far as it knows which history it holds. */
export interface HistoryLog extends Log, Kept {
  /** Everything before it has come by. */
  readonly streamed: Lsn;
  /** Appended, and not on disk yet. */
  readonly pendingBytes: number;
  startAt(position: Lsn, history: string): Promise<void>;
  setHistory(history: string, until: Lsn): Promise<void>;
}

export interface ReplicationOptions {
  readonly databaseUrl: string;
  readonly slot: string;
  readonly publication: string;
  readonly claim: Claim;
  readonly tail: HistoryLog;
  /** Where Postgres' WAL ends now. */
  readonly walEnd: () => Promise<Lsn>;
  readonly log: Logger;
  /** For transactions that are too large for memory. */
  readonly stagingDirectory: string;
  readonly largeTransactionBytes: number;
}

export interface ReplicationEvents {
  /** What one read brought, in commit order. */
  readonly onTransactions: (transactions: readonly Transaction[]) => void;
  /** The epoch is another, or the log starts later than it did: whoever is connected has to greet again. */
  readonly onHistoryChanged: () => void;
  /** As StreamEvents have it. */
  readonly onSilence: () => void;
}

export type ReplicationStatus = "starting" | "live" | "reconnecting";

const reconnectMs = 100;
const reconnectMsMax = 10_000;
/** Whoever waits for another engine to end is there soon after. */
const waitingMsMax = 1_000;
/** How long the making of a slot waits for open transactions at first; twice as long each time. */
const slotPatienceMs = 2_000;
const slotPatienceMsMax = 600_000;

export class Replication {
  status: ReplicationStatus = "starting";
  /** Why it is not live, with the mend. */
  reason: string | undefined;
  /** Without event triggers, schema changes have to be looked for in the catalog. */
  eventTriggers = true;
  /** Connections that broke off. */
  breaks = 0;
  private readonly options: ReplicationOptions;
  private readonly events: ReplicationEvents;
  private readonly stopping = new AbortController();
  private lineage: Lineage | undefined;
  private publicationOid = 0;
  private stream: Stream | undefined;
  private running: Promise<void> = Promise.resolve();
  /** What Postgres was told that it may forget: an account beside the log's own, which has to agree with it. */
  acknowledged = zeroLsn;
  private renew = false;
  private slotPatienceMs = slotPatienceMs;
  /** The last connection ended over a transaction that ran, so the next one asks for none. */
  private committedOnly = false;
  private repeated: Repeated | undefined;
  /** What Postgres sent is not what the log has. */
  private contradicted = false;

  constructor(options: ReplicationOptions, events: ReplicationEvents) {
    this.options = options;
    this.events = events;
  }

  /** Resolves when the first stream runs. Rejects where none can: later failures, and those that pass, are tried again. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.running = this.keepStreaming(resolve, reject);
    });
  }

  /** Tells Postgres once more what is safe, and ends. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.stream?.stop().catch(() => {});
    await this.running;
  }

  /** What clients are told, and come back with. */
  get epoch(): string {
    return this.lineage ? formatEpoch(this.lineage.epoch) : "";
  }

  /** Why a client that has reached `position` in `epoch` cannot go on from there; undefined if it can. */
  async continues(epoch: string, position: Lsn): Promise<ErrorJson | undefined> {
    const { tail } = this.options;
    const theirs = parseEpoch(epoch);
    if (!theirs || !this.lineage || !leadsFrom(this.lineage, theirs, position))
      return {
        code: "history_changed",
        message: `resume at ${formatLsn(position)} of ${epoch.slice(0, 80)}: that is not in the history of ${this.epoch}`,
      };
    if (position < tail.start)
      return {
        code: "position_too_old",
        message: `resume at ${formatLsn(position)}: the log begins at ${formatLsn(tail.start)}`,
      };
    return position > tail.streamed ? this.isReached(position) : undefined;
  }

  /**
   * Who is ahead of us has it from another engine, or from us before a crash, and so from the WAL as it is. Where that ends
   * before, an older state of Postgres was put back, and our log with it or lost: nobody else could tell.
   */
  private async isReached(position: Lsn): Promise<ErrorJson | undefined> {
    const walEnd = await this.options.walEnd().catch(() => undefined);
    if (walEnd === undefined || position <= walEnd) return undefined;
    return {
      code: "history_changed",
      message: `resume at ${formatLsn(position)}: Postgres' write-ahead log ends at ${formatLsn(walEnd)}, so that was another history`,
    };
  }

  /** Lets Postgres know how far it may forget. */
  acknowledge(): void {
    this.stream?.sendStatus(false);
  }

  /** Gives the connection up, and makes another one. */
  async breakOff(reason: string): Promise<void> {
    if (this.status !== "live") return;
    this.note(new WalcastError("not_streaming", reason));
    await this.stream?.stop().catch(() => {});
  }

  /**
   * What nobody would tell a running stream. A publication that was dropped streams nothing, without a word; and the
   * session that holds the claim may be gone, when somebody ended it.
   */
  async check(publicationOid: number): Promise<void> {
    if (this.status !== "live") return;
    if (publicationOid !== this.publicationOid) return this.breakOff("the publication was dropped: making it anew");
    await this.options.claim.hold(this.stopping.signal).catch((error: unknown) => this.breakOff(reasonOf(error)));
  }

  // ── One connection after another ────────────────────────────────────────────────────────────────────────────────────

  private async keepStreaming(onFirst: () => void, onFailedStart: (error: unknown) => void): Promise<void> {
    for (let attempt = 0; !this.stopping.signal.aborted; attempt++) {
      let failure: unknown;
      try {
        await this.streamOnce(() => {
          attempt = 0;
          this.isLive();
          onFirst();
        });
      } catch (error) {
        if (this.status === "starting" && !mayPass(error)) return onFailedStart(error);
        this.note(error);
        failure = error;
      }
      await this.backOff(attempt, mayPass(failure) ? waitingMsMax : reconnectMsMax);
    }
  }

  private isLive(): void {
    if (this.status !== "live") this.options.log.info({ epoch: this.epoch }, "replication streams");
    this.status = "live";
    this.reason = undefined;
  }

  private note(error: unknown): void {
    if (this.stopping.signal.aborted) return;
    if (this.status === "live") this.noteBreak(error);
    if (this.status !== "starting") this.status = "reconnecting";
    const reason = reasonOf(error);
    // The same again and again is said once.
    if (reason !== this.reason) this.options.log.warn({ err: error }, `replication: ${reason}`);
    this.reason = reason;
    if (isPublicationMissing(error)) this.renew = true;
  }

  private noteBreak(error: unknown): void {
    this.breaks++;
    this.committedOnly = isDecodingFailure(error);
  }

  private async backOff(attempt: number, mostMs: number): Promise<void> {
    const { signal } = this.stopping;
    if (!signal.aborted)
      await delay(Math.min(reconnectMs * 2 ** attempt, mostMs) * Math.random(), undefined, { signal }).catch(() => {});
  }

  private async streamOnce(onStart: () => void): Promise<void> {
    const { claim, databaseUrl, slot, publication, log, stagingDirectory, largeTransactionBytes } = this.options;
    const { signal } = this.stopping;
    await claim.hold(signal);
    const { eventTriggers, messagePrefix } = await prepareDatabase(
      { databaseUrl, slot, publication, slotPatienceMs: this.nextPatience(), log },
      signal,
    );
    this.eventTriggers = eventTriggers;
    const history = await this.settle();
    this.slotPatienceMs = slotPatienceMs;
    const { recentXid, walSenderTimeoutMs } = history;
    this.contradicted = false;
    const confirmed = confirmedOf(history);
    this.repeated = await Repeated.after(this.options.tail, confirmed);
    if (confirmed > this.acknowledged) this.acknowledged = confirmed;
    this.stream = new Stream(
      {
        ...{ databaseUrl, slot, publication, walSenderTimeoutMs, recentXid, stagingDirectory, largeTransactionBytes },
        committedOnly: this.committedOnly,
        messagePrefix,
      },
      {
        onTransactions: (transactions) => this.onTransactions(transactions),
        onQuiet: (walEnd) => this.onQuiet(walEnd),
        onSilence: () => this.events.onSilence(),
        acknowledged: () => this.nextAcknowledged(),
        pendingBytes: () => this.options.tail.pendingBytes,
      },
    );
    if (!signal.aborted) await this.stream.run(onStart);
  }

  /** Where long transactions follow one another, only patience gets a slot made. */
  private nextPatience(): number {
    const patience = this.slotPatienceMs;
    this.slotPatienceMs = Math.min(patience * 2, slotPatienceMsMax);
    return patience;
  }

  private onTransactions(transactions: readonly Transaction[]): void {
    this.requireSame(this.repeated!.areMet(transactions));
    this.events.onTransactions(transactions);
  }

  private requireSame(same: boolean): void {
    if (same) return;
    this.contradicted = true;
    const { difference = "what the log has did not come" } = this.repeated!;
    throw new WalcastError(
      "not_streaming",
      `replication: Postgres sends other transactions than the log has: ${difference}`,
    );
  }

  private onQuiet(walEnd: Lsn): void {
    this.requireSame(this.repeated!.mayBeQuiet(walEnd));
    this.options.tail.quiet(walEnd);
  }

  /** Asked for on the stream's timers, so a breach gives the connection up rather than the process. */
  private nextAcknowledged(): Lsn {
    if (!this.repeated!.isDone) return this.repeated!.confirmed;
    const { recorded } = this.options.tail;
    try {
      must(this.acknowledged <= recorded, "acknowledged_durable", "what Postgres was told to forget is durable here");
      this.acknowledged = recorded;
    } catch (error) {
      void this.breakOff(reasonOf(error));
    }
    return this.acknowledged;
  }

  // ── Is this the history that the log continues? ─────────────────────────────────────────────────────────────────────

  private async settle(): Promise<History> {
    const history = await this.freeHistory();
    const served = { ...servedBy(history), contradicts: this.contradicted };
    const verdict = judge(this.options.tail, served, () => randomBytes(4).toString("hex"));
    if (this.renew || (verdict.kind === "start" && verdict.renew)) return this.startWithNewSlot(verdict);
    await this.follow(verdict, history);
    return history;
  }

  /** The slot is ours by the claim: a walsender of ours that still has it is a connection that nobody reads any more. */
  private async freeHistory(): Promise<History> {
    const history = await this.readHistory();
    const { slot } = history;
    if (!slot || slot.activePid === null) return history;
    if (slot.activeName === streamName)
      await this.ask((client) => client.query("select pg_terminate_backend($1, $2)", [slot.activePid, evictMs]));
    const again = await this.readHistory();
    if (again.slot && again.slot.activePid !== null) throw slotInUse(this.options.slot, again.slot);
    return again;
  }

  private async startWithNewSlot(verdict: Verdict): Promise<History> {
    const { slot, log } = this.options;
    await this.ask((client) => renewSlot(client, slot, this.nextPatience(), log));
    this.renew = false;
    const history = await this.readHistory();
    const why = verdict.kind === "start" ? verdict.why : "the publication was missing while changes were committed";
    await this.follow({ kind: "start", epoch: verdict.epoch, why, renew: false }, history);
    return history;
  }

  private async follow(verdict: Verdict, history: History): Promise<void> {
    const { tail, slot, log } = this.options;
    const before = this.epoch;
    const { epoch } = verdict;
    const text = formatHistory(epoch, history.publicationOid);
    this.lineage = { epoch, ancestors: history.ancestors };
    this.publicationOid = history.publicationOid;
    if (verdict.kind === "continue") return;
    this.acknowledged = zeroLsn;
    if (verdict.kind === "follow") {
      log.warn({ was: before, is: this.epoch }, "a failover lost nothing that the log has: it goes on");
      await tail.setHistory(text, verdict.until);
    } else {
      if (verdict.why !== undefined)
        log.error({ slot, epoch: this.epoch }, `${verdict.why}; clients load their rows again`);
      await this.ask((client) => forgetReadyTables(client, slot));
      await tail.startAt(confirmedOf(history), text);
    }
    this.events.onHistoryChanged();
  }

  private readHistory(): Promise<History> {
    return readHistory(this.options, this.stopping.signal);
  }

  /** On a connection of its own: those that there are may be as dead as the stream's was. */
  private ask<T>(question: (client: pg.Client) => Promise<T>): Promise<T> {
    return withConnection(queryConfig(this.options.databaseUrl, "walcast setup"), this.stopping.signal, question);
  }
}

/** What the stream's connection calls itself. */
const streamName = "walcast";
const evictMs = 5_000;

function servedBy(history: History): Served {
  return { ...history, confirmed: confirmedOf(history) };
}

function confirmedOf({ slot }: History): Lsn {
  if (slot?.confirmed !== undefined) return slot.confirmed;
  throw new WalcastError("not_streaming", "the replication slot went away while it was being looked at: trying again");
}

function slotInUse(name: string, { activePid, activeName }: NonNullable<History["slot"]>): WalcastError {
  return new WalcastError(
    "not_streaming",
    `the slot ${name} is in use by Postgres process ${activePid} (${activeName || "no name"}): waiting for it to end`,
    { hint: "stop it, or give this engine a slot of its own" },
  );
}

function isPublicationMissing(error: unknown): boolean {
  const { code, message } = error as pg.DatabaseError;
  return code === "42704" && /publication/.test(message);
}
