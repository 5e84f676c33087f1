/**
 * Queries that stay current. After each local transaction those that read one of its tables run again, inside the same
 * turn of the replica, so that all of them show one position; what changed is handed out after the turn.
 *
 * The tables that a query reads are the ones it locks: that sees through views and into functions, which its plan does
 * not show. https://www.postgresql.org/docs/current/view-pg-locks.html
 */
import { formatLsn, type Lsn, WalcastError, zeroLsn } from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import { sqlStateOf } from "./query-errors.ts";
import { type RawResult, type Row, type RowDecoder, rowDecoder } from "./rows.ts";
import { compare, nothingShown, type Shown } from "./delta.ts";
import { call, Deferred, Listeners } from "./listeners.ts";
import type { ResultColumn } from "./wire.ts";

/** `loading` until the shapes of its tables are complete, or until its tables exist. */
export type LiveStatus = "loading" | "ready" | "error";

/** What became of the rows that the listener was last called with. */
export interface Delta<R> {
  /** The position whose state this is, as Postgres writes it. */
  readonly position: string;
  readonly inserted: readonly R[];
  /** As they are now. Only where the result holds its one table's primary key; elsewhere a changed row is a deletion and an insertion. */
  readonly updated: readonly R[];
  /** As they were. */
  readonly deleted: readonly R[];
}

export interface LiveQuery<R> {
  /** The current result; the same array, and the same objects in it, as long as nothing changed. */
  readonly rows: readonly R[];
  readonly status: LiveStatus;
  readonly error: WalcastError | undefined;
  /** Resolves with the first complete result. */
  readonly ready: Promise<readonly R[]>;
  /** Called with the first complete result (all rows `inserted`), then after every change. Returns what ends it. */
  subscribe(listener: (rows: readonly R[], delta: Delta<R>) => void): () => void;
  /** Called whenever rows, status or error are different. Returns what ends it. */
  onChange(listener: () => void): () => void;
  close(): void;
}

export interface LiveInspection {
  readonly sql: string;
  /** Those it reads, quoted and with their schema. */
  readonly tables: readonly string[];
  readonly status: LiveStatus;
  readonly rows: number;
  readonly runs: number;
  readonly lastRunMs: number;
}

export interface LiveHooks {
  /** Whether rows of one of these tables are still on their way for the first time. */
  isLoading(tables: ReadonlySet<string>): boolean;
  /** Why a shape of one of these tables (of any, while they are unknown) will never have rows. */
  failureOf(tables: ReadonlySet<string> | undefined): WalcastError | undefined;
  position(): Lsn;
}

/** All live queries of a client. */
export class LiveQueries {
  private readonly database: Database;
  private readonly opened: Promise<unknown>;
  private readonly hooks: LiveHooks;
  private readonly queries = new Set<Query>();

  constructor(database: Database, opened: Promise<unknown>, hooks: LiveHooks) {
    this.database = database;
    this.opened = opened;
    this.hooks = hooks;
  }

  add<R>(sql: string, params: readonly unknown[]): LiveQuery<R> {
    const query = new Query(sql, params, this.hooks, () => this.queries.delete(query));
    this.queries.add(query);
    void this.runFirst(query);
    return query as unknown as LiveQuery<R>;
  }

  /** In the replica's turn, after a transaction. Returns what tells the subscribers when the turn is over. */
  applied(changed: ReadonlySet<string>): () => void {
    for (const query of this.queries) if (query.reads(changed)) query.run(this.database);
    return () => this.settle();
  }

  /** Hands out what is new. */
  settle(): void {
    for (const query of [...this.queries]) query.settle();
  }

  list(): LiveInspection[] {
    return Array.from(this.queries, (query) => query.inspect());
  }

  close(error: WalcastError): void {
    for (const query of this.queries) query.abandon(error);
    this.queries.clear();
  }

  private async runFirst(query: Query): Promise<void> {
    try {
      await this.opened;
      await this.database.exclusive(() => query.run(this.database));
      query.settle();
    } catch (error) {
      query.refuse(
        error instanceof WalcastError
          ? error
          : new WalcastError("replica_failed", "run a live query: the replica is not open", { cause: error }),
      );
    }
  }
}

