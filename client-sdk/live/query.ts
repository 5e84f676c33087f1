/**
 * One live query: what it last found, what it shows of that, and whom it tells. Finding out happens in the replica's turn,
 * showing after it. Where a plan allows it only the rows of changed keys are asked for (see plan.ts).
 */
import { formatLsn, type Lsn, WalcastError, zeroLsn } from "../../engine/protocol.ts";
import type { Changed, Key } from "../changed.ts";
import type { Database } from "../database.ts";
import type { Run } from "../postgres-session.ts";
import { compare, nothingShown, type RowChanges, type Shown } from "../delta.ts";
import { call, Deferred, Listeners } from "../listeners.ts";
import type { Delta, LiveHooks, LiveInspection, LiveQuery, LiveRequest, LiveStatus } from "../live.ts";
import { sqlStateOf } from "../query-errors.ts";
import type { Row } from "../row.ts";
import { type RawResult, type RowDecoder, rowDecoder } from "../rows.ts";
import type { ResultColumn } from "../wire.ts";
import type { Advice } from "./advice.ts";
import type { IsCheaperToFollow } from "./costs.ts";
import { onNextFrame } from "./frame.ts";
import { Incremental, type Reach } from "./incremental.ts";
import { isPlan, namesMoments } from "./plan.ts";
import type { Plans } from "./plans.ts";
import { findKey, type KeyedTable, keyedTable, lockedTables } from "./tables-read.ts";

/** 42P01 undefined_table, 3F000 invalid_schema_name, 42704 undefined_object (a type): may all still come. */
const notYetStates = new Set(["42P01", "3F000", "42704"]);

/** What all live queries have in common. */
export interface Shared {
  readonly plans: Plans;
  readonly advice: Advice;
  readonly isCheaper: IsCheaperToFollow;
}

interface Listener {
  readonly callback: (rows: readonly Row[], delta: Delta<Row>) => void;
  wasCalled: boolean;
}

export class Query implements LiveQuery<Row> {
  rows: readonly Row[] = [];
  status: LiveStatus = "loading";
  error: WalcastError | undefined;
  private readonly sql: string;
  private readonly params: readonly unknown[];
  private readonly coalesces: boolean;
  private readonly shared: Shared;
  private readonly hooks: LiveHooks;
  private readonly leave: () => void;
  private readonly isReady = new Deferred<readonly Row[]>();
  private readonly listeners = new Set<Listener>();
  private readonly changeListeners = new Listeners<[]>();
  /** Undefined until it has run. */
  private tables: ReadonlySet<string> | undefined;
  private columns: readonly ResultColumn[] = [];
  private keyColumns: readonly number[] | undefined;
  /** What the last whole run gave, until it is settled. */
  private latest: { readonly result: RawResult; readonly decode: RowDecoder } | undefined;
  /** Where it need not run again. */
  private incremental: Incremental | undefined;
  private why: string | undefined;
  private position: Lsn = zeroLsn;
  private shown: Shown = nothingShown();
  private shownPosition: Lsn = zeroLsn;
  private failure: WalcastError | undefined;
  /** There while something waits for the next frame. */
  private callOffFrame: (() => void) | undefined;
  private runCount = 0;
  private mergeCount = 0;
  private lastMs = 0;
  /** Of the last time that all of it ran. */
  private whole = { ms: 0, isFirst: true };
  private totalMs = 0;

  constructor({ sql, params, coalesce }: LiveRequest, shared: Shared, hooks: LiveHooks, leave: () => void) {
    this.sql = sql;
    this.params = params;
    this.coalesces = coalesce === "frame";
    this.shared = shared;
    this.hooks = hooks;
    this.leave = leave;
  }

  get ready(): Promise<readonly Row[]> {
    return this.isReady.promise;
  }

  subscribe(callback: Listener["callback"]): () => void {
    const listener: Listener = { callback, wasCalled: false };
    this.listeners.add(listener);
    // Not before the caller has what we return.
    queueMicrotask(() => this.callFirst(listener));
    return () => void this.listeners.delete(listener);
  }

