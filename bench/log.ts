/**
 * How fast the log takes transactions and gives them back. It is written the way a stream that does not pause writes it: the
 * next batch is encoded while the one before is synced. It is at its bound, as one that is written this hard soon is, and
 * writes over the files that it lets go of. The floor writes as many bytes, in as many batches, to a file that was
 * filled beforehand, with one write and one fdatasync each, and reads that file a MiB at a time.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescribedRelation, Transaction } from "../engine/changes/transaction.ts";
import { type Disk, realDisk } from "../engine/log/disk.ts";
import { DurableLog } from "../engine/log/durable.ts";
import { type Lsn, zeroLsn } from "../engine/protocol.ts";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import { inTurn, median } from "./measure.ts";

interface Parameters {
  readonly transactions: number;
  readonly batch: number;
  readonly bytes: number;
  readonly rounds: number;
}

export const log: Bench<Parameters> = {
  name: "log",
  question: "How many transactions a second does the log make durable, and give back from its files?",
  notMeasured:
    "Receiving and collecting transactions, and the room that a log makes ahead until it is at its bound. What is read back was written just before, so it comes from the kernel's memory.",
  real: { transactions: 250_000, batch: 100, bytes: 200, rounds: 5 },
  brief: { rounds: 3 },
  small: { transactions: 2_000, batch: 100, bytes: 200, rounds: 1 },
  run,
};

// The first rounds fill what is kept.
const segmentBytes = 32 * 1024 * 1024;
const bytesMax = 64 * 1024 * 1024;

/** Between two commits. */
const walBytes = 300;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-log-"));
  try {
    return await measure(directory, parameters, progress);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function measure(directory: string, parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const { transactions, batch, bytes, rounds } = parameters;
  progress(`${transactions} transactions of ${bytes} bytes, ${batch} to a batch, ${rounds} rounds`);
  const contender = await Contender.open(join(directory, "log"));
  const bare = new BareFile(join(directory, "bare"));
  const perSecond = await inTurn(rounds, {
    append: () => contender.append(parameters),
    appendFloor: () => bare.write(contender.recordBytes * batch, transactions / batch, transactions),
    read: () => contender.read(),
    readFloor: () => bare.read(contender.recordBytes),
  });
  await contender.close();
  const conditions = { transactions, batch, bytes, record_bytes: contender.recordBytes };
  return [
    figure("append_per_s", "transactions/s", median(perSecond.append), median(perSecond.appendFloor), { conditions }),
    figure("read_per_s", "transactions/s", median(perSecond.read), median(perSecond.readFloor), { conditions }),
  ];
}

// ── The log ──────────────────────────────────────────────────────────────────────────────────────────────────────────

class Contender {
  private readonly log: DurableLog;
  private readonly wake: { flushed: () => void };
  private readonly disk: CountingDisk;
  private appended = 0;
  /** What one transaction takes. */
  recordBytes = 0;

  private constructor(log: DurableLog, disk: CountingDisk, wake: { flushed: () => void }) {
    this.log = log;
    this.disk = disk;
    this.wake = wake;
  }

  static async open(directory: string): Promise<Contender> {
    const wake = { flushed: (): void => {} };
    const disk = new CountingDisk();
    // In a turn of its own, as the next read from a socket: by then the batch that waited is on its way.
    const log = await openLog(directory, disk, () => setImmediate(() => wake.flushed()));
    await log.startAt(zeroLsn, "bench");
    return new Contender(log, disk, wake);
  }

  /** Transactions a second. */
  async append(parameters: Parameters): Promise<number> {
    const { log, disk } = this;
    const batches = transactionsOf(parameters, this.appended);
    this.appended += parameters.transactions;
    const syncs = disk.syncs;
    const started = performance.now();
    for (const [index, batch] of batches.entries()) {
      const before = log.pendingBytes;
      log.append(batch);
      // Somebody waits for it, or more would be gathered for a while.
      void log.flushed();
      if (index === 1) this.recordBytes = Math.round((log.pendingBytes - before) / batch.length);
      if (index % 100 === 99) this.checkpoint();
      // One batch is on its way to the disk, and one waits: each gets a write and a sync of its own.
      await (before > 0 ? this.flush() : nextTurn());
    }
    while (log.pendingBytes > 0) await this.flush();
    const seconds = (performance.now() - started) / 1000;
    assert.ok(disk.syncs - syncs >= batches.length, "each batch was synced by itself");
    assert.equal(log.recorded, batches.at(-1)!.at(-1)!.commitEnd);
    return parameters.transactions / seconds;
  }

  /** All that it keeps: from its files, but for the last MiB. Transactions a second. */
  async read(): Promise<number> {
    const { start, end } = this.log;
    const started = performance.now();
    let found = 0;
    for await (const batch of this.log.read(start)) found += batch.transactions.length;
    const seconds = (performance.now() - started) / 1000;
    assert.equal(found, Number(end - start) / walBytes);
    return found / seconds;
  }

  close(): Promise<void> {
    return this.log.close();
  }

  /** As the engine does each second: what is seen by all may go. */
  private checkpoint(): void {
    const xmax = this.log.end / BigInt(walBytes) + 1n;
    this.log.learn({ xmin: xmax, xmax, xip: new Set() });
    this.log.checkpoint();
  }

  private flush(): Promise<void> {
    return new Promise((resolve) => (this.wake.flushed = resolve));
  }
}

class CountingDisk implements Disk {
  syncs = 0;

  write(fd: number, parts: readonly Buffer[], position: number): Promise<void> {
    return realDisk.write(fd, parts, position);
  }

  sync(fd: number): Promise<void> {
    this.syncs++;
    return realDisk.sync(fd);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function openLog(directory: string, disk: Disk, onFlushed: () => void): Promise<DurableLog> {
  return DurableLog.open({
    directory,
    retentionMs: 3_600_000,
    bytesMax,
    segmentBytes,
    // As little as can be: what is read back shall come from files.
    tailBytes: 1 << 20,
    disk,
    onFlushed,
    onFailed: (error) => {
      throw error;
    },
  });
}

function transactionsOf({ transactions, batch, bytes }: Parameters, from: number): Transaction[][] {
  const relation: DescribedRelation = {
    oid: 16_384,
    schema: "public",
    name: "orders",
    replicaIdentity: "f",
    columns: [{ name: "id", typeOid: 23, typmod: -1, isKey: true }],
    signature: '[["id",23,-1]]',
  };
  return Array.from({ length: transactions / batch }, (_, index) =>
    Array.from({ length: batch }, (_, place) => {
      const number = from + index * batch + place + 1;
      return {
        commitEnd: BigInt(number * walBytes) as Lsn,
        xid: BigInt(number),
        commitTime: 0n,
        bytes: Buffer.alloc(bytes, number),
        starts: [0, bytes],
        relations: [relation],
        schemaChanges: [],
      };
    }),
  );
}

// ── The floor ────────────────────────────────────────────────────────────────────────────────────────────────────────

class BareFile {
  private readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async write(batchBytes: number, batches: number, transactions: number): Promise<number> {
    const file = fs.openSync(this.path, "w+");
    fs.writeSync(file, Buffer.alloc(batchBytes * batches));
    fs.fsyncSync(file);
    const batch = Buffer.alloc(batchBytes, 1);
    const started = performance.now();
    for (let index = 0; index < batches; index++) {
      await realDisk.write(file, [batch], index * batchBytes);
      await realDisk.sync(file);
    }
    const seconds = (performance.now() - started) / 1000;
    fs.closeSync(file);
    return transactions / seconds;
  }

  async read(recordBytes: number): Promise<number> {
    const file = await fs.promises.open(this.path, "r");
    const { size } = await file.stat();
    const started = performance.now();
    let read = 0;
    for (let bytesRead = -1; bytesRead !== 0; read += bytesRead)
      ({ bytesRead } = await file.read(Buffer.allocUnsafeSlow(1 << 20), 0, 1 << 20, read));
    const seconds = (performance.now() - started) / 1000;
    assert.equal(read, size);
    await file.close();
    return size / recordBytes / seconds;
  }
}
