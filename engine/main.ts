/**
 * The engine: builds the stages in the order in which rows flow, and stops them in reverse. Read this first.
 *
 *     Postgres ─▶ changes ─▶ log ─▶ shapes ─▶ sockets ─▶ clients
 *
 * A read from the replication socket becomes Transactions (changes/), which are appended to the log (log/), routed to the
 * shapes they touch (shapes/) and sent to whoever subscribed (sockets/). A new subscription takes a snapshot and is
 * brought up to the stream from the log. What the log has and a later snapshot has seen is acknowledged to Postgres.
 */
import { setTimeout as delay } from "node:timers/promises";
import path from "node:path";
import pg from "pg";
import type { Logger } from "pino";
import { queryConfig } from "./changes/connection.ts";
import { type History, readHistory } from "./changes/history.ts";
import { parsePgSnapshot } from "./changes/pg-snapshot.ts";
import { type Prepared, prepareDatabase } from "./changes/setup.ts";
import { Snapshots } from "./changes/snapshot.ts";
import { Stream } from "./changes/stream.ts";
import { Tables } from "./changes/tables.ts";
import type { Transaction } from "./changes/transaction.ts";
import { type Config, resolveConfig, type WalcastConfig } from "./config.ts";
import { MemoryLog } from "./log/log.ts";
import { createLogger } from "./logger.ts";
import { formatLsn, parseLsn, zeroLsn } from "./protocol.ts";
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
  /** Ends every connection with 1001, acknowledges what is safe, and closes every socket and timer. The slot stays. */
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

/** Why a shape that was shown may be loaded anew. */
const resyncCauses = ["schema_changed", "snapshot_failed"] as const;

const reconnectMs = 100;
const reconnectMsMax = 10_000;
/** How often Postgres is asked what its snapshots see, which is what acknowledgements wait for. */
const learnEveryMs = 1_000;
const catalogPollMs = 5_000;
const controlConnections = 4;

class RunningEngine implements Engine {
  private readonly config: Config;
  private readonly log: Logger;
  private readonly control: pg.Pool;
  private readonly snapshotPool: pg.Pool;
  private readonly tail: MemoryLog;
  private readonly tables: Tables;
  private readonly snapshots: Snapshots;
  private readonly hub: Hub;
  private readonly server: Server;
  private readonly timers: NodeJS.Timeout[] = [];
  private stream: Stream | undefined;
  private streaming: Promise<void> = Promise.resolve();
  private status: Health["status"] = "starting";
  private reason: string | undefined;
  private lagBytes = 0;
  private slotRetainedBytes = 0;
  private epoch = "";
  private readonly stopping = new AbortController();
  private closing = false;

  constructor(config: Config, log: Logger) {
    this.config = config;
    this.log = log;
    this.control = this.pool("walcast control", controlConnections);
    this.snapshotPool = this.pool("walcast snapshot", config.limits.snapshots);
    this.tail = new MemoryLog(config.log.tailBytes);
    this.tables = new Tables(this.control, { publication: config.publication, slot: config.slot, log });
    this.snapshots = new Snapshots(this.snapshotPool, this.control, this.tail, path.join(config.dataDir, "spool"));
    this.hub = new Hub({
      tail: this.tail,
      snapshots: this.snapshots,
      log,
      frameBytes: config.limits.frameBytes,
      onTableChanged: (oid) => this.tables.forget(oid),
    });
    const xids = new Xids(this.tail, this.control, this.snapshots);
    this.server = new Server({
      config,
      hub: this.hub,
      tables: this.tables,
      xids,
      epoch: () => this.epoch,
      health: () => this.health(),
      metrics: () => this.metrics(),
    });
  }

  get url(): string {
    return `http://${this.config.host}:${this.server.port}`;
  }

