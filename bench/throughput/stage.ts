/**
 * A Postgres that is written to while one of two listens: the engine, with a subscribed client, or a bare replication connection. Either is
 * there only while it is measured, as Postgres decodes for whoever is attached.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { median } from "../measure.ts";
import type { BenchPostgres } from "../postgres.ts";
import { Part } from "../processes.ts";
import type { Read } from "./reader.ts";
import { probeTable, setUpProbe, type WorkloadName, workloads } from "./workloads.ts";
import type { Order, Probe, Written } from "./writers.ts";

export interface Measured {
  readonly perSecond: number;
  /** From the last acknowledgement until whoever listens had everything. */
  readonly lagAtEndMs: number;
  /** Median over the whole time. */
  readonly lagMs: number;
  /** By how many ms it grew in a second. */
  readonly lagSlope: number;
}

export class Stage {
  readonly version: string;
  private readonly postgres: BenchPostgres;
  private readonly dataDir: string;
  private readonly workload: WorkloadName;
  private readonly writers: Part;

  constructor(postgres: BenchPostgres, dataDir: string, workload: WorkloadName, writers: number) {
    this.version = postgres.version;
    this.postgres = postgres;
    this.dataDir = dataDir;
    this.workload = workload;
    this.writers = part("writers.ts", postgres.url, workload, writers);
  }

  async open(): Promise<void> {
    const { query } = this.postgres;
    await query(`${workloads[this.workload].setUp}; ${setUpProbe}`);
    await query("vacuum analyze");
    await query(`create publication bench for table ${this.tables.join(", ")}`);
    await this.writers.says();
  }

  close(): Promise<void> {
    return this.writers.stop();
  }

  /** `settleMs`: for so long the same is done before it counts, as whoever has just started still compiles itself. */
  async write(who: "ours" | "floor", order: Order, settleMs: number): Promise<Measured> {
    const listening = who === "ours" ? await this.engine() : await this.floor();
    try {
      if (settleMs > 0) await this.follow(listening, { ...order, ms: settleMs });
      return await this.follow(listening, order);
    } finally {
      await listening.stop();
    }
  }

  private async follow({ part: listener }: Listening, order: Order): Promise<Measured> {
    this.writers.tell(order);
    const written = await this.writers.says<Written>();
    listener.tell(String(written.probes.at(-1)!.before));
    return this.measured(written, await listener.says<Read>());
  }

  private measured({ transactions, ms, probes }: Written, { arrivals, operations }: Read): Measured {
    assert.equal(operations, transactions * workloads[this.workload].rows + probes.length, "all of it has come");
    const lags = lagsOf(probes, arrivals);
    return {
      perSecond: (transactions / ms) * 1_000,
      lagAtEndMs: lags.at(-1)!.lagMs,
      lagMs: median(lags.map(({ lagMs }) => lagMs)),
      lagSlope: slopeOf(lags),
    };
  }

  private get tables(): readonly string[] {
    return [...workloads[this.workload].tables, probeTable];
  }

  private async engine(): Promise<Listening> {
    const engine = part("../engine.ts", this.postgres.url, this.tables.join(","), this.dataDir);
    const reader = part("reader.ts", await engine.says<number>(), ...this.tables);
    await reader.says();
    const stop = async (): Promise<void> => {
      await reader.stop();
      await engine.stop();
    };
    return { part: reader, stop };
  }

  private async floor(): Promise<Listening> {
    const { query } = this.postgres;
    await query("select pg_create_logical_replication_slot('bench', 'pgoutput')");
    const floor = part("floor.ts", this.postgres.url, "bench", "bench");
    await floor.says();
    const stop = async (): Promise<void> => {
      await floor.stop();
      await query(
        "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = 'bench' and active",
      );
      await query("select pg_drop_replication_slot('bench')");
    };
    return { part: floor, stop };
  }
}

interface Listening {
  readonly part: Part;
  readonly stop: () => Promise<void>;
}

interface Lag {
  readonly atS: number;
  readonly lagMs: number;
}

function lagsOf(probes: readonly Probe[], arrivals: Read["arrivals"]): Lag[] {
  let next = 0;
  return probes.map(({ before, acknowledgedNs }) => {
    while (next < arrivals.length && arrivals[next]!.position <= before) next++;
    assert.ok(next < arrivals.length, "a probe has arrived");
    return { atS: acknowledgedNs / 1e9, lagMs: (arrivals[next]!.ns - acknowledgedNs) / 1e6 };
  });
}

/** The median of the slopes between any two: a moment in which somebody paused says nothing of a trend. */
function slopeOf(lags: readonly Lag[]): number {
  const slopes = lags.flatMap((one, index) =>
    lags.slice(index + 1).map((other) => (other.lagMs - one.lagMs) / (other.atS - one.atS)),
  );
  return slopes.length === 0 ? 0 : median(slopes);
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, file), ...args.map(String));
}
