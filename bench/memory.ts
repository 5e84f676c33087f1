/**
 * What the engine's process holds resident: by itself, with clients that do nothing, with many shapes, and after a backlog. Looked at from
 * outside, when it has come to rest.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseLsn } from "../engine/protocol.ts";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import type { Order } from "./crowd/subscribers.ts";
import { createTable, insertRows } from "./latency/rows.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly clients: number;
  readonly shapes: number;
  /** That the shapes are subscribed from. */
  readonly sockets: number;
  readonly backlogTransactions: number;
  /** Before anything is read: The engine gives back what a burst needed some seconds after it. */
  readonly restMs: number;
}

export const memory: Bench<Parameters> = {
  name: "memory",
  question: "How much memory does the engine's process hold?",
  notMeasured:
    "The kernel's socket buffers, and rows in flight: clients are idle here, and shapes have one row. Resident memory counts the pages of Node's own program and of what it maps, which processes share. The floor is a Node process that has pg and uWebSockets.js loaded and listens.",
  real: { clients: 1_000, shapes: 10_000, sockets: 100, backlogTransactions: 50_000, restMs: 10_000 },
  small: { clients: 3, shapes: 6, sockets: 2, backlogTransactions: 5, restMs: 50 },
  run,
};

const table = "bench_orders";

/** Resident, in MiB. */
interface Held {
  readonly rest: number;
  /** The most since the process began. */
  readonly peak: number;
}

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-memory-"));
  try {
    await postgres.query(`${createTable(table)}; ${insertRows(table, parameters.shapes)}`);
    await postgres.query(`alter table ${table} replica identity full`);
    return await new Memory(postgres, directory, parameters, progress).measure();
  } finally {
    await postgres.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

class Memory {
  private readonly postgres: BenchPostgres;
  private readonly directory: string;
  private readonly parameters: Parameters;
  private readonly progress: Progress;

  constructor(postgres: BenchPostgres, directory: string, parameters: Parameters, progress: Progress) {
    this.postgres = postgres;
    this.directory = directory;
    this.parameters = parameters;
    this.progress = progress;
  }

  async measure(): Promise<Figure[]> {
    const { clients, shapes, sockets, backlogTransactions } = this.parameters;
    const floor = await this.bare();
    const idle = await this.engine("idle", () => Promise.resolve(undefined));
    const crowded = await this.engine(`${clients} clients`, (port) => this.idleClients(port));
    const shaped = await this.engine(`${shapes} shapes`, (port) => this.manyShapes(port));
    const behind = await this.afterBacklog();
    const conditions = { postgres: this.postgres.version, restMs: this.parameters.restMs };
    const rss = (held: Held, holds: Figure["conditions"]): Figure[] => {
      const all = { conditions: { ...conditions, ...holds } };
      return [
        figure("engine_rss_mib", "MiB", held.rest, floor.rest, all),
        figure("engine_rss_peak_mib", "MiB", held.peak, floor.peak, all),
      ];
    };
    const each = (name: string, held: Held, count: number): Figure => {
      const value = ((held.rest - idle.rest) * 2 ** 20) / count;
      return { figure: name, value, unit: "bytes", conditions: { ...conditions, count } };
    };
    return [
      ...rss(idle, { holds: "nothing" }),
      ...rss(crowded, { holds: "idle clients", clients }),
      ...rss(shaped, { holds: "shapes", shapes, sockets }),
      ...rss(behind, { holds: "what is left of a backlog", backlogTransactions }),
      each("bytes_per_client", crowded, clients),
      each("bytes_per_shape", shaped, shapes),
    ];
  }

  private async bare(): Promise<Held> {
    this.progress("a bare process");
    const bare = part("memory/bare.ts");
    await bare.says();
    try {
      return await this.atRest(bare);
    } finally {
      await bare.stop();
    }
  }

  /** Of a fresh engine, while what was done is still so. */
  private async engine(holding: string, work: (port: number) => Promise<Part | undefined>): Promise<Held> {
    this.progress(`an engine: ${holding}`);
    const engine = part("crowd/engine.ts", this.postgres.url, table, join(this.directory, "engine"));
    const others = await work(await engine.says<number>());
    try {
      return await this.atRest(engine);
    } finally {
      await others?.stop();
      await engine.stop();
    }
  }

  private async idleClients(port: number): Promise<Part> {
    const clients = part("memory/clients.ts", port, this.parameters.clients, table);
    await clients.says();
    return clients;
  }

  private async manyShapes(port: number): Promise<Part> {
    const { shapes, sockets } = this.parameters;
    const subscribers = part("crowd/subscribers.ts", port, sockets, table);
    await subscribers.says();
    subscribers.tell({ subscriptions: shapes, stay: true } satisfies Order);
    await subscribers.says<number>();
    assert.equal(await metric(port, "walcast_shapes"), shapes);
    return subscribers;
  }

  private async afterBacklog(): Promise<Held> {
    const { backlogTransactions } = this.parameters;
    const { query } = this.postgres;
    await query("set synchronous_commit = off");
    await query(
      `do $$ begin for i in 1..${backlogTransactions} loop update ${table} set note = 'note ' || i where id = i % 5; commit; end loop; end $$`,
    );
    const [row] = await query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
    await query(`update ${table} set note = '' where id = 0`);
    return this.engine(`a backlog of ${backlogTransactions}`, async (port) => {
      while ((await position(port)) <= parseLsn(row!.lsn)) await delay(20);
      return undefined;
    });
  }

  private async atRest(part: Part): Promise<Held> {
    await delay(this.parameters.restMs);
    const status = await readFile(`/proc/${part.pid}/status`, "utf8");
    const mib = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)![1]) / 1024;
    return { rest: mib("VmRSS"), peak: mib("VmHWM") };
  }
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, file), ...args.map(String));
}

async function position(port: number): Promise<bigint> {
  const health = (await (await fetch(`http://127.0.0.1:${port}/health`)).json()) as { position: string };
  return parseLsn(health.position);
}

async function metric(port: number, name: string): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(metrics)?.[1] ?? Number.NaN);
}
