/**
 * How long after COMMIT a row is at a client: from the acknowledgement at the writer to the bytes at a raw WebSocket. The
 * writer, what is between, and the client are processes of their own, on one clock. What is between is in turn the
 * engine, pg-logical-replication's service feeding a socket, and the floor.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { inTurn, median, percentile } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly rounds: number;
  readonly commits: number;
  /** Commits at the start of a round that do not count: V8 has yet to compile what a commit runs through. */
  readonly warmUp: number;
  readonly pauseMs: number;
}

export const latency: Bench<Parameters> = {
  name: "latency",
  question: "How long after COMMIT was acknowledged are the row's bytes at a WebSocket client?",
  notMeasured:
    "Load: one commit at a time, one row each, one client, loopback. What the client does with the bytes. The floor is a bare replication connection that feeds one send; the peer is the same through pg-logical-replication's service and plugin.",
  real: { rounds: 5, commits: 2_000, warmUp: 1_000, pauseMs: 1 },
  small: { rounds: 1, commits: 12, warmUp: 2, pauseMs: 1 },
  run,
};

const table = "bench_orders";
const rows = 1_000;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-engine-"));
  try {
    await setUp(postgres);
    const conditions = { postgres: postgres.version, ...parameters, peer: "pg-logical-replication feeding a socket" };
    return figures(await measure(postgres, dataDir, parameters, progress), conditions);
  } finally {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function setUp({ query }: BenchPostgres): Promise<void> {
  await query(`
    create table ${table} (id int primary key, customer_id int not null, status text not null, amount numeric(10,2) not null, note text not null);
    insert into ${table} select i, 1 + i % 100, 'pending', i * 1.37, '' from generate_series(0, ${rows - 1}) i;
    alter table ${table} replica identity full;
    create publication bench for table ${table}`);
  await query(`vacuum analyze ${table}`);
}

/** Per contender and round, the latencies in ms. */
type Latencies = Readonly<Record<"ours" | "service" | "floor", readonly (readonly number[])[]>>;

/** Every round starts fresh processes, so a round that only warms up would warm nothing. */
function measure(
  postgres: BenchPostgres,
  dataDir: string,
  parameters: Parameters,
  progress: Progress,
): Promise<Latencies> {
  const announced = (name: string, run: () => Promise<number[]>) => () => {
    progress(`${parameters.commits} commits through ${name}`);
    return run();
  };
  const contenders = {
    ours: announced("the engine", () => throughEngine(postgres, dataDir, parameters)),
    service: announced("pg-logical-replication", () => throughSlot(postgres, "service.ts", parameters)),
    floor: announced("the floor", () => throughSlot(postgres, "floor.ts", parameters)),
  };
  return inTurn(parameters.rounds, contenders, { warmUp: false });
}

function figures({ ours, service, floor }: Latencies, conditions: Conditions): Figure[] {
  // Per round first: a moment in which the machine did something else spoils one round's percentile, not all.
  const at = (rounds: Latencies["ours"], share: number): number =>
    median(rounds.map((round) => percentile(round, share)));
  const beside = (name: string, share: number): Figure =>
    figure(name, "ms", at(ours, share), at(floor, share), { peer: at(service, share), conditions });
  return [
    beside("commit_to_frame_p50_ms", 0.5),
    beside("commit_to_frame_p99_ms", 0.99),
    { figure: "service_share_p50_ms", value: at(service, 0.5) - at(floor, 0.5), unit: "ms", conditions },
  ];
}

async function throughEngine({ url }: BenchPostgres, dataDir: string, parameters: Parameters): Promise<number[]> {
  return latencies(url, new Part(partFile("engine.ts"), url, table, dataDir), parameters, table);
}

/** A slot of its own each time: these acknowledge nothing, and an old slot would send all rounds before again. */
async function throughSlot({ url, query }: BenchPostgres, file: string, parameters: Parameters): Promise<number[]> {
  await query("select pg_create_logical_replication_slot('bench', 'pgoutput')");
  try {
    return await latencies(url, new Part(partFile(file), url, "bench", "bench"), parameters);
  } finally {
    await query(
      "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = 'bench' and active",
    );
    await query("select pg_drop_replication_slot('bench')");
  }
}

async function latencies(
  url: string,
  between: Part,
  { commits, warmUp, pauseMs }: Parameters,
  subscribeTo?: string,
): Promise<number[]> {
  const parts = [between];
  try {
    const port = await between.says<number>();
    const reader = new Part(
      partFile("reader.ts"),
      `${port}`,
      `${commits}`,
      ...(subscribeTo === undefined ? [] : [subscribeTo]),
    );
    parts.push(reader);
    await reader.says();
    const writer = new Part(partFile("writer.ts"), url, table, `${rows}`, `${commits}`, `${pauseMs}`);
    parts.push(writer);
    const [arrived, acknowledged] = await Promise.all([reader.says<number[]>(), writer.says<number[]>()]);
    return differences(arrived, acknowledged).slice(warmUp);
  } finally {
    for (const part of parts) await part.stop();
  }
}

/** Milliseconds per commit; each must have arrived, and in order. */
function differences(arrived: readonly number[], acknowledged: readonly number[]): number[] {
  assert.equal(arrived.length, acknowledged.length);
  return acknowledged.map((at, number) => {
    assert.ok(
      arrived[number]! >= (arrived[number - 1] ?? 0),
      `commit ${number} arrived, and not before the one before`,
    );
    return (arrived[number]! - at) / 1e6;
  });
}

function partFile(name: string): string {
  return join(import.meta.dirname, "latency", name);
}
