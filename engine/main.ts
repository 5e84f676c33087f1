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
import path from "node:path";
import type { Logger } from "pino";
import type { Auth } from "./authenticate.ts";
import { Calm } from "./calm.ts";
import { Claim } from "./changes/claim.ts";
import { openPool, type Pool } from "./changes/connection.ts";
import { giveWay, snapshotApplication } from "./changes/give-way.ts";
import { withoutTimeouts } from "./changes/reading.ts";
import { Replication } from "./changes/replication.ts";
import { Snapshots } from "./changes/snapshot.ts";
import { Tables } from "./changes/tables.ts";
import type { Transaction } from "./changes/transaction.ts";
import { Vitals } from "./changes/vitals.ts";
import { servedTables } from "./commands/examine-tables.ts";
import { type Config, resolveConfig, type WalcastConfig } from "./config.ts";
import { WalcastError } from "./errors.ts";
import { reasonOf } from "./explain.ts";
import { DurableLog } from "./log/durable.ts";
import { createLogger } from "./logger.ts";
import { Metrics } from "./metrics.ts";
import type { Lsn, Seed, ShapeRequest } from "./protocol.ts";
import { type EngineStats, figuresOf, healthOf, statsOf } from "./report.ts";
import { loadParser } from "./shapes/where.ts";
import type { Health } from "./sockets/http.ts";
import { Hub } from "./sockets/hub.ts";
import { Meetings } from "./sockets/meetings.ts";
import { Server } from "./sockets/server.ts";
import { Vetting } from "./sockets/vetting.ts";
import { Xids } from "./sockets/xids.ts";
import { Timers } from "./timers.ts";
import { type WatchOptions, watchQuery } from "./watch/engine-watch.ts";
import { seedOf } from "./watch/seed.ts";
import { Queries } from "./watch/queries.ts";
import type { AnyQuery, Rows, TableQuery } from "./watch/query.ts";
import { type Published, Publisher, type PublishOptions, type RevalidateOptions } from "./topics/publisher.ts";
import { ToldKeys } from "./watch/told-keys.ts";
import { Watches } from "./watch/watches.ts";

export interface Engine {
  /** Where clients connect and pages are served, e.g. "http://127.0.0.1:4437". */
  readonly url: string;
  health(): Health;
  stats(): EngineStats;
  /**
   * Publishes a message (any JSON) under a topic, in a transaction of its own or in `tx`, which then decides: docs/topics.md. Rejects
   * with `too_large` above 256 KiB, `malformed_message`, or what Postgres says.
   */
  publish(topic: string, payload: unknown, options?: PublishOptions): Promise<Published>;
  /** Tells whoever listens to one of these keys that what it stands for is to be asked for again: docs/revalidation.md. */
  revalidate(keys: readonly string[], options?: RevalidateOptions): Promise<Published>;
  /** Asks every connected client whether each of its shapes has the rows that Postgres has: see `audit` in docs/protocol.md. */
  audit(): Promise<void>;
  /**
   * The query's current result, first at once and then after every commit that changes it; of a burst the last, at least every
   * `coalesceMs`. Rows of a table, with values as docs/sse.md has them, or any SELECT: text, the `sql` tag's, a Kysely query. With the
   * server's own rights, unless `auth` says whose. `break`, or the signal, lets go of everything.
   */
  watch<R = Record<string, unknown>>(query: TableQuery | AnyQuery, options?: WatchOptions): AsyncIterable<Rows<R>>;
  /**
   * Rows of shapes, as these rights have them, at one position: to be put into a page, and given to `createClient({ seed })` there, which
   * goes on from them. Written into HTML as text (`${seed}`) it is safe. Rejects with what a subscription would be refused with.
   */
  seed<Name extends string>(shapes: Readonly<Record<Name, ShapeRequest>>, auth?: Auth): Promise<Seed<Name>>;
  /** Ends every connection with 1001, makes all that came durable, acknowledges it, and closes every socket and timer. The slot stays. */
  close(): Promise<void>;
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
const calmEveryMs = 1_000;
/** DDL that waits for a snapshot makes everybody wait who uses the table: not for long. */
const giveWayMs = 500;
const controlConnections = 4;
/** For queries that programs watch: each runs when its tables change, and the others wait. */
const queryConnections = 4;
/** None of these queries takes long; one that does has gone where nobody answers. */
const controlQueryMs = 60_000;

/** Whoever comes without a token. */
const nobody: Auth = { claims: {}, scopes: [] };

/** What is there once the slot is ours. */
export interface Stages {
  readonly tail: DurableLog;
  readonly tables: Tables;
  readonly snapshots: Snapshots;
  readonly hub: Hub;
  readonly replication: Replication;
  readonly vitals: Vitals;
  readonly watches: Watches;
  readonly queries: Queries;
}

class RunningEngine implements Engine {
  private readonly config: Config;
  private readonly log: Logger;
  private readonly control: Pool;
  private readonly snapshotPool: Pool;
  private readonly queryPool: Pool;
  private readonly publisher: Publisher;
  private readonly meetings: Meetings;
  private readonly claim: Claim;
  private readonly server: Server;
  private readonly metrics: Metrics;
  private readonly vetting: Vetting;
  private readonly timers: Timers;
  private readonly toldKeys: ToldKeys;
  private readonly stopping = new AbortController();
  private stages: Stages | undefined;
  private waitingFor: string | undefined;
  private acknowledging: NodeJS.Timeout | undefined;

