/**
 * What `/metrics` says, in Prometheus' text format. Everything is read at the moment it is asked for; docs/operations.md says
 * what each figure means and what to do about it.
 * https://prometheus.io/docs/practices/naming/
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, Registry } from "prom-client";
import type { SlotVitals } from "./changes/vitals.ts";
import { type Invariant, breaches } from "./invariants.ts";
import type { ErrorCode, Lsn } from "./protocol.ts";
import type { AuditResult } from "./sockets/audit.ts";

export interface Figures {
  readonly live: boolean;
  readonly lagBytes: number;
  readonly lagSeconds: number;
  /** Undefined before the first measurement. */
  readonly slot: SlotVitals | undefined;
  /** Undefined until the slot is ours. */
  readonly log: LogFigures | undefined;
  /** What Postgres was told that it may forget. */
  readonly acknowledged: Lsn | undefined;
  readonly shapes: number;
  /** Predicates that are evaluated for every change of their table. */
  readonly unindexed: number;
  /** Conditions that wait to be read, by what for. */
  readonly waits: ReadonlyMap<string, number>;
  readonly clients: ReadonlyMap<string, number>;
  /** Undefined until the slot is ours. */
  readonly kept: KeptFigures | undefined;
  readonly counts: Counts;
  readonly resyncs: ReadonlyMap<ErrorCode, number>;
  readonly refusals: ReadonlyMap<ErrorCode, number>;
  readonly returned: ReadonlyMap<string, number>;
  readonly audits: ReadonlyMap<AuditResult, number>;
}

export interface LogFigures {
  readonly start: Lsn;
  readonly end: Lsn;
  readonly recorded: Lsn;
  readonly bytes: number;
}

export interface KeptFigures {
  readonly size: number;
  readonly fileBytes: number;
}

/** Since the engine started. */
export interface Counts {
  readonly snapshots: number;
  readonly snapshotsReused: number;
  readonly snapshotTransactions: number;
  readonly replicationBreaks: number;
  readonly sendsDropped: number;
  readonly clientsFallenBehind: number;
  readonly unknownChanges: number;
  readonly catchUpPasses: number;
  readonly catchUpBytes: number;
}

/** Why a shape that was shown is loaded anew; each is there from the start, so that a rate can be taken. */
const resyncCauses: readonly ErrorCode[] = [
  "schema_changed",
  "access_changed",
  "history_changed",
  "position_too_old",
  "snapshot_failed",
  "audit_mismatch",
  "invariant",
];

/** What an operator may want to hear of. */
const refusalCodes: readonly ErrorCode[] = [
  "unauthenticated",
  "auth_unavailable",
  "token_expired",
  "forbidden",
  "too_large",
  "too_many",
  "too_fast",
  "malformed_message",
];

const returnResults = ["resumed", "history_changed", "position_too_old"];

const auditResults: readonly AuditResult[] = ["matched", "mismatched"];

const quantiles = [0.5, 0.99] as const;

export class Metrics {
  private readonly registry = new Registry();
  private readonly read: () => Figures;
  private readonly delay = monitorEventLoopDelay({ resolution: 10 });
  private figures!: Figures;

  constructor(read: () => Figures) {
    this.read = read;
    this.delay.enable();
    this.stream();
    this.log();
    this.clients();
    this.health();
  }

  async text(): Promise<string> {
    this.figures = this.read();
    return this.registry.metrics();
  }

  close(): void {
    this.delay.disable();
  }

  private stream(): void {
    this.gauge("up", "1 while changes are streamed", ({ live }) => (live ? 1 : 0));
    this.gauge("lag_bytes", "WAL written by Postgres and not yet streamed", ({ lagBytes }) => lagBytes);
    this.gauge("lag_seconds", "Age of the oldest WAL that is not yet streamed", ({ lagSeconds }) => lagSeconds);
    this.gauge("slot_retained_bytes", "WAL that Postgres keeps for the slot", ({ slot }) => slot?.retainedBytes);
    this.gauge(
      "slot_keep_bytes",
      "Above this Postgres gives the slot up; absent: never",
      ({ slot }) => slot?.keepBytes,
    );
    this.gauges("slot_wal_status", "1 for the slot's wal_status", "status", ({ slot }) => walStatus(slot?.walStatus));
    this.counter("replication_breaks_total", "Streams that broke off", ({ counts }) => counts.replicationBreaks);
  }

  private log(): void {
    this.gauge("log_start_position", "The oldest position from which a client can resume", ({ log }) =>
      position(log?.start),
    );
    this.gauge("log_head_position", "The last transaction's position", ({ log }) => position(log?.end));
    this.gauge("log_flushed_position", "What is durable", ({ log }) => position(log?.recorded));
    this.gauge("log_acknowledged_position", "What Postgres may forget", ({ acknowledged }) => position(acknowledged));
    this.gauge("log_bytes", "What the log holds", ({ log }) => log?.bytes);
  }

