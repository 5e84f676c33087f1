/**
 * Reads first rows, with few connections. Small shapes of one table that are wanted at the same time are read in one transaction; a
 * large one has a transaction of its own, as the others would wait for it. Only one table's lock is ever waited for in
 * a transaction, while it holds no other: two that wait for each other could take somebody's DDL down with them.
 */
import { setImmediate } from "node:timers/promises";
import type pg from "pg";
import { WalcastError } from "../errors.ts";
import type { Log } from "../log/log.ts";
import { qualifiedName } from "../shapes/name.ts";
import { selectSql, type Shape } from "../shapes/shape.ts";
import type { Barriers } from "./barriers.ts";
import { breakOff, isPostgresAway } from "./connection.ts";
import { copyOut } from "./copy-out.ts";
import { beginReading, estimate, type StreamNames, TableMoved } from "./reading.ts";
import type { Taken } from "./shared-snapshot.ts";
import type { Spool } from "./spool.ts";

/** Rows that somebody waits for. */
export interface Wanted {
  readonly shape: Shape;
  readonly spool: Spool;
  /** Nobody waits any more. */
  readonly isOver: boolean;
  /** The transaction that reads it is about to begin. It may be given up, and begun again. */
  begin(): void;
  /** Its rows are about to come. */
  succeed(taken: Taken): void;
  fail(error: unknown): void;
  cancel: () => void;
}

/** Of one transaction. Each waits for those before it, by about a millisecond each. */
const togetherMax = 64;
/** By Postgres' own guess. */
const smallBytesMax = 1 << 20;

const nothing = (): void => {};

interface Queue {
  together: Wanted[];
  /** Each is read alone: it is large, or something went wrong while it was read with others. */
  alone: Wanted[];
}

export class Readings {
  private readonly pool: pg.Pool;
  private readonly log: Log;
  private readonly barriers: Barriers;
  private readonly stream: StreamNames;
  /** By the table's oid. One at a time may wait for a table's lock: a long ALTER of one table must not take every connection from the others. */
  private readonly queues = new Map<number, Queue>();
  private readonly clients = new Set<pg.PoolClient>();
  /** Transactions so far. */
  transactions = 0;

  constructor(pool: pg.Pool, log: Log, barriers: Barriers, stream: StreamNames) {
    this.stream = stream;
    this.pool = pool;
    this.log = log;
    this.barriers = barriers;
  }

  add(wanted: Wanted): void {
    this.queueOf(wanted).together.push(wanted);
  }

  /** Ends what is under way, whatever it waits for. */
  close(): void {
    this.clients.forEach(breakOff);
  }

  private queueOf({ shape }: Wanted): Queue {
    const { oid } = shape.table;
    const known = this.queues.get(oid);
    if (known) return known;
    const queue: Queue = { together: [], alone: [] };
    this.queues.set(oid, queue);
    void this.serve(oid, queue);
    return queue;
  }

  private async serve(oid: number, queue: Queue): Promise<void> {
    // Whoever asks in this turn of the event loop goes along.
    await setImmediate();
    while (queue.together.length + queue.alone.length > 0) await this.readNext(queue);
    this.queues.delete(oid);
  }

  /** Ends when the table's lock is not waited for any more. */
  private async readNext(queue: Queue): Promise<void> {
    let client: pg.PoolClient;
    try {
      client = await this.pool.connect();
    } catch (error) {
      for (const wanted of takeAll(queue)) wanted.fail(error);
      return;
    }
    const some = takeSome(queue);
    if (some.length === 0) return client.release();
    this.clients.add(client);
    try {
      const begun = await this.begin(client, some);
      void this.readAll(client, some, begun);
    } catch (error) {
      for (const wanted of some) wanted.fail(error instanceof TableMoved ? error : snapshotFailed(wanted.shape, error));
      this.release(client, some, error);
    }
  }

