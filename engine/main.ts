/**
 * The engine: builds the stages in the order in which rows flow, and stops them in reverse. Read this first.
 *
 *     Postgres ─▶ changes ─▶ log ─▶ shapes ─▶ sockets ─▶ clients
 *
 * A read from the replication socket becomes Transactions (changes/), which are appended to the log (log/), routed to the
 * shapes they touch (shapes/) and sent to whoever subscribed (sockets/). A new subscription takes a snapshot and is
 * brought up to the stream from the log, and so is a client that was away. What the log has on disk is acknowledged to
 * Postgres.
 */
import { setTimeout as delay } from "node:timers/promises";
import path from "node:path";
import pg from "pg";
import type { Logger } from "pino";
import { Claim } from "./changes/claim.ts";
import { queryConfig } from "./changes/connection.ts";
import { giveWay, snapshotApplication } from "./changes/give-way.ts";
import { Replication } from "./changes/replication.ts";
import { Snapshots } from "./changes/snapshot.ts";
import { Tables } from "./changes/tables.ts";
import type { Transaction } from "./changes/transaction.ts";
import { Vitals } from "./changes/vitals.ts";
import { type Config, resolveConfig, type WalcastConfig } from "./config.ts";
import { mayPass, reasonOf } from "./explain.ts";
import { DurableLog } from "./log/durable.ts";
import { createLogger } from "./logger.ts";
import { type Figures, Metrics } from "./metrics.ts";
import { formatLsn, type Lsn, zeroLsn } from "./protocol.ts";
import { loadParser } from "./shapes/where.ts";
import type { Health } from "./sockets/http.ts";
import { Hub } from "./sockets/hub.ts";
import { Server } from "./sockets/server.ts";
import { Xids } from "./sockets/xids.ts";

export interface Engine {
  /** Where clients connect and pages are served, e.g. "http://127.0.0.1:4437". */
  readonly url: string;
  health(): Health;
  stats(): EngineStats;
  /** Asks every connected client whether each of its shapes has the rows that Postgres has: see `audit` in docs/protocol.md. */
  audit(): Promise<void>;
  /** Ends every connection with 1001, makes all that came durable, acknowledges it, and closes every socket and timer. The slot stays. */
  close(): Promise<void>;
}

export interface EngineStats {
  readonly connections: number;
  /** Distinct shapes that are live. */
  readonly shapes: number;
  readonly snapshotsTotal: number;
  readonly resyncsTotal: number;
  /** What the log holds, in bytes. */
  readonly logBytes: number;
}

/** Starts an engine. Resolves once it streams and listens; rejects with a WalcastError that names the mend. */
export async function createEngine(config: WalcastConfig, logger?: Logger): Promise<Engine> {
  const resolved = resolveConfig(config);
  await loadParser();
  const engine = new RunningEngine(resolved, logger ?? createLogger(resolved.logLevel));
  try {
    await engine.start();
  } catch (error) {
    await engine.close();
    throw error;
  }
  return engine;
}

/** How often Postgres is asked what its snapshots see and how much WAL it keeps. */
const measureEveryMs = 1_000;
/** How often positions are made durable that no commit is at: a quiet database has to be acknowledged too. */
const checkpointEveryMs = 1_000;
/** After a flush; the next one within this time goes along. */
const acknowledgeAfterMs = 100;
const catalogPollMs = 5_000;
/** DDL that waits for a snapshot makes everybody wait who uses the table: not for long. */
const giveWayEveryMs = 500;
const giveWayAfterMs = 1_000;
const claimEveryMs = 500;
const controlConnections = 4;

/** What is there once the slot is ours. */
interface Stages {
  readonly tail: DurableLog;
  readonly tables: Tables;
  readonly snapshots: Snapshots;
  readonly hub: Hub;
  readonly replication: Replication;
  readonly vitals: Vitals;
}

class RunningEngine implements Engine {
  private readonly config: Config;
  private readonly log: Logger;
  private readonly control: pg.Pool;
  private readonly snapshotPool: pg.Pool;
  private readonly claim: Claim;
  private readonly server: Server;
  private readonly metrics: Metrics;
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly stopping = new AbortController();
  private stages: Stages | undefined;
  private waitingFor: string | undefined;
  private acknowledging: NodeJS.Timeout | undefined;