  constructor(config: Config, log: Logger) {
    this.config = config;
    this.log = log;
    this.timers = new Timers(log);
    this.control = openPool(config.databaseUrl, "walcast control", controlConnections, {
      log,
      queryTimeoutMs: controlQueryMs,
    });
    this.snapshotPool = openPool(config.databaseUrl, snapshotApplication, config.limits.snapshots, {
      log,
      prepare: withoutTimeouts,
    });
    this.queryPool = openPool(config.databaseUrl, "walcast watch", queryConnections, { log });
    this.meetings = new Meetings(config.limits.presenceGraceMs);
    this.publisher = new Publisher(this.control);
    this.claim = new Claim(config.databaseUrl, config.slot);
    this.vetting = new Vetting({ log, msPerMinute: config.limits.whereMsPerMinute });
    this.toldKeys = new ToldKeys(config.limits.streamKeyBytes);
    this.metrics = new Metrics(() => figuresOf(this.stages, this.server, this.vetting));
    const metrics = (): Promise<string> => this.metrics.text();
    this.server = new Server({ config, log, health: () => this.health(), metrics });
  }

  get url(): string {
    return `http://${this.config.host}:${this.server.port}`;
  }

  /** From the first moment `/health` says what is waited for. */
  async start(): Promise<void> {
    await this.server.listen(this.config.host, this.config.port);
    await this.claim.whenFree(this.stopping.signal, (reason) => this.log.warn((this.waitingFor = reason)));
    const { tail, tables, snapshots, hub, replication, watches } = (this.stages = await this.build());
    await replication.start();
    const xids = new Xids(tail, this.control, snapshots);
    this.server.admit({
      config: this.config,
      hub,
      tables,
      vetting: this.vetting,
      xids,
      watches,
      toldKeys: this.toldKeys,
      publisher: this.publisher,
      meetings: this.meetings,
      epoch: () => replication.epoch,
      continues: (epoch, position) => replication.continues(epoch, position),
    });
    this.startTimers(this.stages);
    void this.warnOfTables();
    this.log.info({ url: this.url, slot: this.config.slot, epoch: replication.epoch }, "streaming");
  }

  /** What nobody could subscribe to, before anybody tries: row-level security that applies to our role, say, or no key. */
  private async warnOfTables(): Promise<void> {
    const findings = await servedTables(this.control, this.config).catch(() => []);
    for (const { state, what, mend } of findings) if (state === "fail") this.log.warn({ mend }, what);
  }

  async close(): Promise<void> {
    if (this.stopping.signal.aborted) return;
    this.stopping.abort();
    this.timers.stop();
    clearTimeout(this.acknowledging);
    this.server.close();
    this.meetings.close();
    await this.vetting.close();
    this.stages?.snapshots.close();
    // They wait a moment for an answer to their goodbye, and not for each other.
    const pools = Promise.all([this.snapshotPool, this.control, this.queryPool].map((pool) => pool.close()));
    if (this.stages) await this.closeStages(this.stages);
    await this.claim.release();
    await pools;
    this.metrics.close();
  }

  private async closeStages({ tail, replication }: Stages): Promise<void> {
    tail.checkpoint();
    await tail.flushed();
    await replication.stop();
    await tail.close();
  }

  private async build(): Promise<Stages> {
    const { config, control, claim, log } = this;
    const { databaseUrl, publication, slot, limits } = config;
    const tail = await this.openLog();
    const isNoted = (): boolean => this.stages!.replication.eventTriggers;
    const onReadied = (oid: number): void => snapshots.forget(oid);
    const tables = new Tables(control, { publication, slot, isNoted, onReadied, log });
    const { frameBytes, largeTransactionBytes, retainedWalBytes, keptSnapshotBytes } = limits;
    const snapshots = new Snapshots({
      pool: this.snapshotPool,
      control,
      log: tail,
      stream: { slot, publication },
      directory: path.join(config.dataDir, "spool"),
      pieceBytes: frameBytes,
      keptBytesMax: keptSnapshotBytes,
    });
    const onTableChanged = (oid: number, xid?: bigint): void => {
      tables.forget(oid);
      snapshots.forget(oid, xid);
    };
    const hub = new Hub({ tail, snapshots, log, frameBytes, onTableChanged });
    const stagingDirectory = path.join(config.dataDir, "staging", slot);
    const streamed = (): Lsn => tail.streamed;
    const vitals = new Vitals({ control, slot, publication, retainedWalBytes, streamed, log });
    const walEnd = (): Promise<Lsn> => vitals.walEnd();
    const replication = new Replication(
      { databaseUrl, publication, slot, claim, tail, walEnd, log, stagingDirectory, largeTransactionBytes },
      {
        onTransactions: (transactions) => this.onTransactions(transactions),
        onHistoryChanged: () => this.onHistoryChanged(),
        onSilence: () => [this.control, this.snapshotPool, this.queryPool].forEach((pool) => pool.breakOff()),
      },
    );
    const watches = new Watches({ config, hub, tables, vetting: this.vetting });
    const queries = new Queries({ pool: this.queryPool, hub, tables });
    return { tail, tables, snapshots, hub, replication, vitals, watches, queries };
  }

