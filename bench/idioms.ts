/**
 * The other ways to listen, beside rows: a published message at a client, many bare EventSources of single rows, and what
 * `engine.watch` makes of a burst. Writers, engine and listeners are processes of their own, on one clock.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import type { Watched, WatchOrder } from "./idioms/engine.ts";
import type { Seen } from "./idioms/watchers.ts";
import { differences } from "./latency/rounds.ts";
import { createTable, insertRows } from "./latency/rows.ts";
import { inTurn, median, percentile } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly rounds: number;
  readonly commits: number;
  /** So many of them do not count. */
  readonly warmUp: number;
  readonly pauseMs: number;
  readonly watchers: number;
  /** That they watch, as many each. */
  readonly rows: number;
  readonly changes: number;
  /** Between two of these. */
  readonly changePauseMs: number;
  readonly burst: number;
  readonly coalesceMs: number;
}

export const idioms: Bench<Parameters> = {
  name: "idioms",
  question:
    "Is a message as fast as a row, do ten thousand EventSources keep up, and what does a burst become in engine.watch?",
  notMeasured:
    "Browsers and networks. The message's floor is the event of a row in a channel of the same client, so the ratio is what being a message costs. The watchers are bare sockets; the burst is one writer that does not wait for the disk.",
  real: {
    rounds: 3,
    commits: 1_200,
    warmUp: 500,
    pauseMs: 1,
    watchers: 10_000,
    rows: 1_000,
    changes: 600,
    changePauseMs: 9,
    burst: 200_000,
    coalesceMs: 100,
  },
  brief: { rounds: 1 },
  small: {
    rounds: 1,
    commits: 12,
    warmUp: 2,
    pauseMs: 1,
    watchers: 20,
    rows: 10,
    changes: 10,
    changePauseMs: 1,
    burst: 200,
    coalesceMs: 10,
  },
  run,
};

const orders = "bench_orders";
const counters = "bench_counters";
const countersRows = 20;
const topic = "bench";

