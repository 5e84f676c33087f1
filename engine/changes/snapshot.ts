/**
 * The first rows of shapes, with the token that says which transactions they contain. The rows plus every streamed
 * transaction that the token does not see are exactly one prefix of the commit order, once a barrier has streamed by that
 * was committed after the snapshot was taken. As that stays true whatever comes later, a snapshot serves all who ask
 * for the shape while it is read, and those after them for as long as the log has what they need beside it.
 */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import type { Log, Pin } from "../log/log.ts";
import type { Lsn } from "../protocol.ts";
import { type Shape, sumSql } from "../shapes/shape.ts";
import { Barriers } from "./barriers.ts";
import { Kept } from "./kept.ts";
import { parsePgSnapshot, type PgSnapshot } from "./pg-snapshot.ts";
import { beginReading, type StreamNames } from "./reading.ts";
import { Readings } from "./readings.ts";
import { SharedSnapshot, type Taken } from "./shared-snapshot.ts";
import { Spool } from "./spool.ts";
import { SpoolMemory } from "./spool-memory.ts";

export interface Snapshot extends Taken {
  /** The same for all who are given these rows, in these pieces. */
  readonly id: string;
  /** The shape's rows; nothing where only changes are wanted. */
  readonly spool: Spool;
  /** The log's transactions after a position that the rows may not contain. */
  readonly pin: Pin;
  /** Every holder calls it once. `mayReturn`: it has not got all, and may come back for the rest. */
  release(how: { readonly mayReturn: boolean }): void;
}

export interface SnapshotsOptions {
  /** Connections for readings alone. */
  readonly pool: pg.Pool;
  readonly control: pg.Pool;
  readonly log: Log;
  readonly stream: StreamNames;
  /** For what is too large for memory. */
  readonly directory: string;
  readonly pieceBytes: number;
  /** On disk, of those that nobody uses at present. */
  readonly keptBytesMax: number;
}

/** Of all that are in use. */
const memoryBytesMax = 64 << 20;

/** Who lost its connection is back by then, or will have to begin again. It is still being read meanwhile. */
const lingerMs = 10_000;

const visiblePollMs = 20;

export class Snapshots {
  private readonly options: SnapshotsOptions;
  private readonly barriers: Barriers;
  private readonly readings: Readings;
  private readonly memory = new SpoolMemory(memoryBytesMax);
  /** The one to use for each shape. */
  private readonly current = new Map<string, SharedSnapshot>();
  /** The same by the oids under which their tables' changes come. */
  private readonly byOid = new Map<number, Set<SharedSnapshot>>();
  readonly kept: Kept;
  /** How many were taken since the start, */
  total = 0;
  /** and how often one was used that was kept. */
  reused = 0;

  constructor(options: SnapshotsOptions) {
    const { pool, control, log, stream, keptBytesMax } = options;
    this.options = options;
    this.barriers = new Barriers(control, log);
    this.readings = new Readings(pool, log, this.barriers, stream);
    this.kept = new Kept({ fileBytes: keptBytesMax }, (shared) => this.end(shared));
  }

  /** Transactions that read rows. */
  get transactions(): number {
    return this.readings.transactions;
  }

  /** Rejects with TableMoved or `snapshot_failed`. */
  async open(shape: Shape): Promise<Snapshot> {
    const shared = this.hold(shape) ?? this.start(shape);
    const mayMiss = shared.hasBegun;
    try {
      const taken = await shared.taken;
      // What was committed before somebody asks is there when it joins.
      const barrier = mayMiss ? both(taken.barrier, this.barriers.passed()) : taken.barrier;
      barrier.catch(() => {}); // Whoever waits for it gets the error too.
      const release: Snapshot["release"] = ({ mayReturn }) => this.release(shared, mayReturn);
      return { ...taken, barrier, id: shared.id, spool: shared.spool, pin: shared.pin, release };
    } catch (error) {
      this.release(shared, false);
      throw error;
    }
  }

  /**
   * The table is not what it was, by transaction `xid` where that is known: nobody else gets what was read of it before. Who has
   * that goes on, and finds out from the log.
   */
  forget(oid: number, xid?: bigint): void {
    for (const shared of this.byOid.get(oid) ?? []) {
      shared.doubt(xid);
      if (shared.isOutdated) this.letGo(shared);
    }
  }