  constructor(config: Config, log: Logger) {
    this.config = config;
    this.log = log;
    this.control = this.pool("walcast control", controlConnections);
    this.snapshotPool = this.pool(snapshotApplication, config.limits.snapshots);
    this.claim = new Claim(config.databaseUrl, config.slot);
    this.metrics = new Metrics(() => this.figures());
    this.server = new Server({
      config,
      log,
      health: () => this.health(),
      metrics: () => this.metrics.text(),
    });
  }

  get url(): string {
    return `http://${this.config.host}:${this.server.port}`;
  }

  /** From the first moment `/health` says what is waited for. */
  async start(): Promise<void> {
    await this.server.listen(this.config.host, this.config.port);
    await this.claimSlot();
    const { tail, tables, snapshots, hub, replication } = (this.stages = await this.build());
    await replication.start();
    const xids = new Xids(tail, this.control, snapshots);
    this.server.admit({
      config: this.config,
      hub,
      tables,
      xids,
      epoch: () => replication.epoch,
      continues: (epoch, position) => replication.continues(epoch, position),
    });
    this.every(measureEveryMs, () => this.measure());
    this.every(checkpointEveryMs, () => tail.checkpoint());
    this.every(this.config.positionEveryMs, () => hub.sendPositions());
    if (this.config.auditEveryMs > 0) this.every(this.config.auditEveryMs, () => hub.audits.sample());
    this.every(catalogPollMs, () => this.pollCatalog());
    this.every(giveWayEveryMs, () => giveWay(this.control, giveWayAfterMs, this.log));
    this.log.info({ url: this.url, slot: this.config.slot, epoch: replication.epoch }, "streaming");
  }

  async close(): Promise<void> {
    if (this.stopping.signal.aborted) return;
    this.stopping.abort();
    for (const timer of this.timers) clearInterval(timer);
    clearTimeout(this.acknowledging);
    this.server.close();
    if (this.stages) await this.closeStages(this.stages);
    await this.claim.release();
    await Promise.all([this.snapshotPool.end(), this.control.end()]);
    this.metrics.close();
  }

  private async closeStages({ tail, snapshots, replication }: Stages): Promise<void> {
    snapshots.close();
    tail.checkpoint();
    await tail.flushed();
    await replication.stop();
    await tail.close();
  }

  /** Another engine may have the slot, as in a rolling deploy: it will let go. */
  private async claimSlot(): Promise<void> {
    for (;;) {
      try {
        return await this.claim.hold();
      } catch (error) {
        if (!mayPass(error)) throw error;
        this.wait(reasonOf(error));
      }
      await delay(claimEveryMs, undefined, { signal: this.stopping.signal });
    }
  }

  private wait(reason: string): void {
    if (reason !== this.waitingFor) this.log.warn(reason);
    this.waitingFor = reason;
  }

  private async build(): Promise<Stages> {
    const { config, control, claim, log } = this;
    const { databaseUrl, publication, slot, limits } = config;
    const tail = await this.openLog();
    const tables = new Tables(control, { publication, slot, log });
    const snapshots = new Snapshots(this.snapshotPool, control, tail, path.join(config.dataDir, "spool"));
    const onTableChanged = (oid: number): void => tables.forget(oid);
    const hub = new Hub({ tail, snapshots, log, frameBytes: limits.frameBytes, onTableChanged });
    const replication = new Replication(
      {
        databaseUrl,
        publication,
        slot,
        claim,
        control,
        tail,
        log,
        stagingDirectory: path.join(config.dataDir, "staging", slot),
        largeTransactionBytes: limits.largeTransactionBytes,
      },
      {
        onTransactions: (transactions) => this.onTransactions(transactions),
        onHistoryChanged: () => this.onHistoryChanged(),
      },
    );
    const streamed = (): Lsn => replication.streamed;
    const { retainedWalBytes } = limits;
    const vitals = new Vitals({ control, slot, publication, retainedWalBytes, streamed, log });
    return { tail, tables, snapshots, hub, replication, vitals };
  }

  private openLog(): Promise<DurableLog> {
    const { dataDir, slot, log } = this.config;
    return DurableLog.open({
      directory: path.join(dataDir, "log", slot),
      retentionMs: log.retentionMs,
      bytesMax: log.maxBytes,
      segmentBytes: log.segmentBytes,
      tailBytes: log.tailBytes,
      onFlushed: () => this.acknowledgeSoon(),
      onFailed: (error) => this.log.error({ err: error }, reasonOf(error)),
    });
  }

  // ── From the replication socket to the clients ──────────────────────────────────────────────────────────────────────

