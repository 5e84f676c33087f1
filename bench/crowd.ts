/**
 * What a crowd of subscriptions costs somebody who is not part of it: how long after COMMIT a change is at a client, alone and among a
 * hundred thousand shapes; and how fast they come and go. Writer, engine, crowd and client are processes of their own.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import type { Order } from "./crowd/subscribers.ts";
import { commitToFrame } from "./latency/rounds.ts";
import { createTable, insertRows } from "./latency/rows.ts";
import { median } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly shapes: number;
  readonly sockets: number;
  /** So many shapes are subscribed to and left again. */
  readonly comings: number;
  readonly rounds: number;
  readonly commits: number;
  readonly warmUp: number;
  readonly pauseMs: number;
}

export const crowd: Bench<Parameters> = {
  name: "crowd",
  question: "Does a change take longer to its client where a hundred thousand other shapes are subscribed to?",
  notMeasured:
    "A crowd that works: its shapes have one row each, and of each commit's row one of them gets a frame too. The floor of the latency is the same client with nobody else, before the crowd came and after it went.",
  real: { shapes: 100_000, sockets: 500, comings: 5_000, rounds: 3, commits: 1_000, warmUp: 300, pauseMs: 1 },
  brief: { rounds: 1 },
  small: { shapes: 20, sockets: 4, comings: 8, rounds: 1, commits: 12, warmUp: 2, pauseMs: 1 },
  run,
};

const table = "bench_orders";
/** As many at a time as no part is silent over for too long. */
const ordered = 2_000;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-crowd-"));
  try {
    await setUp(postgres, parameters);
    return await measure(new Scene(postgres, dataDir, parameters), parameters, progress);
  } finally {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function setUp({ query }: BenchPostgres, { shapes, comings }: Parameters): Promise<void> {
  await query(`${createTable(table)}; ${insertRows(table, shapes + comings)}`);
  await query(`vacuum analyze ${table}`);
}

async function measure(scene: Scene, parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const { comings, rounds, shapes } = parameters;
  const port = await scene.open();
  try {
    progress(`${rounds} rounds alone`);
    const alone = [await scene.latency(port)];
    progress(`${shapes} shapes come`);
    const crowd = await scene.crowd(port);
    const comingMs = await subscribe(crowd, shapes, true);
    progress(`${rounds} rounds among them`);
    const among = await scene.latency(port);
    const comeAndGoMs = await subscribe(crowd, comings, false);
    await crowd.stop();
    alone.push(await scene.latency(port));
    return figures(among, Math.min(...alone), { comingMs, comeAndGoMs }, parameters);
  } finally {
    await scene.close();
  }
}

function figures(
  among: number,
  alone: number,
  { comingMs, comeAndGoMs }: { comingMs: number; comeAndGoMs: number },
  { comings, ...parameters }: Parameters,
): Figure[] {
  const conditions = { ...parameters, comings };
  const perSecond = (name: string, count: number, ms: number): Figure => {
    return { figure: name, value: (count / ms) * 1000, unit: "per second", conditions };
  };
  return [
    figure("commit_to_frame_p50_ms", "ms", among, alone, { conditions }),
    perSecond("subscribe_per_s", parameters.shapes, comingMs),
    perSecond("subscribe_unsubscribe_per_s", comings, comeAndGoMs),
  ];
}

/** Milliseconds until the last one had joined, or was gone. */
async function subscribe(crowd: Part, subscriptions: number, stay: boolean): Promise<number> {
  let ms = 0;
  for (let left = subscriptions; left > 0; left -= ordered) {
    crowd.tell({ subscriptions: Math.min(left, ordered), stay } satisfies Order);
    ms += await crowd.says<number>();
  }
  return ms;
}

class Scene {
  private readonly postgres: BenchPostgres;
  private readonly parameters: Parameters;
  private readonly engine: Part;

  constructor(postgres: BenchPostgres, dataDir: string, parameters: Parameters) {
    this.postgres = postgres;
    this.parameters = parameters;
    this.engine = new Part(join(import.meta.dirname, "crowd/engine.ts"), postgres.url, table, dataDir);
  }

  /** The engine's port. */
  open(): Promise<number> {
    return this.engine.says<number>();
  }

  close(): Promise<void> {
    return this.engine.stop();
  }

  async crowd(port: number): Promise<Part> {
    const crowd = part("crowd/subscribers.ts", port, this.parameters.sockets, table);
    await crowd.says();
    return crowd;
  }

  /** The median of the rounds' medians, in ms. */
  async latency(port: number): Promise<number> {
    const medians: number[] = [];
    const { rounds, shapes: rows, commits, warmUp, pauseMs } = this.parameters;
    const round = { databaseUrl: this.postgres.url, port, table, rows, commits, warmUp, pauseMs };
    for (let i = 0; i < rounds; i++) medians.push(median(await commitToFrame(round)));
    return median(medians);
  }
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, file), ...args.map(String));
}