  /** Another history. */
  forgetAll(): void {
    for (const shared of this.current.values()) this.letGo(shared);
  }

  /** The version of each table that rows are there of, by oid. */
  versions(): Map<number, string> {
    const versions = new Map<number, string>();
    for (const [oid, all] of this.byOid)
      for (const { shape } of all) if (shape.table.oid === oid) versions.set(oid, shape.table.version);
    return versions;
  }

  /** Ends what is under way, whatever it waits for. */
  close(): void {
    this.readings.close();
    this.forgetAll();
  }

  private hold(shape: Shape): SharedSnapshot | undefined {
    const shared = this.current.get(shape.key);
    if (!shared) return undefined;
    if (!shared.hold()) {
      this.letGo(shared);
      return undefined;
    }
    if (this.kept.has(shared)) this.reused++;
    this.kept.delete(shared);
    return shared;
  }

  private start(shape: Shape): SharedSnapshot {
    const { log, directory, pieceBytes } = this.options;
    const shared = new SharedSnapshot(shape, new Spool({ directory, pieceBytes, memory: this.memory }), log);
    shared.hold();
    this.current.set(shape.key, shared);
    for (const oid of shared.oids) this.byOid.set(oid, (this.byOid.get(oid) ?? new Set()).add(shared));
    this.total++;
    this.readings.add(shared);
    return shared;
  }

  private release(shared: SharedSnapshot, mayReturn: boolean): void {
    if (--shared.holders > 0) return;
    if (mayReturn && this.isOnItsWay(shared)) return shared.linger(lingerMs, () => this.rest(shared));
    this.rest(shared);
  }

  /** Nobody has held it, and nobody came back. */
  private rest(shared: SharedSnapshot): void {
    if (!this.isWorthKeeping(shared)) return this.end(shared);
    shared.rest();
    this.kept.add(shared);
  }

  private isOnItsWay({ shape, spool }: SharedSnapshot): boolean {
    return this.current.has(shape.key) && !spool.isOver && !spool.isWhole && !shape.changes;
  }

  /** A condition may fail for a row that came and went since, which is nothing to those who ask now. */
  private isWorthKeeping(shared: SharedSnapshot): boolean {
    const { shape, spool } = shared;
    const isCurrent = this.current.get(shape.key) === shared;
    return isCurrent && spool.isWhole && !shared.isOutdated && !shape.changes && !shape.predicate.mayFail;
  }

  private letGo(shared: SharedSnapshot): void {
    this.kept.delete(shared);
    if (this.current.get(shared.shape.key) === shared) this.current.delete(shared.shape.key);
    for (const oid of shared.oids) {
      const others = this.byOid.get(oid);
      if (others?.delete(shared) && others.size === 0) this.byOid.delete(oid);
    }
    if (shared.holders === 0) shared.end();
  }

  private end(shared: SharedSnapshot): void {
    this.letGo(shared);
    shared.end();
  }

  /** What the shape's rows sum up to in a snapshot of its own. Rejects with TableMoved. */
  async sum(shape: Shape): Promise<{ token: PgSnapshot; rows: string; hash: string }> {
    const client = await this.options.pool.connect();
    let failure: Error | undefined;
    try {
      const token = await beginReading(client, shape.table, this.options.stream);
      const { rows } = await client.query<{ rows: string; hash: string }>(sumSql(shape));
      await client.query("commit");
      return { token, ...rows[0]! };
    } catch (error) {
      failure = error as Error;
      throw error;
    } finally {
      client.release(failure);
    }
  }

  /** Resolves when whatever was streamed up to a position is visible to every later query. */
  async seeing(position: Lsn, cancelled: () => boolean): Promise<void> {
    const { control, log } = this.options;
    while (!cancelled()) {
      const { rows } = await control.query<{ snapshot: string }>("select pg_current_snapshot()::text as snapshot");
      log.learn(parsePgSnapshot(rows[0]!.snapshot));
      const pin = log.pin();
      pin.release();
      if (pin.from >= position) return;
      await delay(visiblePollMs);
    }
  }

  /** A barrier of its own: whatever was committed before this call has streamed by when it resolves. */
  commitBarrier(): Promise<Lsn> {
    return this.barriers.passed();
  }
}

/** The second one, once both have streamed by. */
async function both(first: Promise<Lsn>, second: Promise<Lsn>): Promise<Lsn> {
  return (await Promise.all([first, second]))[1];
}