  /** What must hold and does not ends the stream and every connection: all go on from what the log has. */
  private onTransactions(transactions: readonly Transaction[]): void {
    try {
      this.append(transactions);
    } catch (error) {
      this.log.error({ err: error }, "changes could not be passed on: every connection starts again from the log");
      this.server.disconnectAll("invariant");
      throw error;
    }
  }

  private append(transactions: readonly Transaction[]): void {
    const { tail, hub } = this.stages!;
    const before = tail.end;
    const fresh = tail.append(transactions);
    if (fresh.length > 0) hub.deliver(fresh, before);
  }

  /** Everybody greets again: who can go on from where it is will, and the others are told why not. */
  private onHistoryChanged(): void {
    this.stages!.tables.forgetAll();
    this.server.disconnectAll("resync");
  }

  // ── On timers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  private async measure(): Promise<void> {
    const { vitals, tail, replication } = this.stages!;
    const { snapshot, publicationOid } = await vitals.measure();
    tail.learn(snapshot);
    await replication.check(publicationOid);
  }

  private acknowledgeSoon(): void {
    this.acknowledging ??= setTimeout(() => {
      this.acknowledging = undefined;
      this.stages?.replication.acknowledge();
    }, acknowledgeAfterMs);
  }

  /** Where event triggers are not permitted. */
  /** What nobody notes: DDL where event triggers are not permitted, and rights that change outside of this database. */
  private async pollCatalog(): Promise<void> {
    const { hub, tables, replication } = this.stages!;
    for (const oid of await tables.moved(hub.live.versions(), replication.eventTriggers)) hub.tableChanged(oid);
  }

  private every(ms: number, run: () => void | Promise<void>): void {
    let running = false;
    const tick = async (): Promise<void> => {
      if (running) return;
      running = true;
      try {
        await run();
      } catch (error) {
        if (!this.stopping.signal.aborted) this.log.warn({ err: error }, "a periodic task failed; it is tried again");
      } finally {
        running = false;
      }
    };
    this.timers.push(setInterval(() => void tick(), ms));
  }

  private pool(name: string, max: number): pg.Pool {
    const pool = new pg.Pool({ ...queryConfig(this.config.databaseUrl, name), max });
    // A connection that breaks is replaced at the next use; queries under way reject by themselves. The pool listens to
    // its idle connections only, and an error that nobody listens to would end the process.
    pool.on("connect", (client) => client.on("error", (error) => this.log.debug({ err: error }, "a connection broke")));
    pool.on("error", () => {});
    return pool;
  }

  // ── What it says about itself ───────────────────────────────────────────────────────────────────────────────────────

  health(): Health {
    const { replication, tail, vitals } = this.stages ?? {};
    const reason = replication?.reason ?? tail?.failure?.message ?? this.waitingFor;
    return {
      status: replication?.status ?? "starting",
      position: formatLsn(tail?.end ?? zeroLsn),
      lagBytes: vitals?.lagBytes ?? 0,
      lagSeconds: vitals?.lagSeconds ?? 0,
      ...(vitals?.slot && { slot: vitals.slot }),
      ...(vitals?.warning !== undefined && { warning: vitals.warning }),
      ...(reason !== undefined && { reason }),
    };
  }

  async audit(): Promise<void> {
    await this.stages?.hub.audits.all();
  }

  stats(): EngineStats {
    const { shapes, counts, resyncs, log } = this.figures();
    return {
      connections: this.server.connections,
      shapes,
      snapshotsTotal: counts.snapshots,
      resyncsTotal: resyncs.values().reduce((sum, count) => sum + count, 0),
      logBytes: log?.bytes ?? 0,
    };
  }

  private figures(): Figures {
    const { tail, replication, hub, vitals, snapshots } = this.stages ?? {};
    return {
      live: replication?.status === "live",
      lagBytes: vitals?.lagBytes ?? 0,
      lagSeconds: vitals?.lagSeconds ?? 0,
      slot: vitals?.slot,
      log: tail,
      shapes: hub?.live.size ?? 0,
      clients: this.server.states,
      resyncs: hub?.resyncs ?? new Map(),
      returned: hub?.returned ?? new Map(),
      counts: {
        snapshots: snapshots?.total ?? 0,
        replicationBreaks: replication?.breaks ?? 0,
        sendsDropped: hub?.counters.sendsDropped ?? 0,
        clientsFallenBehind: hub?.counters.fellBehind ?? 0,
        catchUpPasses: hub?.catchUp.passesTotal ?? 0,
        catchUpBytes: tail?.bytesRead ?? 0,
      },
    };
  }
}
