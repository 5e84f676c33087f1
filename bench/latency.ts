/**
 * How long after COMMIT a change is at a client: from the acknowledgement at the writer to the bytes at a raw WebSocket,
 * and on to the callback of a live query. The writer, what is between, and the client are processes of their own, on one
 * clock. To the bytes, what is between is in turn the engine, pg-logical-replication's service feeding a socket, and the
 * floor; to the callback, the engine with a client, and the floor with a bare PGlite.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { differences } from "./latency/rounds.ts";
import { createTable, insertRows } from "./latency/rows.ts";
import { inTurn, median, percentile } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly rounds: number;
  readonly commits: number;
  /** Commits at the start of a round that do not count: V8 has yet to compile what a commit runs through. */
  readonly warmUp: number;
  readonly pauseMs: number;
  /** Longer than a callback takes, or commits would wait for the ones before. */
  readonly callbackPauseMs: number;
  readonly rows: number;
  /** How many of the newest rows the live query shows. Commits change these in turn: so many in one callback would hide one. */
  readonly top: number;
}

export const latency: Bench<Parameters> = {
  name: "latency",
  question:
    "How long after COMMIT was acknowledged are the row's bytes at a WebSocket client, and in a live query's rows?",
  notMeasured:
    "Load: one commit at a time, one row each, one client, one live query, loopback. The floor is a bare replication connection that feeds one send, and for callbacks a bare PGlite behind it; the peer is pg-logical-replication's service and plugin in the connection's place.",
  real: { rounds: 5, commits: 2_000, warmUp: 1_000, pauseMs: 1, callbackPauseMs: 3, rows: 10_000, top: 50 },
  small: { rounds: 1, commits: 12, warmUp: 2, pauseMs: 1, callbackPauseMs: 5, rows: 200, top: 12 },
  run,
};

const table = "bench_orders";

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-engine-"));
  try {
    await setUp(postgres, parameters);
    const conditions = { postgres: postgres.version, ...parameters };
    return figures(await measure(new Course(postgres, dataDir, parameters), parameters, progress), conditions);
  } finally {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function setUp({ query }: BenchPostgres, { rows }: Parameters): Promise<void> {
  await query(`
    ${createTable(table)};
    ${insertRows(table, rows)};
    alter table ${table} replica identity full;
    create publication bench for table ${table}`);
  await query(`vacuum analyze ${table}`);
}

type Contender = "ours" | "service" | "floor" | "callback" | "callbackFloor";
/** Per contender and round, the latencies in ms. */
type Latencies = Readonly<Record<Contender, readonly (readonly number[])[]>>;

/** Every round starts fresh processes, so a round that only warms up would warm nothing. */
function measure(course: Course, { commits, rounds }: Parameters, progress: Progress): Promise<Latencies> {
  const announced = (name: string, run: () => Promise<number[]>) => () => {
    progress(`${commits} commits through ${name}`);
    return run();
  };
  const contenders = {
    ours: announced("the engine", () => course.frames()),
    service: announced("pg-logical-replication", () => course.bareFrames("service.ts")),
    floor: announced("the floor", () => course.bareFrames("floor.ts")),
    callback: announced("engine and client", () => course.callbacks()),
    callbackFloor: announced("the floor and a bare PGlite", () => course.bareCallbacks()),
  };
  return inTurn(rounds, contenders, { warmUp: false });
}

function figures({ ours, service, floor, callback, callbackFloor }: Latencies, conditions: Conditions): Figure[] {
  // Per round first: a moment in which the machine did something else spoils one round's percentile, not all.
  const at = (rounds: Latencies["ours"], share: number): number =>
    median(rounds.map((round) => percentile(round, share)));
  const besidePeer = { ...conditions, peer: "pg-logical-replication feeding a socket" };
  const frame = (name: string, share: number): Figure =>
    figure(name, "ms", at(ours, share), at(floor, share), { peer: at(service, share), conditions: besidePeer });
  const shown = (name: string, share: number): Figure =>
    figure(name, "ms", at(callback, share), at(callbackFloor, share), { conditions });
  return [
    frame("commit_to_frame_p50_ms", 0.5),
    frame("commit_to_frame_p99_ms", 0.99),
    { figure: "service_share_p50_ms", value: at(service, 0.5) - at(floor, 0.5), unit: "ms", conditions },
    shown("commit_to_callback_p50_ms", 0.5),
    shown("commit_to_callback_p99_ms", 0.99),
  ];
}

/** The ways from the writer to somebody who looks; each gives the latencies of one round. */
class Course {
  private readonly postgres: BenchPostgres;
  private readonly dataDir: string;
  private readonly parameters: Parameters;

  constructor(postgres: BenchPostgres, dataDir: string, parameters: Parameters) {
    this.postgres = postgres;
    this.dataDir = dataDir;
    this.parameters = parameters;
  }

  frames(): Promise<number[]> {
    const { commits, pauseMs } = this.parameters;
    return this.latencies(this.engine(), pauseMs, "reader.ts", commits, table);
  }

  bareFrames(file: string): Promise<number[]> {
    const { commits, pauseMs } = this.parameters;
    return this.throughSlot(() => this.latencies(this.slotPart(file), pauseMs, "reader.ts", commits));
  }

  callbacks(): Promise<number[]> {
    const { commits, callbackPauseMs, top } = this.parameters;
    return this.latencies(this.engine(), callbackPauseMs, "client.ts", commits, table, top);
  }

  bareCallbacks(): Promise<number[]> {
    const { commits, callbackPauseMs, rows, top } = this.parameters;
    return this.throughSlot(() =>
      this.latencies(this.slotPart("floor.ts"), callbackPauseMs, "replica.ts", commits, table, rows, top),
    );
  }

  private engine(): Part {
    return new Part(join(import.meta.dirname, "engine.ts"), this.postgres.url, table, this.dataDir);
  }

  private slotPart(file: string): Part {
    return part(file, this.postgres.url, "bench", "bench");
  }

  /** A slot of its own each time: these acknowledge nothing, and an old slot would send all rounds before again. */
  private async throughSlot(round: () => Promise<number[]>): Promise<number[]> {
    const { query } = this.postgres;
    await query("select pg_create_logical_replication_slot('bench', 'pgoutput')");
    try {
      return await round();
    } finally {
      await query(
        "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = 'bench' and active",
      );
      await query("select pg_drop_replication_slot('bench')");
    }
  }

  /** Whoever looks gets the port of what is between, and then its own arguments. */
  private async latencies(
    between: Part,
    pauseMs: number,
    looks: string,
    ...lookArgs: readonly (string | number)[]
  ): Promise<number[]> {
    const { commits, warmUp, top } = this.parameters;
    const parts = [between];
    try {
      const port = await between.says<number>();
      const looking = part(looks, port, ...lookArgs);
      parts.unshift(looking);
      await looking.says();
      const writer = part("writer.ts", this.postgres.url, table, top, commits, pauseMs);
      parts.unshift(writer);
      const [arrived, acknowledged] = await Promise.all([looking.says<number[]>(), writer.says<number[]>()]);
      return differences(arrived, acknowledged).slice(warmUp);
    } finally {
      for (const part of parts) await part.stop();
    }
  }
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, "latency", file), ...args.map(String));
}