  onChange(listener: () => void): () => void {
    return this.changeListeners.add(listener);
  }

  close(): void {
    this.abandon(new WalcastError("closed", "wait for a live query: it was closed"));
    this.leave();
  }

  abandon(error: WalcastError): void {
    this.callOffFrame?.();
    this.isReady.reject(error);
    this.listeners.clear();
    this.changeListeners.clear();
  }

  /** It cannot run at all. */
  refuse(error: WalcastError): void {
    this.failure = error;
    this.settle();
  }

  inspect(): LiveInspection {
    return {
      sql: this.sql,
      tables: [...(this.tables ?? [])],
      status: this.status,
      rows: this.rows.length,
      mode: !this.incremental ? "re-run" : this.incremental.limit === Infinity ? "incremental" : "window",
      why: this.why,
      runs: this.runCount,
      merges: this.mergeCount,
      lastRunMs: this.lastMs,
      totalMs: this.totalMs,
    };
  }

  /** A query that failed is tried again whatever changed: what was wrong may have been in the data. */
  reads(changed: Changed): boolean {
    return !this.tables || this.tables.values().some((table) => changed.has(table));
  }

  /**
   * The keys of the rows that may have changed, and what finds more of them. Undefined where it has to run again: also where a
   * joined table may be another one, with another key, which need not show in the result.
   */
  reach(changed: Changed): Reach | undefined {
    if (this.incremental?.isJoin && changed.isWhole(this.tables)) this.tables = undefined;
    if (!this.tables || !this.incremental || this.latest || this.status !== "ready") return undefined;
    const reach = this.incremental.reach(changed);
    return reach && reach.runs.length > 0 && !this.isCheaperToFollow(reach.keys.size + 1) ? undefined : reach;
  }

  /** Beside running again, where rows are joined. */
  isCheaperToFollow(keys: number): boolean {
    return this.shared.isCheaper(keys, { ...this.whole, rows: this.shown.rows.length });
  }

  /** These rows alone. Undefined where running again is better. */
  restrictedTo(keys: ReadonlyMap<string, Key>): Run | undefined {
    return this.incremental?.restrictedTo(keys);
  }

  /** False where it has to run again. */
  merge(keys: ReadonlyMap<string, Key>, result: RawResult, ms: number): boolean {
    if (!this.incremental?.take(this.shown, keys, result)) return false;
    this.position = this.hooks.position();
    this.mergeCount++;
    this.took(ms);
    return true;
  }

  /** How it runs beside others. Undefined where it is not known yet, or no longer, what it reads. */
  again(database: Database): Run | undefined {
    const { sql, params } = this;
    return this.tables && { sql, values: database.encode(database.prepare(sql), params) };
  }

  /** What it gave, run beside others. False where it has to run by itself. */
  take(database: Database, result: RawResult, ms: number): boolean {
    if (!this.hasColumnsOf(result)) return false;
    // Rows that stay as they are keep the bytes that they came in: not all the others'.
    this.found(database, { ...result, bytes: result.bytes.slice() });
    this.whole = { ms, isFirst: false };
    this.ran(database, ms);
    return true;
  }

  run(database: Database): void {
    const started = performance.now();
    try {
      const kept = this.tables && database.query(this.sql, this.params);
      const again = kept && this.hasColumnsOf(kept) ? kept : undefined;
      this.found(database, again ?? this.runAndFindTables(database));
      this.whole = { ms: performance.now() - started, isFirst: !again };
    } catch (error) {
      this.failure =
        error instanceof WalcastError
          ? error
          : new WalcastError("query_failed", `run a live query: ${String(error)}`, { cause: error });
      this.tables = undefined;
    }
    this.ran(database, performance.now() - started);
  }

  /** Shows what is new: at once, or with the next frame what has come until then. */
  settle(): void {
    const isNews = this.latest !== undefined || this.incremental?.hasNews === true;
    if (!this.coalesces || !isNews || this.failure || this.status !== "ready") return this.settleNow();
    this.callOffFrame ??= onNextFrame(() => {
      this.callOffFrame = undefined;
      this.settleNow();
    });
  }