async function run(asked: Parameters, progress: Progress): Promise<Figure[]> {
  const parameters = { ...asked, watchers: watchersMax(asked) };
  const postgres = await benchPostgres();
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-idioms-"));
  try {
    await setUp(postgres, parameters);
    return await measure(postgres, dataDir, parameters, progress);
  } finally {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** A socket takes a file descriptor at either end. As many watchers for each row. */
function watchersMax({ watchers, rows }: Parameters): number {
  const { userLimits } = process.report.getReport() as { userLimits: { open_files: { soft: number | "unlimited" } } };
  const { soft } = userLimits.open_files;
  const allowed = soft === "unlimited" ? watchers : Math.min(watchers, soft - descriptorsForOthers);
  return Math.max(1, Math.floor(allowed / rows)) * rows;
}

/** Postgres' connections, segments, Node's own. */
const descriptorsForOthers = 200;

async function setUp({ query }: BenchPostgres, { rows }: Parameters): Promise<void> {
  await query(`
    ${createTable(orders)}; ${insertRows(orders, rows)};
    create table ${counters} (id int primary key, value int not null);
    insert into ${counters} select i, 0 from generate_series(0, ${countersRows - 1}) i`);
  await query(`vacuum analyze ${orders}`);
}

async function measure(
  postgres: BenchPostgres,
  dataDir: string,
  parameters: Parameters,
  progress: Progress,
): Promise<Figure[]> {
  const engine = part("engine.ts", postgres.url, `${orders},${counters}`, topic, dataDir);
  try {
    const scene = new Scene(postgres, await engine.says<number>(), parameters);
    const { rounds, watchers, burst } = parameters;
    const conditions = { postgres: postgres.version, ...parameters };
    progress(`${rounds} rounds of messages and rows`);
    const latencies = await inTurn(
      rounds,
      { message: () => scene.messages(), row: () => scene.rowEvents() },
      { warmUp: false },
    );
    progress(`${watchers} watchers`);
    const lags = await scene.watchers();
    progress(`a burst of ${burst} commits`);
    const { perSecond, settledMs, watched } = await scene.burst(engine);
    const shown = (name: string, share: number): Figure => {
      const [message, row] = [latencies.message, latencies.row].map((all) =>
        median(all.map((round) => percentile(round, share))),
      );
      return figure(name, "ms", message!, row!, { conditions });
    };
    return [
      shown("publish_to_message_p50_ms", 0.5),
      shown("publish_to_message_p99_ms", 0.99),
      ...percentiles("watchers", lags, conditions),
      figure("watch_states_per_s", "per second", ratePerSecond(watched), 1_000 / parameters.coalesceMs, { conditions }),
      { figure: "watch_settled_ms", value: settledMs, unit: "ms", conditions },
      { figure: "burst_commits_per_s", value: perSecond, unit: "per second", conditions },
    ];
  } finally {
    await engine.stop();
  }
}

function percentiles(name: string, ms: readonly number[], conditions: Conditions): Figure[] {
  return [
    { figure: `${name}_p50_ms`, value: percentile(ms, 0.5), unit: "ms", conditions },
    { figure: `${name}_p99_ms`, value: percentile(ms, 0.99), unit: "ms", conditions },
  ];
}

/** The first state came at once. */
function ratePerSecond({ states, ms }: Watched): number {
  return ((states - 1) / ms) * 1_000;
}

class Scene {
  private readonly postgres: BenchPostgres;
  private readonly port: number;
  private readonly parameters: Parameters;

  constructor(postgres: BenchPostgres, port: number, parameters: Parameters) {
    this.postgres = postgres;
    this.port = port;
    this.parameters = parameters;
  }

  /** Milliseconds from each COMMIT to its message's callback. */
  messages(): Promise<number[]> {
    const { commits, pauseMs } = this.parameters;
    return this.latencies("messages", topic, () => part("publisher.ts", this.postgres.url, topic, commits, pauseMs));
  }

  /** Milliseconds from each COMMIT to its row's event. */
  rowEvents(): Promise<number[]> {
    const { commits, pauseMs } = this.parameters;
    return this.latencies("rows", orders, () => this.writer(commits, pauseMs));
  }

  private async latencies(kind: string, name: string, write: () => Part): Promise<number[]> {
    const { commits, warmUp } = this.parameters;
    const parts = [part("listener.ts", this.port, commits, kind, name)];
    try {
      await parts[0]!.says();
      parts.push(write());
      const [arrived, acknowledged] = await Promise.all(parts.map((each) => each.says<number[]>()));
      return differences(arrived!, acknowledged!).slice(warmUp);
    } finally {
      for (const each of parts) await each.stop();
    }
  }

  /** Milliseconds from a COMMIT to the event at each of those who watch its row. */
  async watchers(): Promise<number[]> {
    const { watchers, rows, changes, changePauseMs } = this.parameters;
    // Else their states would have marks of rounds before.
    await this.postgres.query(`update ${orders} set note = ''`);
    const crowd = part("watchers.ts", this.port, watchers, rows, orders, (watchers / rows) * changes);
    try {
      await crowd.says();
      const writer = this.writer(changes, changePauseMs);
      const [{ commits, atNs }, acknowledged] = await Promise.all([crowd.says<Seen>(), writer.says<number[]>()]);
      await writer.stop();
      const eventsByCommit = new Map<number, number>();
      for (const commit of commits) eventsByCommit.set(commit, (eventsByCommit.get(commit) ?? 0) + 1);
      assert.deepEqual(
        [...new Set(eventsByCommit.values())],
        [watchers / rows],
        "each commit came to each of its watchers",
      );
      assert.equal(eventsByCommit.size, changes);
      return commits.map((commit, event) => (atNs[event]! - acknowledged[commit]!) / 1e6);
    } finally {
      await crowd.stop();
    }
  }

  /** Commits as fast as one session can, while the engine watches. */
  async burst(engine: Part): Promise<{ perSecond: number; settledMs: number; watched: Watched }> {
    const { burst, coalesceMs } = this.parameters;
    const { query } = this.postgres;
    engine.tell({ table: counters, coalesceMs, last: burst } satisfies WatchOrder);
    await engine.says();
    const ended = engine.says<Watched>();
    await query("set synchronous_commit = off");
    const startedNs = process.hrtime.bigint();
    await query(
      `do $$ begin for i in 1..${burst} loop update ${counters} set value = i where id = i % ${countersRows}; commit; end loop; end $$`,
    );
    const writtenNs = process.hrtime.bigint();
    await query("set synchronous_commit = on");
    const watched = await ended;
    const byId = (a: { id: number }, b: { id: number }): number => a.id - b.id;
    assert.deepEqual(watched.rows.toSorted(byId), await query(`select id, value from ${counters} order by id`));
    assert.ok(watched.states - 1 <= watched.ms / coalesceMs + 1, "states are so far apart");
    return {
      perSecond: (burst / Number(writtenNs - startedNs)) * 1e9,
      settledMs: (watched.endedNs - Number(writtenNs)) / 1e6,
      watched,
    };
  }

  private writer(commits: number, pauseMs: number): Part {
    const { rows } = this.parameters;
    const file = join(import.meta.dirname, "latency", "writer.ts");
    return new Part(file, this.postgres.url, orders, ...[rows, commits, pauseMs].map(String));
  }
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, "idioms", file), ...args.map(String));
}