  /** Once the snapshot is there the barrier is committed: every transaction that the snapshot sees has its commit record before it. */
  private async begin(client: pg.PoolClient, some: readonly Wanted[]): Promise<Omit<Taken, "estimatedRows">> {
    if (some.length === 1) some[0]!.cancel = () => breakOff(client);
    for (const wanted of some) wanted.begin();
    this.transactions++;
    const token = await beginReading(client, some[0]!.shape.table, this.stream);
    this.log.learn(token);
    const barrier = this.barriers.passed();
    barrier.catch(() => {}); // Whoever waits for it gets the error too.
    return { token, barrier };
  }

  private async readAll(
    client: pg.PoolClient,
    some: readonly Wanted[],
    begun: Omit<Taken, "estimatedRows">,
  ): Promise<void> {
    const left = [...some];
    try {
      const estimates = await estimate(
        client,
        some.map(({ shape }) => shape),
      );
      for (const [i, wanted] of some.entries()) {
        left.shift();
        if (some.length > 1 && estimates[i]!.bytes > smallBytesMax) this.queueOf(wanted).alone.push(wanted);
        else await read(client, wanted, { ...begun, estimatedRows: estimates[i]!.rows });
      }
      await client.query("commit");
      this.release(client, some);
    } catch (error) {
      this.release(client, some, error);
      this.readAgain(left, some.length > 1, error);
    }
  }

  /** One that fails ends the transaction of the others. Which one it was is not always known. */
  private readAgain(left: readonly Wanted[], isShared: boolean, error: unknown): void {
    for (const wanted of left)
      if (isShared && !isPostgresAway(error)) this.queueOf(wanted).alone.push(wanted);
      else wanted.fail(snapshotFailed(wanted.shape, error));
  }

  private release(client: pg.PoolClient, some: readonly Wanted[], error?: unknown): void {
    this.clients.delete(client);
    for (const wanted of some) wanted.cancel = nothing;
    client.release(error !== undefined);
  }
}

function takeAll(queue: Queue): Wanted[] {
  return [...queue.together.splice(0), ...queue.alone.splice(0)];
}

/** Of one version of the table: the others are told that it moved when their turn comes. */
function takeSome(queue: Queue): Wanted[] {
  queue.alone = queue.alone.filter(({ isOver }) => !isOver);
  if (queue.alone.length > 0) return queue.alone.splice(0, 1);
  const waiting = queue.together.filter(({ isOver }) => !isOver);
  const some = waiting.filter(({ shape }) => shape.table.version === waiting[0]!.shape.table.version);
  const taken = new Set(some.slice(0, togetherMax));
  queue.together = waiting.filter((wanted) => !taken.has(wanted));
  return [...taken];
}

async function read(client: pg.PoolClient, wanted: Wanted, taken: Taken): Promise<void> {
  const { shape, spool } = wanted;
  wanted.succeed(taken);
  try {
    // Who wants changes only wants no rows first.
    if (!shape.changes && !wanted.isOver) await copyOut(client, selectSql(shape), spool);
    spool.end();
  } catch (error) {
    wanted.fail(snapshotFailed(shape, error));
    throw error;
  }
}

const insufficientPrivilege = "42501";
/** Division by zero, a number out of range, and that NaN is no integer. */
const evaluationErrors = /^22|^0A000$/;

function snapshotFailed(shape: Shape, cause: unknown): WalcastError {
  if (cause instanceof WalcastError) return cause;
  // Trying again would not help.
  const { code } = cause as pg.DatabaseError;
  if (code === insufficientPrivilege) return unreadable(shape, cause);
  if (shape.predicate.mayFail && code !== undefined && evaluationErrors.test(code))
    return evaluationFailed(shape, cause as Error);
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
  return new WalcastError(
    predicate.ruleMayFail ? "forbidden" : "where_failed",
    `sync ${name}: ${what} failed for a row${reason}`,
    { cause },
  );
}

function unreadable(shape: Shape, cause: unknown): WalcastError {
  const name = qualifiedName(shape.table.schema, shape.table.name);
  const hint = `run \`GRANT SELECT ON ${name} TO …\` for the engine's role, and where the table has row-level security, give that role BYPASSRLS: the stream has every row`;
  return new WalcastError("table_unsupported", `read ${name}: the engine's role may not read all of it`, {
    cause,
    hint,
  });
}
