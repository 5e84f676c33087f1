/** How many transactions a second come to a client while four writers go as fast as Postgres answers. */
import { join } from "node:path";
import type { Figure } from "../bench.ts";
import { inTurn } from "../measure.ts";
import { benchPostgres } from "../postgres.ts";
import { Part } from "../processes.ts";
import { Stage } from "../throughput/stage.ts";
import type { Order, Written } from "../throughput/writers.ts";
import { beside, type Circumstances, names } from "./beside.ts";

export interface ThroughputParameters {
  readonly rounds: number;
  readonly ms: number;
  readonly writers: number;
}

interface Followed {
  /** Transactions, over the time until the client had the last of them. */
  readonly perSecond: number;
  readonly committedPerSecond: number;
  readonly lagAtEndMs: number;
}

export async function throughputFigures(
  { rounds, ms, writers }: ThroughputParameters,
  { zero, directory, progress }: Circumstances,
): Promise<Figure[]> {
  if (!zero) return [];
  const postgres = await benchPostgres();
  const stage = new Stage(postgres, join(directory, "throughput"), "uniform", writers);
  try {
    progress(`${writers} writers as fast as they can`);
    await stage.open();
    const file = join(directory, "written.db");
    const results = await inTurn(
      rounds,
      {
        ours: () => ourRound(stage, { ms, writers, perSecond: 0 }),
        theirs: () => zeroRound(postgres.url, file, writers, ms),
      },
      { warmUp: false },
    );
    const conditions = { postgres: postgres.version, writers, rounds, ms, peer: names.zeroFollowing! };
    const figureOf = (name: string, unit: string, of: (round: Followed) => number): Figure =>
      beside(name, unit, results.ours.map(of), results.theirs.map(of), conditions);
    return [
      figureOf("followed_per_s", "1/s", ({ perSecond }) => perSecond),
      figureOf("committed_per_s", "1/s", ({ committedPerSecond }) => committedPerSecond),
      figureOf("lag_at_end_ms", "ms", ({ lagAtEndMs }) => lagAtEndMs),
    ];
  } finally {
    await stage.close();
    await postgres.stop();
  }
}

async function ourRound(stage: Stage, order: Order): Promise<Followed> {
  const { perSecond, lagAtEndMs } = await stage.write("ours", order, 0);
  return followed((perSecond * order.ms) / 1_000, order.ms, lagAtEndMs);
}

async function zeroRound(url: string, file: string, writers: number, ms: number): Promise<Followed> {
  const parts: Part[] = [];
  const part = (name: string, ...args: readonly (string | number)[]): Part => {
    const started = new Part(join(import.meta.dirname, name), ...args.map(String));
    parts.unshift(started);
    return started;
  };
  try {
    const port = await part("zero/cache.ts", url, "written", file).says<number>();
    const client = part("zero/follow.ts", port);
    const before = await client.says<number>();
    const writing = part("../throughput/writers.ts", url, "uniform", writers);
    await writing.says();
    writing.tell({ ms, writers, perSecond: 0 } satisfies Order);
    const written = await writing.says<Written>();
    client.tell(before + written.probes.length);
    const lagMs = ((await client.says<number>()) - written.probes.at(-1)!.acknowledgedNs) / 1e6;
    return followed(written.transactions, written.ms, lagMs);
  } finally {
    for (const started of parts) await started.stop();
  }
}

function followed(transactions: number, ms: number, lagAtEndMs: number): Followed {
  return {
    perSecond: (transactions / (ms + lagAtEndMs)) * 1_000,
    committedPerSecond: (transactions / ms) * 1_000,
    lagAtEndMs,
  };
}
