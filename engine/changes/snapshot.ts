/**
 * The first rows of a shape, with the token that says which transactions they contain.
 *
 * The order matters. The log is pinned first, so that whatever the snapshot does not see is still there to be replayed.
 * Then the table is locked ACCESS SHARE, *before* the snapshot exists: TRUNCATE and rewriting ALTERs are not MVCC-safe,
 * and no transaction that changed the table's form can now be invisible to the snapshot. Then the snapshot is taken and
 * only then the barrier is committed: every transaction that the snapshot sees has its commit record before it. So
 * when the barrier has streamed by, the rows plus every streamed transaction that the snapshot does not see are exactly
 * one prefix of the commit order.
 */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { to as copyTo } from "pg-copy-streams";
import { WalcastError } from "../errors.ts";
import type { Log, Pin } from "../log/log.ts";
import type { Lsn } from "../protocol.ts";
import { qualifiedName, quoteLiteral } from "../shapes/name.ts";
import { selectSql, sumSql, type Shape } from "../shapes/shape.ts";
import { parsePgSnapshot, type PgSnapshot } from "./pg-snapshot.ts";
import { Spool } from "./spool.ts";

export interface Snapshot {
  /** Which transactions the rows contain. */
  readonly token: PgSnapshot;
  /** COPY text of the shape's columns; nothing where only changes are wanted. */
  readonly spool: Spool;
  /** Postgres' own guess. */
  readonly estimatedRows: number;
  /** Resolves when the stream has passed the barrier. */
  readonly barrier: Promise<Lsn>;
  /** The log's transactions after a position that the rows may not contain. */
  readonly pin: Pin;
  /** Every holder calls it once; the last one ends what still runs. */
  release(): void;
}

/** The table is not any more what the shape was resolved against: describe it again. */
export class TableMoved extends Error {}

const visiblePollMs = 20;

export class Snapshots {
  private readonly pool: pg.Pool;
  private readonly control: pg.Pool;
  private readonly log: Log;
  private readonly directory: string;
  private readonly running = new Map<string, SharedSnapshot>();
  private readonly clients = new Set<pg.PoolClient>();
  /** Per table, the last of those that want its lock. */
  private readonly locking = new Map<number, Promise<unknown>>();
  /** How many were taken since the start. */
  total = 0;

  constructor(pool: pg.Pool, control: pg.Pool, log: Log, directory: string) {
    this.pool = pool;
    this.control = control;
    this.log = log;
    this.directory = directory;
  }

  /** Those who ask for one shape while its snapshot is in use share it. Rejects with TableMoved or `snapshot_failed`. */
  async open(shape: Shape): Promise<Snapshot> {
    const shared = this.running.get(shape.key) ?? this.start(shape);
    shared.holders++;
    try {
      return await shared.snapshot;
    } catch (error) {
      shared.release();
      throw error;
    }
  }

  /** Ends what is under way, whatever it waits for. */
  close(): void {
    // Ending a client with a query under way breaks its connection, and the query rejects.
    for (const client of this.clients) void client.end();
  }

  private start(shape: Shape): SharedSnapshot {
    const shared = new SharedSnapshot(() => this.running.delete(shape.key));
    this.running.set(shape.key, shared);
    this.total++;
    shared.snapshot = this.take(shape, shared);
    return shared;
  }

  private async take(shape: Shape, shared: SharedSnapshot): Promise<Snapshot> {
    const pin = this.log.pin();
    shared.onEnd(() => pin.release());
    return this.inTurn(shape.table.oid, () => this.takePinned(shape, shared, pin));
  }

  /** One at a time may wait for a table's lock: a long ALTER of one table must not take every connection from the others. */
  private inTurn<T>(oid: number, work: () => Promise<T>): Promise<T> {
    const turn = (this.locking.get(oid) ?? Promise.resolve()).then(work, work);
    this.locking.set(oid, turn);
    const leave = (): unknown => this.locking.get(oid) === turn && this.locking.delete(oid);
    turn.then(leave, leave);
    return turn;
  }

  private async takePinned(shape: Shape, shared: SharedSnapshot, pin: Pin): Promise<Snapshot> {
    if (shared.over) throw nobodyWaits();
    const client = await this.pool.connect();
    this.clients.add(client);
    shared.onEnd(() => this.clients.delete(client));
    try {
      const { token, estimatedRows } = await beginAt(client, shape);
      this.log.learn(token);
      const barrier = this.commitBarrier();
      barrier.catch(() => {}); // Whoever waits for it gets the error too.
      const spool = new Spool(this.directory);
      shared.onEnd(() => void spool.close());
      void copyInto(client, shape, spool, shared);
      return { token, estimatedRows, spool, barrier, pin, release: () => shared.release() };
    } catch (error) {
      client.release(true);
      throw error instanceof TableMoved ? error : snapshotFailed(shape, error);
    }
  }

  /** What the shape's rows sum up to in a snapshot of its own. Rejects with TableMoved. */
  async sum(shape: Shape): Promise<{ token: PgSnapshot; rows: string; hash: string }> {
    const client = await this.pool.connect();
    this.clients.add(client);
    let failure: Error | undefined;
    try {
      const { token } = await beginAt(client, shape);
      const { rows } = await client.query<{ rows: string; hash: string }>(sumSql(shape));
      await client.query("commit");
      return { token, ...rows[0]! };
    } catch (error) {
      failure = error as Error;
      throw error;
    } finally {
      this.clients.delete(client);
      client.release(failure);
    }
  }