/** 42P01 undefined_table, 3F000 invalid_schema_name, 42704 undefined_object (a type): may all still come. */
const notYetStates = new Set(["42P01", "3F000", "42704"]);

const lockedTables = `
  SELECT DISTINCT c.oid, format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""')) AS name,
    (SELECT i.indkey::int2[] FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS key
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'walcast')`;

interface Listener {
  readonly callback: (rows: readonly Row[], delta: Delta<Row>) => void;
  wasCalled: boolean;
}

class Query implements LiveQuery<Row> {
  rows: readonly Row[] = [];
  status: LiveStatus = "loading";
  error: WalcastError | undefined;
  private readonly sql: string;
  private readonly params: readonly unknown[];
  private readonly hooks: LiveHooks;
  private readonly leave: () => void;
  private readonly isReady = new Deferred<readonly Row[]>();
  private readonly listeners = new Set<Listener>();
  private readonly changeListeners = new Listeners<[]>();
  /** Undefined until it has run. */
  private tables: ReadonlySet<string> | undefined;
  private columns: readonly ResultColumn[] = [];
  private keyColumns: readonly number[] | undefined;
  /** What the last run gave, until it is settled. */
  private latest: { readonly result: RawResult; readonly decode: RowDecoder; readonly position: Lsn } | undefined;
  private shown: Shown = nothingShown;
  private shownPosition: Lsn = zeroLsn;
  private failure: WalcastError | undefined;
  private runCount = 0;
  private lastRunMs = 0;

  constructor(sql: string, params: readonly unknown[], hooks: LiveHooks, leave: () => void) {
    this.sql = sql;
    this.params = params;
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
      runs: this.runCount,
      lastRunMs: this.lastRunMs,
    };
  }

  /** A query that failed is tried again whatever changed: what was wrong may have been in the data. */
  reads(changed: ReadonlySet<string>): boolean {
    return !this.tables || !this.tables.isDisjointFrom(changed);
  }

  run(database: Database): void {
    const started = performance.now();
    try {
      const kept = this.tables && database.query(this.sql, this.params);
      const result = kept && this.hasColumnsOf(kept) ? kept : this.runAndFindTables(database);
      const decode = rowDecoder(result.statement.columns, database.arrayTypes);
      this.latest = { result, decode, position: this.hooks.position() };
      this.failure = undefined;
    } catch (error) {
      this.failure =
        error instanceof WalcastError
          ? error
          : new WalcastError("query_failed", `run a live query: ${String(error)}`, { cause: error });
      this.tables = undefined;
    }
    this.runCount++;
    this.lastRunMs = performance.now() - started;
  }

  settle(): void {
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
    const { result, found } = database.readOnly(this.sql, () => ({
      result: database.query(this.sql, this.params),
      found: database.rows(lockedTables),
    }));
    this.tables = new Set(found.map(({ name }) => String(name)));
    this.columns = result.statement.columns;
    this.keyColumns = findKey(result, found);
    return result;
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
    if (this.latest) this.shownPosition = this.latest.position;
    const difference = this.latest && compare(this.shown, this.latest.result, this.latest.decode, this.keyColumns);
    this.latest = undefined;
    if (difference) this.shown = difference.shown;
    if (difference) this.rows = this.shown.rows;
    this.isReady.resolve(this.rows);
    for (const listener of [...this.listeners]) {
      if (!listener.wasCalled) this.callFirst(listener);
      else if (difference)
        call(listener.callback, [this.rows, { position: formatLsn(this.shownPosition), ...difference.changes }]);
    }
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

/** Where the result holds the primary key of the one table it comes from. */
function findKey({ statement }: RawResult, tables: readonly Row[]): number[] | undefined {
  const [table] = tables;
  if (tables.length !== 1 || !table || !Array.isArray(table.key)) return undefined;
  const positions = table.key.map((attribute: unknown) =>
    statement.columns.findIndex((column) => column.tableOid === table.oid && column.attribute === attribute),
  );
  return positions.includes(-1) ? undefined : positions;
}
