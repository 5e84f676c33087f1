/**
 * What somebody costs the others who sends whatever an engine must refuse, as fast as it is refused: how long after COMMIT a
 * change is at a client, with and without. Writer, engine, attacker and client are processes of their own.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import { commitToFrame } from "./latency/rounds.ts";
import { createTable, insertRows } from "./latency/rows.ts";
import { median, percentile } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly perSecond: number;
  readonly rounds: number;
  readonly commits: number;
  readonly warmUp: number;
  readonly pauseMs: number;
}

export const hostile: Bench<Parameters> = {
  name: "hostile",
  question: "Do others wait longer for their changes while somebody sends what must be refused?",
  notMeasured:
    "An attack that fills the network, or has more machines than the engine: the attacker has its share of the same cores. The floor is the same client, in turn with it, while nobody attacks.",
  real: { perSecond: 100, rounds: 5, commits: 2_000, warmUp: 300, pauseMs: 1 },
  small: { perSecond: 20, rounds: 1, commits: 12, warmUp: 2, pauseMs: 1 },
  run,
};

const table = "bench_orders";
const rows = 1_000;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-hostile-"));
  const engine = new Part(join(import.meta.dirname, "engine.ts"), postgres.url, table, dataDir);
  try {
    await postgres.query(`${createTable(table)}; ${insertRows(table, rows)}`);
    return await measure(postgres, await engine.says<number>(), parameters, progress);
  } finally {
    await engine.stop();
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function measure(
  postgres: BenchPostgres,
  port: number,
  parameters: Parameters,
  progress: Progress,
): Promise<Figure[]> {
  const { perSecond, rounds, ...times } = parameters;
  const round = { databaseUrl: postgres.url, port, table, rows, ...times };
  const [attacked, alone]: [number[][], number[][]] = [[], []];
  let refused = 0;
  for (let i = 1; i <= rounds; i++) {
    progress(`round ${i} of ${rounds}`);
    alone.push(await commitToFrame(round));
    const attacker = new Part(join(import.meta.dirname, "hostile/attacker.ts"), ...[port, perSecond].map(String));
    await attacker.says();
    attacked.push(await commitToFrame(round));
    attacker.tell("enough");
    refused += await attacker.says<number>();
    await attacker.stop();
  }
  const conditions = { ...parameters, refused };
  const at = (share: number): [number, number] => [
    median(attacked.map((one) => percentile(one, share))),
    median(alone.map((one) => percentile(one, share))),
  ];
  return [
    figure("commit_to_frame_p50_ms", "ms", ...at(0.5), { conditions }),
    figure("commit_to_frame_p99_ms", "ms", ...at(0.99), { conditions }),
  ];
}