  private clients(): void {
    this.gauges("clients", "Connections by state", "state", ({ clients }) => clients);
    this.gauge("shapes", "Distinct shapes that are live", ({ shapes }) => shapes);
    this.gauge(
      "predicates_unindexed",
      "Predicates evaluated for every change of their table",
      ({ unindexed }) => unindexed,
    );
    this.gauges("conditions_waiting", "Long conditions that wait to be read, by what for", "for", ({ waits }) => waits);
    this.counter("snapshots_total", "Shapes whose rows were read from Postgres", ({ counts }) => counts.snapshots);
    this.counter("snapshots_reused_total", "Kept rows that were used again", ({ counts }) => counts.snapshotsReused);
    this.counter(
      "snapshot_transactions_total",
      "Transactions that read rows",
      ({ counts }) => counts.snapshotTransactions,
    );
    this.gauge("snapshots_kept", "Shapes whose rows are kept for whoever asks next", ({ kept }) => kept?.size);
    this.gauge("snapshots_kept_bytes", "What these take on disk", ({ kept }) => kept?.fileBytes);
    this.counters(
      "resyncs_total",
      "Shapes that were loaded anew, by cause",
      "cause",
      ({ resyncs }) => new Map([...resyncCauses.map((cause) => [cause, 0] as const), ...resyncs]),
    );
    this.counters(
      "refusals_total",
      "Errors that clients were answered with, by code",
      "code",
      ({ refusals }) => new Map([...refusalCodes.map((code) => [code, 0] as const), ...refusals]),
    );
    this.counter(
      "unknown_schema_changes_total",
      "Changes of tables that could not be described where they were made",
      ({ counts }) => counts.unknownChanges,
    );
    this.counters(
      "clients_returned_total",
      "Clients that came back, by what became of it",
      "result",
      ({ returned }) => new Map([...returnResults.map((result) => [result, 0] as const), ...returned]),
    );
    this.counters(
      "audits_total",
      "What clients said whose rows were compared with Postgres'",
      "result",
      ({ audits }) => new Map([...auditResults.map((result) => [result, 0] as const), ...audits]),
    );
    this.counter(
      "catch_up_passes_total",
      "Passes over the log for clients behind",
      ({ counts }) => counts.catchUpPasses,
    );
    this.counter("catch_up_bytes_total", "Bytes of the log read by them", ({ counts }) => counts.catchUpBytes);
    this.counter(
      "slow_consumers_total",
      "Times a client fell behind its byte budget",
      ({ counts }) => counts.clientsFallenBehind,
    );
    this.counter("sends_dropped_total", "Sends that a socket dropped", ({ counts }) => counts.sendsDropped);
  }

  private health(): void {
    const names = (): ReadonlyMap<Invariant, number> => breaches;
    this.counters("invariant_breaches_total", "Must stay 0: report it if it does not", "invariant", names);
    this.gauges("event_loop_delay_seconds", "Since the last scrape", "quantile", () => {
      const seconds = quantiles.map((q) => [String(q), this.delay.percentile(q * 100) / 1e9] as const);
      const most = Number.isFinite(this.delay.max) ? this.delay.max / 1e9 : 0;
      this.delay.reset();
      return new Map([...seconds, ["1", most]]);
    });
    this.gauge("resident_bytes", "Memory of the process", () => process.memoryUsage.rss());
  }

  // ── One figure ──────────────────────────────────────────────────────────────────────────────────────────────────────

  private gauge(name: string, help: string, read: (figures: Figures) => number | undefined): void {
    const collect = (): void => {
      const value = read(this.figures);
      if (value === undefined) gauge.remove();
      else gauge.set(value);
    };
    const gauge: Gauge = new Gauge({ ...this.named(name, help), collect });
  }

  private counter(name: string, help: string, read: (figures: Figures) => number): void {
    const collect = (): void => {
      counter.reset();
      counter.inc(read(this.figures));
    };
    const counter: Counter = new Counter({ ...this.named(name, help), collect });
  }

  private gauges(name: string, help: string, label: string, read: ReadByLabel): void {
    const collect = (): void => {
      gauge.reset();
      for (const [value, figure] of read(this.figures)) gauge.set({ [label]: value }, figure);
    };
    const gauge: Gauge = new Gauge({ ...this.named(name, help), labelNames: [label], collect });
  }

  private counters(name: string, help: string, label: string, read: ReadByLabel): void {
    const collect = (): void => {
      counter.reset();
      for (const [value, count] of read(this.figures)) counter.inc({ [label]: value }, count);
    };
    const counter: Counter = new Counter({ ...this.named(name, help), labelNames: [label], collect });
  }

  private named(name: string, help: string): { name: string; help: string; registers: Registry[] } {
    return { name: `walcast_${name}`, help, registers: [this.registry] };
  }
}

type ReadByLabel = (figures: Figures) => ReadonlyMap<string, number>;

/** In bytes since the WAL began; exact up to 2^53. */
function position(lsn: Lsn | undefined): number | undefined {
  return lsn === undefined ? undefined : Number(lsn);
}

/** https://www.postgresql.org/docs/current/view-pg-replication-slots.html */
const walStatuses = ["reserved", "extended", "unreserved", "lost"];

function walStatus(current: string | undefined): ReadonlyMap<string, number> {
  return new Map(walStatuses.map((status) => [status, status === current ? 1 : 0]));
}