  async start(): Promise<void> {
    const { eventTriggers } = await this.prepare();
    if (!eventTriggers) this.every(catalogPollMs, () => this.pollCatalog());
    await new Promise<void>((resolve, reject) => {
      this.streaming = this.keepStreaming(resolve, reject);
    });
    await this.server.listen(this.config.host, this.config.port);
    this.every(learnEveryMs, () => this.learn());
    this.every(this.config.positionEveryMs, () => this.hub.sendPositions());
    this.log.info({ url: this.url, slot: this.config.slot, epoch: this.epoch }, "streaming");
  }

  async close(): Promise<void> {
    if (this.closing) return;
    this.closing = true;
    for (const timer of this.timers) clearInterval(timer);
    this.stopping.abort();
    this.server.close();
    this.snapshots.close();
    await this.learn().catch(() => {});
    await this.stream?.stop().catch(() => {});
    await this.streaming;
    await Promise.all([this.snapshotPool.end(), this.control.end()]);
  }

  health(): Health {
    return {
      status: this.status,
      position: formatLsn(this.tail.end),
      lagBytes: this.lagBytes,
      ...(this.reason === undefined ? {} : { reason: this.reason }),
    };
  }

  stats(): EngineStats {
    return {
      connections: this.server.connections,
      shapes: this.hub.live.size,
      snapshotsTotal: this.snapshots.total,
      resyncsTotal: this.hub.resyncs.values().reduce((sum, count) => sum + count, 0),
      logBytes: this.tail.bytes,
    };
  }

  // ── From the replication socket to the clients ──────────────────────────────────────────────────────────────────────

  private onTransactions(transactions: readonly Transaction[]): void {
    const fresh = this.tail.append(transactions);
    if (fresh.length > 0) this.hub.deliver(fresh);
  }

  /** One connection after another. The first failure before anything streamed is the caller's; later ones are retried. */
  private async keepStreaming(onFirst: () => void, onFailedStart: (error: unknown) => void): Promise<void> {
    let started = false;
    for (let attempt = 0; !this.closing; attempt++) {
      try {
        await this.streamOnce(() => {
          this.status = "live";
          this.reason = undefined;
          attempt = 0;
          started = true;
          onFirst();
        });
      } catch (error) {
        if (!started && !mayPass(error)) return onFailedStart(error);
        this.note(error);
      }
      if (!this.closing)
        await delay(Math.min(reconnectMs * 2 ** attempt, reconnectMsMax) * Math.random(), undefined, {
          signal: this.stopping.signal,
        }).catch(() => {});
    }
  }

  private async streamOnce(onStart: () => void): Promise<void> {
    const { recentXid, walSenderTimeoutMs } = await this.verifyHistory();
    const { databaseUrl, slot, publication } = this.config;
    this.stream = new Stream(
      { databaseUrl, slot, publication, walSenderTimeoutMs, recentXid },
      {
        onTransactions: (transactions) => this.onTransactions(transactions),
        onQuiet: (walEnd) => this.tail.quiet(walEnd),
        acknowledged: () => this.tail.acknowledgeable,
      },
    );
    if (!this.closing) await this.stream.run(onStart);
  }

  private note(error: unknown): void {
    if (this.closing) return;
    this.status = "reconnecting";
    this.reason = error instanceof Error ? error.message : String(error);
    this.log.warn({ err: error }, "replication broke off: connecting again");
  }

  /**
   * Before every connection: is this the history that the log continues? Another server, database or timeline, a slot
   * that is gone or that somebody moved, means that transactions may be missing. Then everybody starts anew.
   */
  private async verifyHistory(): Promise<History> {
    const history = await readHistory(this.control, this.config.slot);
    if (this.epoch === "") return this.begin(history);
    const { confirmed, epoch } = history;
    if (confirmed !== undefined && epoch === this.epoch && confirmed <= this.tail.acknowledgeable) return history;
    this.log.error(
      { was: this.epoch, is: epoch, confirmed: confirmed === undefined ? null : formatLsn(confirmed) },
      "the slot is not where this engine left it: every client starts anew",
    );
    this.server.disconnectAll("resync");
    await this.prepare();
    this.tables.forgetAll();
    return this.begin(await readHistory(this.control, this.config.slot));
  }

