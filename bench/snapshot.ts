/**
 * First rows, without a client's work on them: a large table to one socket, against COPY to a bare socket; and one table to many
 * sockets at once, against a server that has the bytes in memory.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { frameKinds } from "../engine/protocol.ts";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { copyOut } from "./first-sync/copy-out.ts";
import { addKey, createTable, insertRows } from "./first-sync/rows.ts";
import { inTurn, median } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly rounds: number;
  readonly rows: number;
  readonly clients: number;
  /** Of the table that all of them ask for. */
  readonly sharedRows: number;
}

export const snapshot: Bench<Parameters> = {
  name: "snapshot",
  question: "How fast do first rows leave the engine, for one client and for many of one shape at once?",
  notMeasured:
    "A network: loopback, and the clients share the machine's cores with Postgres and the engine. What a client does with the rows: these count bytes. Rows that are kept from an earlier load: each round reads anew. The floors are COPY to a bare socket, and a bare uWebSockets.js that sends the same bytes from memory.",
  real: { rounds: 5, rows: 1_000_000, clients: 200, sharedRows: 100_000 },
  // Of the shared table so many that the last client has come before they have gone, on a machine that does more beside.
  brief: { rounds: 2 },
  small: { rounds: 1, rows: 1_000, clients: 3, sharedRows: 20_000 },
  run,
};

const large = "bench_large";
const shared = "bench_shared";
/** As the engine's own. */
const windowBytes = 256 * 1024;
const frameBytes = 256 * 1024;
/** The default of limits.backlogBytesPerConnection. */
const budgetMib = 1;

interface Received {
  readonly ms: number;
  readonly bytes: number;
}

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-snapshot-"));
  try {
    progress("tables are filled");
    await fill(postgres, large, parameters.rows);
    await fill(postgres, shared, parameters.sharedRows);
    const bench = new Snapshots(postgres, directory, parameters, progress);
    return [...(await bench.one()), ...(await bench.many())];
  } finally {
    await postgres.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function fill({ query }: BenchPostgres, table: string, rows: number): Promise<void> {
  await query(`${createTable(table)}; ${insertRows(table, rows)}; ${addKey(table)}`);
  await query(`vacuum analyze ${table}`);
}

class Snapshots {
  private readonly postgres: BenchPostgres;
  private readonly directory: string;
  private readonly parameters: Parameters;
  private readonly progress: Progress;
  private readonly conditions: Conditions;

  constructor(postgres: BenchPostgres, directory: string, parameters: Parameters, progress: Progress) {
    this.postgres = postgres;
    this.directory = directory;
    this.parameters = parameters;
    this.progress = progress;
    this.conditions = { postgres: postgres.version, ...parameters };
  }

  // ── A large table to one client ─────────────────────────────────────────────────────────────────────────────────────

  async one(): Promise<Figure[]> {
    const { rounds, rows } = this.parameters;
    const bytes = (await copyOut(this.postgres.url, large)).lines.length;
    const [engine, floor] = [this.engine(), this.part("copy-floor.ts", this.postgres.url, large)];
    try {
      const port = await engine.says<number>();
      await floor.says();
      const { ours, bare } = await inTurn(rounds, {
        ours: () => this.received(port, 1, large),
        bare: () => this.copied(floor),
      });
      for (const one of ours)
        assert(one.bytes > bytes && one.bytes < bytes * 1.01 + 10_000, `${one.bytes} of ${bytes}`);
      const rate = (all: readonly Received[]): number => (rows * 1_000) / median(all.map(({ ms }) => ms));
      return [figure("rows_per_s", "rows/s", rate(ours), rate(bare), { conditions: this.conditions })];
    } finally {
      await floor.stop();
      await engine.stop();
    }
  }

  private copied(floor: Part): Promise<Received> {
    this.progress(`${this.parameters.rows} rows to a bare socket`);
    floor.tell("go");
    return floor.says();
  }

  // ── One table to many clients ───────────────────────────────────────────────────────────────────────────────────────

  async many(): Promise<Figure[]> {
    const { rounds, clients } = this.parameters;
    const file = join(this.directory, "messages");
    await writeFile(file, messagesOf((await copyOut(this.postgres.url, shared)).lines));
    const engine = this.engine();
    const floor = new Part(join(import.meta.dirname, "catch-up", "floor.ts"), file, String(windowBytes));
    try {
      const [port, floorPort] = [await engine.says<number>(), await floor.says<number>()];
      const before = await memoryMib(engine.pid, "VmRSS");
      const { ours, bare } = await inTurn(rounds, {
        ours: () => this.readOnce(port, () => this.received(port, clients, shared)),
        bare: () => this.received(floorPort, clients, ""),
      });
      const grown = (await memoryMib(engine.pid, "VmHWM")) - before;
      const rate = (all: readonly Received[]): number => median(all.map(({ bytes, ms }) => bytes / ms / 1_000));
      const { conditions } = this;
      return [
        figure("shared_mb_per_s", "MB/s", rate(ours), rate(bare), { conditions }),
        figure("shared_engine_growth_mib", "MiB", grown, budgetMib * clients, { conditions }),
      ];
    } finally {
      await floor.stop();
      await engine.stop();
    }
  }

  /** Whatever the number of clients, Postgres is asked once. */
  private async readOnce(port: number, work: () => Promise<Received>): Promise<Received> {
    const before = await readings(port);
    const received = await work();
    assert.equal((await readings(port)) - before, 1, "one COPY for all");
    return received;
  }

  // ── Processes ───────────────────────────────────────────────────────────────────────────────────────────────────────

  private async received(port: number, clients: number, table: string): Promise<Received> {
    this.progress(`${clients} clients of ${table === "" ? "the floor" : table}`);
    const part = this.part("clients.ts", String(port), String(clients), table);
    try {
      await part.says();
      part.tell("go");
      return await part.says<Received>();
    } finally {
      await part.stop();
    }
  }

  /** Keeps no rows, so that each round reads them. */
  private engine(): Part {
    const directory = join(this.directory, "engine");
    const args = [this.postgres.url, `${large},${shared}`, directory, String(64 << 20), "0"];
    return new Part(join(import.meta.dirname, "engine.ts"), ...args);
  }

  private part(file: string, ...args: readonly string[]): Part {
    return new Part(join(import.meta.dirname, "snapshot", file), ...args);
  }
}

/** Data frames as long as the engine's, each with its length before it; the last is a join, by which a client knows the end. */
function messagesOf(lines: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < lines.length; at += frameBytes) {
    const rows = lines.subarray(at, at + frameBytes);
    const header = Buffer.alloc(4 + 32);
    header.writeUInt32BE(32 + rows.length);
    header[4] = at + frameBytes < lines.length ? frameKinds.copy : frameKinds.join;
    parts.push(header, rows);
  }
  return Buffer.concat(parts);
}

async function readings(port: number): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(/^walcast_snapshots_total (\S+)$/m.exec(metrics)?.[1] ?? Number.NaN);
}

async function memoryMib(pid: number, name: "VmRSS" | "VmHWM"): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)![1]) / 1024;
}
