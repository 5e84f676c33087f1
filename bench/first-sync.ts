/**
 * How fast a table comes into a client for the first time: from `client.sync()` to `ready`, engine and client being
 * processes of their own. Beside it what a bare PGlite takes in, and what Postgres gives out.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { copyOut } from "./first-sync/copy-out.ts";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { addKey, createTable, digestOf, insertRows, type Loaded } from "./first-sync/rows.ts";
import { inTurn, median } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly rounds: number;
  readonly rows: number;
  /** A first round that does not count. The replicas are fresh each time; it is the engine that gets warm. */
  readonly warmUp: boolean;
}

export const firstSync: Bench<Parameters> = {
  name: "first-sync",
  question: "How many rows a second come into a client that has none, and how long does it take to open?",
  notMeasured:
    "A network: loopback. A browser: PGlite in Node, in memory. Many clients at once. The server's part is Postgres' COPY and the engine, on the other core. The floor is one COPY of the same bytes into a bare PGlite, and its primary key; one that begins with the same files as the client's, and for given_rows_per_s one as it comes, given to the client, too.",
  real: { rounds: 5, rows: 100_000, warmUp: true },
  brief: { rounds: 2 },
  small: { rounds: 1, rows: 1_000, warmUp: false },
  run,
};

const table = "bench_orders";

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-engine-"));
  try {
    await setUp(postgres, parameters);
    const { rounds, rows } = parameters;
    const conditions = { postgres: postgres.version, rounds, rows };
    return figures(await measure(postgres, directory, parameters, progress), parameters, conditions);
  } finally {
    await postgres.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function setUp({ query }: BenchPostgres, { rows }: Parameters): Promise<void> {
  await query(`${createTable(table)}; ${insertRows(table, rows)}; ${addKey(table)}`);
  await query(`vacuum analyze ${table}`);
}

interface Results {
  readonly ours: readonly Loaded[];
  readonly floor: readonly Loaded[];
  /** The same on a PGlite that has made its own files. */
  readonly given: readonly Loaded[];
  readonly asItComes: readonly Loaded[];
  /** Milliseconds of COPY out of Postgres. */
  readonly out: readonly number[];
}

async function measure(
  { url, query }: BenchPostgres,
  directory: string,
  { rows, rounds, warmUp }: Parameters,
  progress: Progress,
): Promise<Results> {
  await query("set timezone = 'UTC'");
  const [expected] = await query<{ digest: string }>(digestOf(table));
  const file = join(directory, "rows");
  await writeFile(file, (await copyOut(url, table)).lines);
  const engine = new Part(join(import.meta.dirname, "engine.ts"), url, table, join(directory, "engine"));
  try {
    const port = await engine.says<number>();
    const contenders = {
      ours: () => loaded(progress, `${rows} rows into a client`, expected!.digest, "client.ts", `${port}`),
      floor: () => loaded(progress, `${rows} rows into a bare PGlite`, expected!.digest, "floor.ts", file, "prepared"),
      given: () =>
        loaded(progress, `${rows} rows into a given PGlite`, expected!.digest, "client.ts", `${port}`, "given"),
      asItComes: () =>
        loaded(progress, `${rows} rows into a bare PGlite as it comes`, expected!.digest, "floor.ts", file),
      out: async () => (await copyOut(url, table)).ms,
    };
    return await inTurn(rounds, contenders, { warmUp });
  } finally {
    await engine.stop();
  }
}

function figures(
  { ours, floor, given, asItComes, out }: Results,
  { rows }: Parameters,
  conditions: Conditions,
): Figure[] {
  const rate = (ms: readonly number[]): number => rows / (median(ms) / 1000);
  const loads = (results: readonly Loaded[]): number[] => results.map(({ loadMs }) => loadMs);
  const opens = (results: readonly Loaded[]): number[] => results.map(({ openMs }) => openMs);
  return [
    figure("rows_per_s", "rows/s", rate(loads(ours)), rate(loads(floor)), { conditions }),
    figure("given_rows_per_s", "rows/s", rate(loads(given)), rate(loads(asItComes)), { conditions }),
    { figure: "copy_out_rows_per_s", value: rate(out), unit: "rows/s", conditions },
    figure("open_ms", "ms", median(opens(ours)), median(opens(asItComes)), { conditions }),
  ];
}

/** In a process of its own, which then holds exactly Postgres' rows. */
async function loaded(
  progress: Progress,
  doing: string,
  expected: string,
  file: string,
  source: string,
  how = "",
): Promise<Loaded> {
  progress(doing);
  const part = new Part(join(import.meta.dirname, "first-sync", file), source, table, how);
  try {
    const result = await part.says<Loaded>();
    assert.equal(result.digest, expected);
    return result;
  } finally {
    await part.stop();
  }
}
