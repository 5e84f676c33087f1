/**
 * What somebody costs the others who sends whatever an engine must refuse, as fast as it is refused: how long after COMMIT a
 * change is at a client, beside one who sends the same to a bare server, and beside nobody. Writer, engine, attacker, bare server and
 * client are processes of their own.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Bench, type Conditions, type Figure, figure, type Progress, type Range } from "./bench.ts";
import { commitToFrame } from "./latency/rounds.ts";
import { createTable, insertRows } from "./latency/rows.ts";
import { inTurn, median, percentile } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  /** How many requests a second. */
  readonly rates: readonly number[];
  /** How many connections the engine lets one address open, as docs/operations.md advises where strangers connect directly. */
  readonly connectsPerMinute: number;
  /** For so long it is attacked before, five times as often as ever after: V8 compiles what refuses only when much was refused. */
  readonly rehearsalMs: number;
  readonly rounds: number;
  readonly commits: number;
  readonly warmUp: number;
  readonly pauseMs: number;
}

export const hostile: Bench<Parameters> = {
  name: "hostile",
  question: "Do others wait longer for their changes while somebody sends what must be refused?",
  notMeasured:
    "An attack that fills the network, or has more machines than the engine: the attacker is on the same cores, and has of them what nobody else wants. The floor is the same client, in turn with it, while the attacker sends the same to a bare server that reads and drops it; for `…_unattacked_…`, while nobody attacks.",
  real: {
    rates: [10, 100],
    connectsPerMinute: 600,
    rehearsalMs: 6_000,
    rounds: 5,
    commits: 2_000,
    warmUp: 300,
    pauseMs: 1,
  },
  brief: { rounds: 1 },
  small: { rates: [20], connectsPerMinute: 600, rehearsalMs: 100, rounds: 1, commits: 12, warmUp: 2, pauseMs: 1 },
  run,
};

const table = "bench_orders";
const rows = 1_000;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-hostile-"));
  const args = [postgres.url, table, dataDir, String(parameters.connectsPerMinute)];
  const engine = new Part(join(import.meta.dirname, "hostile/engine.ts"), ...args);
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
  const { rates, ...conditions } = parameters;
  const { rehearsalMs, rounds } = conditions;
  const round = { databaseUrl: postgres.url, port, table, rows, ...conditions };
  const bare = new Part(join(import.meta.dirname, "hostile/bare.ts"));
  try {
    const barePort = await bare.says<number>();
    for (const one of [port, barePort]) await attacked(one, Math.max(...rates) * 5, () => delay(rehearsalMs));
    const refused = new Map(rates.map((rate) => [rate, 0]));
    const count = (rate: number, more: number): unknown => refused.set(rate, refused.get(rate)! + more);
    const measured = (): Promise<number[]> => commitToFrame(round);
    const contenders: Record<string, () => Promise<number[]>> = { alone: measured };
    for (const rate of rates) {
      contenders[`engine ${rate}`] = () => attacked(port, rate, measured, (more) => count(rate, more));
      contenders[`bare ${rate}`] = () => attacked(barePort, rate, measured);
    }
    const times = await inTurn<Record<string, number[]>>(rounds, contenders, { warmUp: false });
    return rates.flatMap((rate) => {
      progress(`${refused.get(rate)} were refused at ${rate} a second`);
      const results = { alone: times["alone"]!, attacked: times[`engine ${rate}`]!, floor: times[`bare ${rate}`]! };
      return figures(results, { perSecond: rate, ...conditions, refused: refused.get(rate)! });
    });
  } finally {
    await bare.stop();
  }
}

async function attacked<Result>(
  port: number,
  perSecond: number,
  meanwhile: () => Promise<Result>,
  counted: (refused: number) => unknown = () => undefined,
): Promise<Result> {
  const attacker = new Part(join(import.meta.dirname, "hostile/attacker.ts"), ...[port, perSecond].map(String));
  try {
    await attacker.says();
    const result = await meanwhile();
    attacker.tell("enough");
    counted(await attacker.says<number>());
    return result;
  } finally {
    await attacker.stop();
  }
}

/** Attacked beside both floors; and what the others feel where nobody attacks this server, beside the same: so much is the machine's. */
function figures(
  results: Readonly<Record<"alone" | "attacked" | "floor", number[][]>>,
  conditions: Conditions,
): Figure[] {
  const rounds = (contender: keyof typeof results, share: number): number[] =>
    results[contender].map((times) => percentile(times, share));
  const compare = (name: string, share: number, [value, floor]: readonly (keyof typeof results)[]): Figure => ({
    ...figure(name, "ms", median(rounds(value!, share)), median(rounds(floor!, share)), { conditions }),
    range: rangeOf(rounds(value!, share)),
  });
  return [["p50", 0.5] as const, ["p99", 0.99] as const].flatMap(([name, share]) => [
    compare(`commit_to_frame_${name}_ms`, share, ["attacked", "floor"]),
    compare(`commit_to_frame_unattacked_${name}_ms`, share, ["attacked", "alone"]),
    compare(`commit_to_frame_other_attacked_${name}_ms`, share, ["floor", "alone"]),
  ]);
}

function rangeOf(values: readonly number[]): Range {
  return [Math.min(...values), Math.max(...values)];
}
