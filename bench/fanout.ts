/**
 * What it costs to send the same to many: a transaction's rows to a thousand sockets on one shape, and how long after COMMIT they are
 * at clients, by a schedule that waits for nobody. Beside it, fed by the same commits, a bare loop that sends as many bytes.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import { firstId } from "./fanout/orders.ts";
import { type Contender, Scene } from "./fanout/scene.ts";
import { lateness } from "./fanout/schedule.ts";
import { inTurn, median, percentile } from "./measure.ts";
import { benchPostgres } from "./postgres.ts";

interface Parameters {
  readonly rounds: number;
  /** Of a round. */
  readonly transactions: number;
  /** Of one transaction. */
  readonly rows: readonly number[];
  readonly sockets: readonly number[];
  /** Of what goes by a schedule. */
  readonly scheduledRounds: number;
  readonly clients: number;
  readonly clientsPerSecond: number;
  readonly clientsCommits: number;
  readonly shapes: number;
  readonly shapesPerSecond: number;
  readonly shapesCommits: number;
}

export const fanout: Bench<Parameters> = {
  name: "fanout",
  question: "What does it cost to send a change to many sockets, and how late is it there?",
  notMeasured:
    "A network, and what clients do with the bytes: a thousand sockets in one process, which take about as much of a core as the server that sends to them. Transactions come one at a time, so that each is one read and one frame. The floor is a bare replication connection that feeds a loop of cork and send, with the bytes of one of the engine's frames.",
  real: {
    rounds: 3,
    transactions: 40,
    rows: [1, 10, 100],
    sockets: [10, 100, 1_000],
    scheduledRounds: 3,
    clients: 100,
    clientsPerSecond: 10,
    clientsCommits: 100,
    shapes: 1_000,
    shapesPerSecond: 200,
    shapesCommits: 1_000,
  },
  brief: { rounds: 2, scheduledRounds: 1 },
  small: {
    rounds: 1,
    transactions: 2,
    rows: [1, 3],
    sockets: [2, 3],
    scheduledRounds: 1,
    clients: 3,
    clientsPerSecond: 100,
    clientsCommits: 4,
    shapes: 3,
    shapesPerSecond: 100,
    shapesCommits: 6,
  },
  run,
};

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-bench-fanout-"));
  const scene = new Scene(postgres, dataDir);
  try {
    const { rows, shapes } = parameters;
    await scene.open(Math.max(shapes, ...rows), rows);
    return await new Fanout(scene, parameters, progress).measure();
  } finally {
    await scene.close();
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** At which the distribution of latencies is given. */
const shares = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1];

/** Of one round. */
interface Round {
  /** From each COMMIT until the last socket had it. */
  readonly ms: readonly number[];
  /** Of the server's process. */
  readonly cpuMs: number;
}

class Fanout {
  private readonly scene: Scene;
  private readonly parameters: Parameters;
  private readonly progress: Progress;

  constructor(scene: Scene, parameters: Parameters, progress: Progress) {
    this.scene = scene;
    this.parameters = parameters;
    this.progress = progress;
  }

  async measure(): Promise<Figure[]> {
    const figures: Figure[] = [];
    const { sockets, rows } = this.parameters;
    for (const count of sockets)
      figures.push(...(await this.crowd(count, count === Math.max(...sockets) ? rows : rows.slice(0, 1))));
    return [...figures, ...(await this.hundredClients()), ...(await this.thousandShapes())];
  }

  // ── One transaction after the other ─────────────────────────────────────────────────────────────────────────────────

  private async crowd(sockets: number, rows: readonly number[]): Promise<Figure[]> {
    const { scene } = this;
    this.progress(`${sockets} sockets connect, and as many to the floor`);
    const [ours, floor] = [
      await scene.contender("ours", sockets, "one"),
      await scene.contender("floor", sockets, "one"),
    ];
    try {
      const figures: Figure[] = [];
      for (const count of rows) figures.push(...(await this.transactions(ours, floor, sockets, count)));
      return figures;
    } finally {
      await ours.leave();
      await floor.leave();
    }
  }

