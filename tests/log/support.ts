/** Logs in directories of their own, and transactions for them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import type { DescribedRelation, SchemaChange, Transaction } from "../../engine/changes/transaction.ts";
import type { PgSnapshot } from "../../engine/changes/pg-snapshot.ts";
import { type Disk, realDisk } from "../../engine/log/disk.ts";
import { DurableLog, type DurableLogOptions } from "../../engine/log/durable.ts";
import type { Log } from "../../engine/log/log.ts";
import { type Lsn, zeroLsn } from "../../engine/protocol.ts";

export const lsn = (position: number | bigint): Lsn => BigInt(position) as Lsn;

interface Content {
  readonly tables?: readonly number[];
  readonly bytes?: number;
  readonly messages?: number;
  readonly schemaChanges?: readonly SchemaChange[];
}

/** Each has bytes that no other has, in as many messages. */
export function transaction(xid: number, commitEnd: number, content: Content = {}): Transaction {
  const { tables = [16_384], bytes = 200, messages = 2, schemaChanges = [] } = content;
  return {
    xid: BigInt(xid),
    commitEnd: lsn(commitEnd),
    commitTime: BigInt(commitEnd) * 1_000n,
    bytes: Buffer.alloc(bytes, `${xid},`),
    starts: Array.from({ length: messages + 1 }, (_, i) => Math.floor((bytes * i) / Math.max(messages, 1))),
    relations: tables.map(relation),
    schemaChanges,
  };
}

/** The transaction number `index` of a log that is written by rule, so that what is found can be told from what was written. */
export function transactionAt(index: number): Transaction {
  const bytes = 1 + ((index * 37) % 500);
  return transaction(index, index * 10, { bytes, tables: [1 + (index % 3)], messages: 1 + (index % 4) });
}

const relations = new Map<number, DescribedRelation>();

function relation(oid: number): DescribedRelation {
  const known = relations.get(oid);
  const described: DescribedRelation = known ?? {
    oid,
    schema: "public",
    name: `table "${oid}"`,
    replicaIdentity: "f",
    columns: [{ name: "id", typeOid: 23, typmod: -1, isKey: true }],
    signature: '[["id",23,-1]]',
  };
  relations.set(oid, described);
  return described;
}

type Options = Partial<DurableLogOptions>;

interface OpenedLog {
  readonly directory: string;
  readonly log: DurableLog;
  /** Another process' life: nothing of the one before is closed in order. */
  reopen(options?: Options): Promise<DurableLog>;
}

const waiting = new WeakMap<DurableLog, Set<() => void>>();

/** A log that begins at zero, unless the directory holds one. */
export async function openLog(t: TestContext, options: Options = {}): Promise<OpenedLog> {
  const directory = options.directory ?? (await mkdtemp(path.join(tmpdir(), "walcast-log-")));
  let current: DurableLog | undefined;
  t.after(async () => {
    await current?.close();
    await rm(directory, { recursive: true, force: true });
  });
  const reopen = async (more: Options = {}): Promise<DurableLog> => {
    await current?.close();
    current = await open({ ...options, directory, ...more });
    return current;
  };
  const log = await reopen();
  if (log.history === undefined) await log.startAt(zeroLsn, "history");
  return { directory, log, reopen };
}

export async function open(options: Options & { readonly directory: string }): Promise<DurableLog> {
  const events = new Set<() => void>();
  const tell = (): void => events.forEach((event) => event());
  const log = await DurableLog.open({
    retentionMs: 3_600_000,
    bytesMax: 1 << 30,
    segmentBytes: 16 * 1024,
    tailBytes: 4 * 1024,
    ...options,
    onFlushed: () => {
      options.onFlushed?.();
      tell();
    },
    onFailed: (error) => options.onFailed?.(error),
  });
  waiting.set(log, events);
  return log;
}

/** Resolves when everything that was appended is durable. */
export async function flushed(log: DurableLog): Promise<void> {
  while (log.pendingBytes > 0) await nextFlush(log);
}

function nextFlush(log: DurableLog): Promise<void> {
  const events = waiting.get(log)!;
  return new Promise((resolve) => {
    const event = (): void => {
      events.delete(event);
      resolve();
    };
    events.add(event);
  });
}

export async function readAll(log: Log, after: Lsn = zeroLsn, tables?: ReadonlySet<number>): Promise<Transaction[]> {
  const found: Transaction[] = [];
  for await (const { transactions } of log.read(after, tables)) found.push(...transactions);
  return found;
}

/** A snapshot that sees everything below `xmax` but `xip`. */
export function sees(xmax: number, ...xip: number[]): PgSnapshot {
  return { xmin: BigInt(Math.min(xmax, ...xip)), xmax: BigInt(xmax), xip: new Set(xip.map(BigInt)) };
}

/** A disk that makes nothing durable until it is told to, or refuses with an error. */
export class GatedDisk implements Disk {
  private gate: PromiseWithResolvers<void> | undefined;
  private reached = Promise.withResolvers<void>();
  private refusals = 0;
  private watching: (() => void) | undefined;
  /** What it refuses every write with. */
  refusal: NodeJS.ErrnoException | undefined;

  hold(): void {
    this.gate = Promise.withResolvers();
    this.reached = Promise.withResolvers();
  }

  release(): void {
    this.gate?.resolve();
    this.gate = undefined;
  }

  /** Resolves when a sync is being held. */
  get held(): Promise<void> {
    return this.reached.promise;
  }

  /** Resolves when so many calls have been refused. */
  async refused(times: number): Promise<void> {
    while (this.refusals < times) await new Promise<void>((resolve) => (this.watching = resolve));
  }

  private refuse(): void {
    if (!this.refusal) return;
    this.refusals++;
    this.watching?.();
    throw this.refusal;
  }

  async write(fd: number, parts: readonly Buffer[], position: number): Promise<void> {
    this.refuse();
    await realDisk.write(fd, parts, position);
  }

  async sync(fd: number): Promise<void> {
    this.refuse();
    if (this.gate) this.reached.resolve();
    await this.gate?.promise;
    await realDisk.sync(fd);
  }
}