  private openLog(): Promise<DurableLog> {
    const { dataDir, slot, log } = this.config;
    return DurableLog.open({
      ...log,
      directory: path.join(dataDir, "log", slot),
      bytesMax: log.maxBytes,
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
      this.stages!.watches.restart(new WalcastError("invariant", reasonOf(error)));
      throw error;
    }
  }

  private append(transactions: readonly Transaction[]): void {
    const { tail, hub, queries } = this.stages!;
    const before = tail.end;
    const fresh = tail.append(transactions);
    if (fresh.length > 0) hub.deliver(fresh, before);
    queries.streamed(fresh);
  }

  /** Everybody greets again: who can go on from where it is will, and the others are told why not. */
  private onHistoryChanged(): void {
    const { tables, snapshots, watches, queries } = this.stages!;
    tables.forgetAll();
    snapshots.forgetAll();
    this.server.disconnectAll("resync");
    watches.restart(new WalcastError("history_changed", "the history that was streamed has come to an end"));
    queries.restart();
  }

  // ── On timers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  private startTimers({ tail, hub, vitals, replication, snapshots, tables }: Stages): void {
    const { positionEveryMs, auditEveryMs } = this.config;
    this.timers.every(measureEveryMs, async () => {
      const { snapshot, publicationOid } = await vitals.measure();
      tail.learn(snapshot);
      await replication.check(publicationOid);
    });
    this.timers.every(checkpointEveryMs, () => tail.checkpoint());
    this.timers.every(positionEveryMs, () => hub.sendPositions());
    if (auditEveryMs > 0) this.timers.every(auditEveryMs, () => hub.audits.sample());
    // What nobody notes: DDL where event triggers are not permitted, and rights that change outside of this database.
    this.timers.every(catalogPollMs, async () => {
      const versions = new Map([...snapshots.versions(), ...hub.live.versions()]);
      for (const oid of await tables.moved(versions)) hub.tableChanged(oid);
    });
    const calm = new Calm();
    this.timers.every(calmEveryMs, () => calm.tick());
    this.timers.every(giveWayMs, () => giveWay(this.control, giveWayMs, this.log));
  }

  private acknowledgeSoon(): void {
    // What is flushed while it closes is acknowledged with the stream's last word.
    if (this.stopping.signal.aborted) return;
    this.acknowledging ??= setTimeout(() => {
      this.acknowledging = undefined;
      this.stages?.replication.acknowledge();
    }, acknowledgeAfterMs);
  }

  // ── What it says about itself ───────────────────────────────────────────────────────────────────────────────────────

  health(): Health {
    return healthOf(this.stages, this.waitingFor);
  }

  stats(): EngineStats {
    return statsOf(this.stages, this.server, this.vetting);
  }

  watch<R>(query: TableQuery | AnyQuery, { signal, ...options }: WatchOptions = {}): AsyncIterable<Rows<R>> {
    const { stages, stopping } = this;
    if (!stages) throw new WalcastError("not_streaming", "watch: the engine does not stream yet");
    const signals = signal ? [signal, stopping.signal] : [stopping.signal];
    return watchQuery(stages, query, { ...options, signal: AbortSignal.any(signals) });
  }

  publish(topic: string, payload: unknown, options?: PublishOptions): Promise<Published> {
    return this.publisher.publish(topic, payload, options);
  }

  revalidate(keys: readonly string[], options?: RevalidateOptions): Promise<Published> {
    return this.publisher.revalidate(keys, options);
  }

  async seed<Name extends string>(
    shapes: Readonly<Record<Name, ShapeRequest>>,
    auth: Auth = nobody,
  ): Promise<Seed<Name>> {
    const { stages } = this;
    if (!stages) throw new WalcastError("not_streaming", "seed: the engine does not stream yet");
    return seedOf(stages.watches, () => stages.replication.epoch, shapes, auth);
  }

  async audit(): Promise<void> {
    await this.stages?.hub.audits.all();
  }
}
