/** Live queries that somebody asks for before there is anything to run them. */
import { WalcastError } from "../../engine/protocol.ts";
import { Deferred, Listeners } from "../listeners.ts";
import type { LiveOptions, LiveQueries, LiveQuery, LiveStatus } from "../live.ts";
import type { Row } from "../row.ts";

export class PendingQueries {
  private readonly queries = new Map<PendingQuery, (queries: LiveQueries) => LiveQuery<Row>>();
  private failure: WalcastError | undefined;

  add<R>(sql: string, params: readonly unknown[], options: LiveOptions = {}): LiveQuery<R> {
    const query = new PendingQuery(() => this.queries.delete(query));
    if (this.failure) query.refuse(this.failure);
    else this.queries.set(query, (queries) => queries.add<Row>(sql, params, options));
    return query as unknown as LiveQuery<R>;
  }

  /** From now on they are those of `live`. */
  attach(live: LiveQueries): void {
    for (const [query, start] of this.queries) query.attach(start(live));
    this.queries.clear();
  }

  /** They cannot run at all. */
  refuse(error: WalcastError): void {
    this.failure = error;
    for (const query of this.queries.keys()) query.refuse(error);
    this.queries.clear();
  }

  abandon(error: WalcastError): void {
    for (const query of this.queries.keys()) query.abandon(error);
    this.queries.clear();
  }
}

class PendingQuery implements LiveQuery<Row> {
  private readonly leave: () => void;
  private query: LiveQuery<Row> | undefined;
  private failure: WalcastError | undefined;
  private readonly isReady = new Deferred<readonly Row[]>();
  private readonly changeListeners = new Listeners<[]>();
  private readonly starts = new Set<(query: LiveQuery<Row>) => void>();

  constructor(leave: () => void) {
    this.leave = leave;
  }

  get rows(): readonly Row[] {
    return this.query?.rows ?? noRows;
  }

  get status(): LiveStatus {
    return this.query?.status ?? (this.failure ? "error" : "loading");
  }

  get error(): WalcastError | undefined {
    return this.query?.error ?? this.failure;
  }

  get ready(): Promise<readonly Row[]> {
    return this.query?.ready ?? this.isReady.promise;
  }

  subscribe(listener: Parameters<LiveQuery<Row>["subscribe"]>[0]): () => void {
    if (this.query) return this.query.subscribe(listener);
    let end: (() => void) | undefined;
    const start = (query: LiveQuery<Row>): void => void (end = query.subscribe(listener));
    this.starts.add(start);
    return () => {
      this.starts.delete(start);
      end?.();
    };
  }

  onChange(listener: () => void): () => void {
    return this.changeListeners.add(listener);
  }

  close(): void {
    if (this.query) this.query.close();
    else this.abandon(new WalcastError("closed", "wait for a live query: it was closed"));
    this.changeListeners.clear();
    this.leave();
  }

  attach(query: LiveQuery<Row>): void {
    this.query = query;
    query.ready.then(this.isReady.resolve, this.isReady.reject);
    query.onChange(() => this.changeListeners.emit());
    for (const start of this.starts) start(query);
    this.starts.clear();
  }

  refuse(error: WalcastError): void {
    this.failure = error;
    this.isReady.reject(error);
    this.changeListeners.emit();
  }

  abandon(error: WalcastError): void {
    this.isReady.reject(error);
    this.starts.clear();
    this.changeListeners.clear();
  }
}

const noRows: readonly Row[] = [];