  /** Resolves when whatever was streamed up to a position is visible to every later query. */
  async seeing(position: Lsn, cancelled: () => boolean): Promise<void> {
    while (!cancelled()) {
      const { rows } = await this.control.query<{ snapshot: string }>("select pg_current_snapshot()::text as snapshot");
      this.log.learn(parsePgSnapshot(rows[0]!.snapshot));
      const pin = this.log.pin();
      pin.release();
      if (pin.from >= position) return;
      await delay(visiblePollMs);
    }
  }

  /** A transactional message with nothing in it: it makes the transaction worth decoding, so its commit comes by. */
  async commitBarrier(): Promise<Lsn> {
    const { rows } = await this.control.query<{ xid: string }>(
      "select pg_current_xact_id()::text as xid, pg_logical_emit_message(true, 'walcast.barrier', '')",
    );
    return this.log.committed(BigInt(rows[0]!.xid));
  }
}

class SharedSnapshot {
  snapshot!: Promise<Snapshot>;
  holders = 0;
  over = false;
  private readonly endings: (() => void)[];

  constructor(onEnd: () => void) {
    this.endings = [onEnd];
  }

  onEnd(ending: () => void): void {
    if (this.over) ending();
    else this.endings.push(ending);
  }

  release(): void {
    this.holders--;
    if (this.holders > 0 || this.over) return;
    this.over = true;
    for (const ending of this.endings) ending();
  }
}

async function beginAt(client: pg.PoolClient, shape: Shape): Promise<{ token: PgSnapshot; estimatedRows: number }> {
  const name = qualifiedName(shape.table.schema, shape.table.name);
  await client.query(
    "begin isolation level repeatable read read only; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0",
  );
  await client.query(`lock table ${name} in access share mode`).catch(rethrowMissing);
  const { rows } = await client.query<{ snapshot: string; version: string; oid: string | null }>(
    `select pg_current_snapshot()::text as snapshot, walcast.table_version(${shape.table.oid}) as version, to_regclass(${quoteLiteral(name)})::oid::text as oid`,
  );
  const row = rows[0]!;
  if (Number(row.oid) !== shape.table.oid || row.version !== shape.table.version) throw new TableMoved();
  const plan = await client.query<{ "QUERY PLAN": [{ Plan: { "Plan Rows": number } }] }>(
    `explain (format json) ${selectSql(shape)}`,
  );
  return { token: parsePgSnapshot(row.snapshot), estimatedRows: plan.rows[0]!["QUERY PLAN"][0].Plan["Plan Rows"] };
}

const undefinedTable = "42P01";

function rethrowMissing(error: pg.DatabaseError): never {
  throw error.code === undefinedTable ? new TableMoved() : error;
}

async function copyInto(client: pg.PoolClient, shape: Shape, spool: Spool, shared: SharedSnapshot): Promise<void> {
  try {
    if (!shape.changes) await copyRows(client, shape, spool, shared);
    spool.end();
    await client.query("commit");
    client.release();
  } catch (error) {
    spool.fail(snapshotFailed(shape, error));
    client.release(true);
  }
}

async function copyRows(client: pg.PoolClient, shape: Shape, spool: Spool, shared: SharedSnapshot): Promise<void> {
  for await (const chunk of client.query(copyTo(`copy (${selectSql(shape)}) to stdout`))) {
    if (shared.over) throw nobodyWaits();
    await spool.write(chunk as Buffer);
  }
}

function nobodyWaits(): WalcastError {
  return new WalcastError("snapshot_failed", "nobody waits for this snapshot any more");
}

const insufficientPrivilege = "42501";
/** A class of codes: division by zero, a number out of range. */
const dataException = "22";

function snapshotFailed(shape: Shape, cause: unknown): WalcastError {
  if (cause instanceof WalcastError) return cause;
  // Trying again would not help.
  const { code } = cause as pg.DatabaseError;
  if (code === insufficientPrivilege) return unreadable(shape, cause);
  if (shape.predicate.mayFail && code?.startsWith(dataException)) return evaluationFailed(shape, cause as Error);
  return new WalcastError(
    "snapshot_failed",
    `read ${qualifiedName(shape.table.schema, shape.table.name)}: ${(cause as Error).message}`,
    { cause },
  );
}

/** What a rule failed at is not told: it may be a value. The stream says as much. */
function evaluationFailed({ table, predicate }: Shape, cause: Error): WalcastError {
  const what = predicate.ruleMayFail ? "its read rule or `where`" : "`where`";
  const reason = predicate.ruleMayFail ? "" : `: ${cause.message}`;
  const name = qualifiedName(table.schema, table.name);
  return new WalcastError("where_failed", `sync ${name}: ${what} failed for a row${reason}`, { cause });
}

function unreadable(shape: Shape, cause: unknown): WalcastError {
  const name = qualifiedName(shape.table.schema, shape.table.name);
  const hint = `run \`GRANT SELECT ON ${name} TO …\` for the engine's role, and where the table has row-level security, give that role BYPASSRLS: the stream has every row`;
  return new WalcastError("table_unsupported", `read ${name}: the engine's role may not read all of it`, {
    cause,
    hint,
  });
}
