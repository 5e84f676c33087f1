/**
 * How much may be written before the engine falls behind: transactions of four writers while one client is subscribed, beside what Postgres
 * commits with a bare replication connection attached; and at which rate the client's lag begins to grow.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import { inTurn, median } from "./measure.ts";
import { benchPostgres } from "./postgres.ts";
import { type Measured, Stage } from "./throughput/stage.ts";
import type { WorkloadName } from "./throughput/workloads.ts";

interface Parameters {
  readonly rounds: number;
  /** A first round that does not count. */
  readonly warmUp: boolean;
  /** At the beginning of each round, with the same load. */
  readonly settleMs: number;
  readonly ms: number;
  readonly writers: number;
  readonly workloads: readonly WorkloadName[];
  /** More than before: Postgres takes more commits to the disk at once, and the more there are. */
  readonly sweepWriters: number;
  /** Of the rate at which the others went, who did not wait for a schedule. */
  readonly sweep: readonly number[];
}

export const throughput: Bench<Parameters> = {
  name: "throughput",
  question: "How many transactions per second are followed, and how far behind is a client at the end?",
  notMeasured:
    "Writers on machines of their own: writers, Postgres, the engine and its client share the cores, so the engine's part of them is missing to Postgres. What a client does with the bytes. The floor is the same writers with a bare replication connection attached that keeps nothing.",
  real: {
    rounds: 5,
    warmUp: true,
    settleMs: 1_000,
    ms: 2_000,
    writers: 4,
    workloads: ["uniform", "hot row", "skewed tenants", "TPC-B"],
    sweepWriters: 16,
    sweep: [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2],
  },
  brief: { rounds: 2, workloads: ["uniform", "TPC-B"], sweep: [0.5, 1, 1.5, 2] },
  small: {
    rounds: 1,
    warmUp: false,
    settleMs: 0,
    ms: 50,
    writers: 2,
    workloads: ["TPC-B"],
    sweepWriters: 3,
    sweep: [0.5],
  },
  run,
};

/** Beyond these a client is not following any more. */
const lagAtEndMsMax = 50;
const lagSlopeMax = 5;
/** Of the rate that was wanted; below it Postgres itself is at its end. */
const rateShareMin = 0.97;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const workload of parameters.workloads) {
    const postgres = await benchPostgres();
    const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-throughput-"));
    const stage = new Stage(postgres, dataDir, workload, Math.max(parameters.writers, parameters.sweepWriters));
    try {
      await stage.open();
      figures.push(...(await measure(stage, workload, parameters, progress)));
    } finally {
      await stage.close();
      await postgres.stop();
      await rm(dataDir, { recursive: true, force: true });
    }
  }
  return figures;
}

async function measure(
  stage: Stage,
  workload: WorkloadName,
  parameters: Parameters,
  progress: Progress,
): Promise<Figure[]> {
  const { rounds, warmUp, settleMs, ms, writers, workloads } = parameters;
  progress(`${workload}: ${writers} writers as fast as they can`);
  const conditions = { postgres: stage.version, workload, writers, rounds, settleMs, ms };
  const contenders = {
    ours: () => stage.write("ours", { ms, writers, perSecond: 0 }, settleMs),
    floor: () => stage.write("floor", { ms, writers, perSecond: 0 }, settleMs),
  };
  const { ours, floor } = await inTurn(rounds, contenders, { warmUp });
  const rate = (all: readonly Measured[]): number => median(all.map(({ perSecond }) => perSecond));
  const lag = (all: readonly Measured[]): number => median(all.map(({ lagAtEndMs }) => lagAtEndMs));
  return [
    figure("transactions_per_s", "1/s", rate(ours), rate(floor), { conditions }),
    figure("lag_at_end_ms", "ms", lag(ours), lag(floor), { conditions }),
    ...(workload === workloads[0] ? await rates(stage, rate(ours), parameters, conditions, progress) : []),
  ];
}

/** The knee is the highest rate that was kept while the client's lag did not grow. */
async function rates(
  stage: Stage,
  perSecond: number,
  { settleMs, ms, sweepWriters: writers, sweep }: Parameters,
  besides: Figure["conditions"],
  progress: Progress,
): Promise<Figure[]> {
  const conditions = { ...besides, writers };
  const figures: Figure[] = [];
  const kept: number[] = [];
  for (const share of sweep) {
    const wanted = Math.round(perSecond * share);
    progress(`${wanted} transactions per second`);
    const found = await stage.write("ours", { ms, writers, perSecond: wanted }, settleMs);
    if (isFollowed(found, wanted)) kept.push(found.perSecond);
    const at = { ...conditions, share };
    figures.push(
      { figure: "rate_per_s", value: found.perSecond, unit: "1/s", conditions: at },
      { figure: "lag_p50_ms", value: found.lagMs, unit: "ms", conditions: at },
      { figure: "lag_slope_ms_per_s", value: found.lagSlope, unit: "ms/s", conditions: at },
    );
  }
  const knee = Math.max(0, ...kept);
  assert.ok(Number.isFinite(knee));
  return [{ figure: "knee_per_s", value: knee, unit: "1/s", conditions }, ...figures];
}

function isFollowed({ perSecond, lagAtEndMs, lagSlope }: Measured, wanted: number): boolean {
  return perSecond >= wanted * rateShareMin && lagAtEndMs < lagAtEndMsMax && lagSlope < lagSlopeMax;
}
