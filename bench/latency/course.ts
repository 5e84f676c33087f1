/** The ways from a writer's COMMIT to somebody who looks; each gives the latencies of one round. All parts are processes of their own. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BenchPostgres, benchPostgres } from "../postgres.ts";
import { Part } from "../processes.ts";
import { differences } from "./rounds.ts";
import { createTable, insertRows } from "./rows.ts";

export interface CourseParameters {
  readonly commits: number;
  /** Commits at the start of a round that do not count: V8 has yet to compile what a commit runs through. */
  readonly warmUp: number;
  readonly pauseMs: number;
  /** Longer than a callback takes, or commits would wait for the ones before. */
  readonly callbackPauseMs: number;
  readonly rows: number;
  /** How many of the newest rows the live query shows. Commits change these in turn: so many in one callback would hide one. Fewer than commits, or a round would see marks of the one before. */
  readonly top: number;
}

const table = "bench_orders";

/** With a Postgres of its own, which has the rows; both are gone afterwards. */
export async function onCourse<Result>(
  parameters: CourseParameters,
  work: (course: Course, version: string) => Promise<Result>,
): Promise<Result> {
  const postgres = await benchPostgres();
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-engine-"));
  try {
    await setUp(postgres, parameters);
    return await work(new Course(postgres, dataDir, parameters), postgres.version);
  } finally {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function setUp({ query }: BenchPostgres, { rows }: CourseParameters): Promise<void> {
  await query(`
    ${createTable(table)};
    ${insertRows(table, rows)};
    alter table ${table} replica identity full;
    create publication bench for table ${table}`);
  await query(`vacuum analyze ${table}`);
}

export class Course {
  private readonly postgres: BenchPostgres;
  private readonly dataDir: string;
  private readonly parameters: CourseParameters;

  constructor(postgres: BenchPostgres, dataDir: string, parameters: CourseParameters) {
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

  /** `file`: who upserts what a bare feed sends, and looks at the newest rows. */
  bareCallbacks(file: "replica.ts" | "extension.ts" | "collection.ts"): Promise<number[]> {
    const { commits, callbackPauseMs, rows, top } = this.parameters;
    return this.throughSlot(() =>
      this.latencies(this.slotPart("floor.ts"), callbackPauseMs, file, commits, table, rows, top),
    );
  }

  private engine(): Part {
    return new Part(join(import.meta.dirname, "..", "engine.ts"), this.postgres.url, table, this.dataDir);
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

  /** Of whoever else is between, given where Postgres is, or "engine", and whoever looks there; files are named from here. */
  others(
    between: readonly (string | number)[],
    looks: string,
    ...lookArgs: readonly (string | number)[]
  ): Promise<number[]> {
    const { commits, callbackPauseMs } = this.parameters;
    const [file, ...args] = between;
    const service = file === "engine" ? this.engine() : part(String(file), this.postgres.url, ...args);
    return this.latencies(service, callbackPauseMs, looks, commits, ...lookArgs);
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
      const [arrived, acknowledged] = await Promise.all([
        looking.says<number[] | number[][]>(),
        writer.says<number[]>(),
      ]);
      const clients = isOfEach(arrived) ? arrived : [arrived];
      return clients.flatMap((one) => differences(one, acknowledged).slice(warmUp));
    } finally {
      for (const part of parts) await part.stop();
    }
  }
}

/** Whether many looked, not one. */
function isOfEach(arrived: number[] | number[][]): arrived is number[][] {
  return Array.isArray(arrived[0]);
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, file), ...args.map(String));
}