  private async transactions(ours: Contender, floor: Contender, sockets: number, rows: number): Promise<Figure[]> {
    this.progress(`transactions of ${rows} rows to ${sockets} sockets`);
    await this.scene.replay("one", rows);
    const round = (contender: Contender) => (): Promise<Round> => this.round(contender, rows);
    const results = await inTurn(this.parameters.rounds, { ours: round(ours), floor: round(floor) });
    const { rounds, transactions } = this.parameters;
    const delivered = rounds * transactions * rows * sockets;
    const ms = (all: readonly Round[]): number => median(all.map((one) => median(one.ms)));
    const cpuUs = (all: readonly Round[]): number => (all.reduce((sum, one) => sum + one.cpuMs, 0) * 1_000) / delivered;
    const conditions = { ...this.scene.conditions, sockets, rows, rounds, transactions };
    const perSecond = (all: readonly Round[]): number => (rows * sockets * 1_000) / ms(all);
    return [
      figure("last_socket_ms", "ms", ms(results.ours), ms(results.floor), { conditions }),
      // With few sockets a rate would be that of Postgres, and most of the CPU time would be spent on its messages.
      ...(sockets < Math.max(...this.parameters.sockets)
        ? []
        : [
            figure("rows_per_s", "rows/s", perSecond(results.ours), perSecond(results.floor), { conditions }),
            figure("cpu_us_per_row", "µs", cpuUs(results.ours), cpuUs(results.floor), { conditions }),
          ]),
    ];
  }

  private async round(contender: Contender, rows: number): Promise<Round> {
    const ms: number[] = [];
    const before = await contender.cpuMs();
    for (let i = 0; i < this.parameters.transactions; i++) {
      const last = contender.frameAtAll();
      const { ns } = await this.scene.writer.commit(contender.table, firstId, rows);
      ms.push(((await last) - ns) / 1e6);
    }
    return { ms, cpuMs: (await contender.cpuMs()) - before };
  }

  // ── By a schedule ───────────────────────────────────────────────────────────────────────────────────────────────────

  private hundredClients(): Promise<Figure[]> {
    const { clients, clientsPerSecond: perSecond, clientsCommits: commits } = this.parameters;
    return this.scheduled("hundred_clients", "one", { clients, perSecond, commits });
  }

  private thousandShapes(): Promise<Figure[]> {
    const { shapes: clients, shapesPerSecond: perSecond, shapesCommits: commits } = this.parameters;
    return this.scheduled("thousand_shapes", "each", { clients, perSecond, commits });
  }

  private async scheduled(
    name: string,
    audience: "one" | "each",
    schedule: { readonly clients: number; readonly perSecond: number; readonly commits: number },
  ): Promise<Figure[]> {
    const { scene, progress } = this;
    const { clients, perSecond } = schedule;
    const rounds = this.parameters.scheduledRounds;
    await scene.replay(audience, 1);
    const [ours, floor] = [
      await scene.contender("ours", clients, audience),
      await scene.contender("floor", clients, audience),
    ];
    const round = (who: string, contender: Contender) => (): Promise<number[]> => {
      progress(`${clients} clients, ${perSecond} changes per second, ${who}`);
      return lateness(scene.writer, contender, audience, schedule);
    };
    const results = await inTurn(
      rounds,
      { ours: round("ours", ours), floor: round("floor", floor) },
      { warmUp: false },
    );
    await ours.leave();
    await floor.leave();
    const conditions = { ...scene.conditions, ...schedule, rounds };
    // Per round first: a moment in which the machine did something else spoils one round's percentile, not all.
    const of = (all: readonly (readonly number[])[], share: number): number =>
      median(all.map((one) => percentile(one, share)));
    const at = (end: string, share: number, rest: Figure["conditions"] = {}): Figure => {
      const [value, least] = [of(results.ours, share), of(results.floor, share)];
      return figure(`${name}_${end}`, "ms", value, least, { conditions: { ...conditions, ...rest } });
    };
    return [at("p50_ms", 0.5), at("p99_ms", 0.99), ...shares.map((share) => at("cdf_ms", share, { share }))];
  }
}
