/**
 * What somebody costs the others who sends whatever an engine must refuse, as fast as it is refused: how long after COMMIT a
 * change is at a client, beside one who sends the same to a bare server, and beside nobody. Writer, engine, attacker, bare server and
 * client are processes of their own.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { commitToFrame, type Round } from "./latency/rounds.ts";
import { createTable, insertRows } from "./latency/rows.ts";
import { inTurn, median, percentile } from "./measure.ts";
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
    "An attack that fills the network, or has more machines than the engine: the attacker has its share of the same cores. The floor is the same client, in turn with it, while the attacker sends the same to a bare server that reads and drops it; for `…_unattacked_…`, while nobody attacks.",
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
  const bare = new Part(join(import.meta.dirname, "hostile/bare.ts"));
  try {
    const barePort = await bare.says<number>();
    let refused = 0;
    const results = await inTurn(
      rounds,
      {
        alone: () => commitToFrame(round),
        attacked: () => whileAttacking(port, perSecond, round, (count) => (refused += count)),
        floor: () => whileAttacking(barePort, perSecond, round),
      },
      { warmUp: false },
    );
    progress(`${refused} were refused`);
    return figures(results, { ...parameters, refused });
  } finally {
    await bare.stop();
  }
}

async function whileAttacking(
  port: number,
  perSecond: number,
  round: Round,
  counted: (refused: number) => void = () => undefined,
): Promise<number[]> {
  const attacker = new Part(join(import.meta.dirname, "hostile/attacker.ts"), ...[port, perSecond].map(String));
  try {
    await attacker.says();
    const times = await commitToFrame(round);
    attacker.tell("enough");
    counted(await attacker.says<number>());
    return times;
  } finally {
    await attacker.stop();
  }
}

function figures(
  results: Readonly<Record<"alone" | "attacked" | "floor", number[][]>>,
  conditions: Conditions,
): Figure[] {
  const at = (contender: keyof typeof results, share: number): number =>
    median(results[contender].map((times) => percentile(times, share)));
  const figuresAt = (name: string, share: number): Figure[] => [
    figure(`commit_to_frame_${name}_ms`, "ms", at("attacked", share), at("floor", share), { conditions }),
    figure(`commit_to_frame_unattacked_${name}_ms`, "ms", at("attacked", share), at("alone", share), { conditions }),
  ];
  return [...figuresAt("p50", 0.5), ...figuresAt("p99", 0.99)];
}