  private settleNow(): void {
    const before = { rows: this.rows, status: this.status, error: this.error };
    this.decide();
    if (this.status === "ready") this.show();
    if (this.status === "error") this.isReady.reject(this.error);
    if (before.rows !== this.rows || before.status !== this.status || before.error !== this.error)
      this.changeListeners.emit();
  }

  // ── Running ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A table that was altered, or replaced, has other columns for `SELECT *`, and its key elsewhere. */
  private hasColumnsOf({ statement }: RawResult): boolean {
    return statement.columns === this.columns || JSON.stringify(statement.columns) === JSON.stringify(this.columns);
  }

  private runAndFindTables(database: Database): RawResult {
    return database.readOnly(this.sql, () => {
      const result = database.query(this.sql, this.params);
      const found = database.rows(lockedTables).map(keyedTable);
      this.tables = new Set(found.map(({ name }) => name));
      this.columns = result.statement.columns;
      this.plan(database, result, found);
      return result;
    });
  }

  private plan(database: Database, result: RawResult, tables: readonly KeyedTable[]): void {
    const { statement } = result;
    const values = database.encode(statement, this.params);
    const plan = namesMoments(values, statement.parameterTypes)
      ? { why: "a parameter is a moment that is another one each time" }
      : this.shared.plans.of(database, statement, tables);
    const decode = rowDecoder(statement.columns, database.arrayTypes);
    if (this.incremental) this.shown = this.incremental.reset(this.shown);
    this.incremental = isPlan(plan) ? new Incremental(plan, values, decode) : undefined;
    this.keyColumns = isPlan(plan) ? plan.key : findKey(result, tables);
    this.why = isPlan(plan) ? this.incremental?.why : plan.why;
  }

  private found(database: Database, result: RawResult): void {
    this.latest = { result, decode: rowDecoder(result.statement.columns, database.arrayTypes) };
    this.position = this.hooks.position();
    this.failure = undefined;
  }

  private ran(database: Database, ms: number): void {
    this.runCount++;
    this.took(ms);
    if (!this.failure) this.shared.advice.consider(database, this.sql, this.params, this.runCount);
  }

  private took(ms: number): void {
    this.lastMs = ms;
    this.totalMs += ms;
  }

  // ── Showing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Once ready it stays so: a further shape that is loading takes nothing from the rows that are there. */
  private decide(): void {
    const wasReady = this.status === "ready";
    const refusal = wasReady ? undefined : this.hooks.failureOf(this.tables);
    const isWaiting = this.failure
      ? notYetStates.has(sqlStateOf(this.failure) ?? "")
      : !wasReady && (!this.tables || this.hooks.isLoading(this.tables));
    this.error = isWaiting || !this.failure ? refusal : this.failure;
    this.status = this.error ? "error" : isWaiting ? "loading" : "ready";
  }

  private show(): void {
    const news = this.news();
    this.shownPosition = this.position;
    if (news) this.shown = news.shown;
    this.rows = this.shown.rows;
    this.isReady.resolve(this.rows);
    for (const listener of [...this.listeners]) {
      if (!listener.wasCalled) this.callFirst(listener);
      else if (news) call(listener.callback, [this.rows, { position: formatLsn(this.shownPosition), ...news.changes }]);
    }
  }

  private news(): { shown: Shown; changes: RowChanges } | undefined {
    if (!this.latest) return this.incremental?.news(this.shown);
    const { result, decode } = this.latest;
    this.latest = undefined;
    if (this.incremental) this.shown = this.incremental.reset(this.shown);
    return compare(this.shown, result, decode, this.keyColumns);
  }

  private callFirst(listener: Listener): void {
    if (this.status !== "ready" || listener.wasCalled || !this.listeners.has(listener)) return;
    listener.wasCalled = true;
    call(listener.callback, [
      this.rows,
      { position: formatLsn(this.shownPosition), inserted: this.rows, updated: [], deleted: [] },
    ]);
  }
}