  private begin(history: History): History {
    this.epoch = history.epoch;
    this.tail.startAt(history.confirmed ?? zeroLsn);
    return history;
  }

  private prepare(): Promise<Prepared> {
    const { databaseUrl, publication, slot } = this.config;
    return prepareDatabase({ databaseUrl, publication, slot, log: this.log });
  }

  // ── On timers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  private async learn(): Promise<void> {
    const { rows } = await this.control
      .query<{ snapshot: string; wal: string; retained: number | null }>(
        `select pg_current_snapshot()::text as snapshot, pg_current_wal_lsn()::text as wal,
          (select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8 from pg_replication_slots where slot_name = $1) as retained`,
        [this.config.slot],
      )
      .catch((error: unknown) => this.makeWayForShutdown(error));
    const written = parseLsn(rows[0]!.wal);
    this.tail.learn(parsePgSnapshot(rows[0]!.snapshot));
    this.lagBytes = written > this.tail.streamed ? Number(written - this.tail.streamed) : 0;
    this.slotRetainedBytes = rows[0]!.retained ?? 0;
    this.stream?.sendStatus(false);
  }

  /**
   * A Postgres that shuts down waits for its walsender until all is acknowledged, and we cannot acknowledge what no
   * snapshot has seen, since it takes no connection for one any more. It has to be left; it sends the rest again.
   */
  private async makeWayForShutdown(error: unknown): Promise<never> {
    if (this.status === "live" && (error as pg.DatabaseError).code === cannotConnectNow) {
      this.note(error);
      await this.stream?.stop();
    }
    throw error;
  }

  /** Where event triggers are not permitted. */
  private async pollCatalog(): Promise<void> {
    const versions = this.hub.live.versions();
    const { rows } = await this.control.query<{ oid: string; version: string | null }>(
      "select oid::text, walcast.table_version(oid) as version from unnest($1::int8[]::oid[]) as oid",
      [[...versions.keys()]],
    );
    for (const { oid, version } of rows) if (versions.get(Number(oid)) !== version) this.hub.tableChanged(Number(oid));
  }

  private every(ms: number, run: () => void | Promise<void>): void {
    let running = false;
    const tick = async (): Promise<void> => {
      if (running) return;
      running = true;
      try {
        await run();
      } catch (error) {
        if (!this.closing) this.log.warn({ err: error }, "a periodic task failed; it is tried again");
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
    pool.on("connect", (client) => client.on("error", (error) => this.onBroken(error)));
    pool.on("error", () => {});
    return pool;
  }

  private onBroken(cause: Error): void {
    this.log.debug({ err: cause }, "a connection broke");
    // It may be Postgres that ends, and then it waits for us.
    if (!this.closing) void this.learn().catch(() => {});
  }

  private metrics(): Record<string, number> {
    const { counters, resyncs } = this.hub;
    return {
      walcast_up: this.status === "live" ? 1 : 0,
      walcast_lag_bytes: this.lagBytes,
      walcast_slot_retained_bytes: this.slotRetainedBytes,
      walcast_shapes: this.hub.live.size,
      walcast_snapshots_total: this.snapshots.total,
      ...Object.fromEntries(
        resyncCauses.map((cause) => [`walcast_resyncs_total{cause="${cause}"}`, resyncs.get(cause) ?? 0]),
      ),
      walcast_sends_dropped_total: counters.sendsDropped,
      walcast_slow_consumers_total: counters.slowConsumers,
      walcast_log_bytes: this.tail.bytes,
    };
  }
}

/** "the database system is shutting down", where a connection still streams; otherwise it may be starting up. */
const cannotConnectNow = "57P03";

/** Another engine still holds the slot, as in a rolling deploy: it will let go. */
const objectInUse = "55006";

function mayPass(error: unknown): boolean {
  return (error as pg.DatabaseError).code === objectInUse;
}
