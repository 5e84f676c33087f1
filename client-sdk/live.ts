/**
 * Queries that stay current. After each local transaction those that read one of its tables are brought up to date, inside
 * the same turn of the replica, so that all of them show one position; what changed is handed out after the turn. Where the
 * changed keys are enough to know what a result has become, only their rows are asked for (see live/follow.ts), all queries'
 * together; the others run again, together as well.
 */
import { type Lsn, WalcastError } from "../engine/protocol.ts";
import { attempt } from "./attempt.ts";
import type { Changed } from "./changed.ts";
import type { Database } from "./database.ts";
import type { Run } from "./postgres-session.ts";
import { Advice } from "./live/advice.ts";
import { type IsCheaperToFollow, isCheaperToFollow } from "./live/costs.ts";
import { follow, foresee, type Wanted } from "./live/follow.ts";
import { Plans } from "./live/plans.ts";
import { Query, type Shared } from "./live/query.ts";

/** `loading` until the shapes of its tables are complete, or until its tables exist. */
export type LiveStatus = "loading" | "ready" | "error";

export interface LiveOptions {
  /** `"frame"`: at most one callback for each animation frame, with all that came since the last; about 16 ms where nothing is drawn. */
  readonly coalesce?: "frame";
}

export interface LiveRequest extends LiveOptions {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** What became of the rows that the listener was last called with. */
export interface Delta<R> {
  /** The position whose state this is, as Postgres writes it. */
  readonly position: string;
  readonly inserted: readonly R[];
  /** As they are now. Only where the result holds the primary key of the table that it follows; elsewhere a changed row is a deletion and an insertion. */
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
  /**
   * What a change costs it. `incremental`: the changed rows are looked up. `window`: the same, and it runs again when rows
   * that were beyond its LIMIT come into sight. `re-run`: it runs again.
   */
  readonly mode: "incremental" | "window" | "re-run";
  /** Why it has to run again, or has to when one of its tables changes. */
  readonly why: string | undefined;
  /** Times that it ran. */
  readonly runs: number;
  /** Times that the changed rows alone were looked up. */
  readonly merges: number;
  /** Of either. */
  readonly lastRunMs: number;
  readonly totalMs: number;
}

export interface LiveHooks {
  /** Whether rows of one of these tables are still on their way for the first time. */
  isLoading(tables: ReadonlySet<string>): boolean;
  /** Why a shape of one of these tables (of any, while they are unknown) will never have rows. */
  failureOf(tables: ReadonlySet<string> | undefined): WalcastError | undefined;
  position(): Lsn;
}

interface Foreseen {
  readonly changed: Changed;
  readonly affected: readonly Query[];
  readonly wanted: Wanted | undefined;
}

/** All live queries of a client. */
export class LiveQueries {
  private readonly database: Database;
  private readonly opened: Promise<unknown>;
  private readonly hooks: LiveHooks;
  private readonly queries = new Set<Query>();
  private readonly shared: Shared;
  /** Whom `changed` concerns, and what they will have looked up once it is applied. */
  private foreseen: Foreseen | undefined;

  constructor(
    database: Database,
    opened: Promise<unknown>,
    hooks: LiveHooks,
    isCheaper: IsCheaperToFollow = isCheaperToFollow,
  ) {
    this.shared = { plans: new Plans(), advice: new Advice(), isCheaper };
    this.database = database;
    this.opened = opened;
    this.hooks = hooks;
  }

  add<R>(sql: string, params: readonly unknown[], options: LiveOptions = {}): LiveQuery<R> {
    const query = new Query({ sql, params, ...options }, this.shared, this.hooks, () => this.queries.delete(query));
    this.queries.add(query);
    void this.runFirst(query);
    return query as unknown as LiveQuery<R>;
  }

  /** In the replica's turn, before a transaction: what is going to be looked up after it. */
  foresee(changed: Changed): readonly Run[] {
    if (changed.isEmpty) return [];
    const affected = this.affectedBy(changed);
    const wanted = foresee(affected, changed);
    this.foreseen = { changed, affected, wanted };
    return wanted?.runs ?? [];
  }

  /** In the replica's turn, after a transaction. Returns what tells the subscribers when the turn is over. */
  applied(changed: Changed): () => void {
    const { affected, wanted } =
      this.foreseen?.changed === changed ? this.foreseen : { affected: this.affectedBy(changed), wanted: undefined };
    this.foreseen = undefined;
    const followed = follow(this.database, affected, changed, wanted);
    this.runAll(affected.filter((query) => !followed.has(query)));
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

  private affectedBy(changed: Changed): Query[] {
    return [...this.queries].filter((query) => query.reads(changed));
  }

  private runAll(queries: readonly Query[]): void {
    const done = queries.length > 1 ? this.runTogether(queries) : new Set<Query>();
    for (const query of queries) if (!done.has(query)) query.run(this.database);
  }

  /** Those for which it gave a result. */
  private runTogether(queries: readonly Query[]): Set<Query> {
    const started = performance.now();
    const ran = attempt(() => {
      const runs = queries.flatMap((query) => {
        const run = query.again(this.database);
        return run ? [{ query, run }] : [];
      });
      const results = this.database.together(runs.map(({ run }) => run));
      return results && runs.map(({ query }, i) => ({ query, result: results[i]! }));
    });
    if (!ran) return new Set();
    const ms = (performance.now() - started) / ran.length;
    return new Set(ran.filter(({ query, result }) => query.take(this.database, result, ms)).map(({ query }) => query));
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
