/**
 * Everybody loses the engine at once, as it is started anew, and is back at once: how long until all are up to date, those who
 * go on where they left off and those who begin anew, and what it takes of the engine's memory.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseLsn } from "../engine/protocol.ts";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import { inTurn, median } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";
import type { Call, Came } from "./storm/clients.ts";

interface Parameters {
  readonly rounds: number;
  readonly clients: number;
  readonly shapesEach: number;
  /** How many shapes there are. */
  readonly distinct: number;
  /** Of each shape. */
  readonly rows: number;
  /** Transactions while nobody is connected, of a row of each shape. */
  readonly missed: number;
}

export const storm: Bench<Parameters> = {
  name: "storm",
  question: "How long until everybody is up to date again after the engine was started anew?",
  notMeasured:
    "A network, and the clients' own patience: they do not spread their return over time, as the client SDK does. All of it shares the machine's cores. The engine's start is not in it. The floor is a bare uWebSockets.js that takes as many connections and sends each as many bytes in as many messages, from memory.",
  real: { rounds: 3, clients: 2_000, shapesEach: 4, distinct: 8, rows: 200, missed: 100 },
  brief: { rounds: 1 },
  small: { rounds: 1, clients: 4, shapesEach: 2, distinct: 3, rows: 5, missed: 2 },
  run,
};

const table = "bench_orders";
/** As the engine's own. */
const windowBytes = 256 * 1024;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-storm-"));
  const { clients, shapesEach, distinct } = parameters;
  const crowd = part("storm/clients.ts", clients, shapesEach, distinct, table);
  try {
    await fill(postgres, parameters);
    await crowd.says();
    return await new Storm(postgres, directory, crowd, parameters, progress).measure();
  } finally {
    await crowd.stop();
    await postgres.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function fill({ query }: BenchPostgres, { distinct, rows }: Parameters): Promise<void> {
  await query(
    `create table ${table} (id int primary key, region int not null, status text not null, amount numeric(12,2) not null);
     insert into ${table} select g, g % ${distinct}, 'new', g from generate_series(0, ${distinct * rows - 1}) g;
     alter table ${table} replica identity full`,
  );
  await query(`vacuum analyze ${table}`);
}

interface Returned extends Came {
  readonly grownMib: number;
}

class Storm {
  private readonly postgres: BenchPostgres;
  private readonly directory: string;
  private readonly crowd: Part;
  private readonly parameters: Parameters;
  private readonly progress: Progress;
  private last: Came | undefined;

  constructor(postgres: BenchPostgres, directory: string, crowd: Part, parameters: Parameters, progress: Progress) {
    this.postgres = postgres;
    this.directory = directory;
    this.crowd = crowd;
    this.parameters = parameters;
    this.progress = progress;
  }

  async measure(): Promise<Figure[]> {
    await this.withEngine(({ port }) => this.come({ kind: "anew", port }));
    const results = await inTurn(
      this.parameters.rounds,
      {
        resumed: () => this.resumed(),
        resumedFloor: () => this.floor(),
        anew: () => this.anew(),
        anewFloor: () => this.floor(),
      },
      { warmUp: false },
    );
    const conditions = { postgres: this.postgres.version, ...this.parameters };
    const ms = (all: readonly Came[]): number => median(all.map((one) => one.ms));
    const grown = (all: readonly Returned[]): number => median(all.map((one) => one.grownMib));
    return [
      figure("resume_ms", "ms", ms(results.resumed), ms(results.resumedFloor), { conditions }),
      figure("load_ms", "ms", ms(results.anew), ms(results.anewFloor), { conditions }),
      { figure: "resume_engine_growth_mib", value: grown(results.resumed), unit: "MiB", conditions },
      { figure: "load_engine_growth_mib", value: grown(results.anew), unit: "MiB", conditions },
    ];
  }

  private async resumed(): Promise<Returned> {
    const target = String(await this.miss());
    this.progress(`${this.parameters.clients} clients go on`);
    return this.withEngine((engine) => this.watched(engine, { kind: "resume", port: engine.port, target }, 0));
  }

  private async anew(): Promise<Returned> {
    this.progress(`${this.parameters.clients} clients begin anew`);
    const { distinct } = this.parameters;
    return this.withEngine((engine) => this.watched(engine, { kind: "anew", port: engine.port }, distinct));
  }

  /** Postgres is asked for rows at most so many times. */
  private async watched({ port, part }: Running, call: Call, readingsMax: number): Promise<Returned> {
    const before = await memoryMib(part.pid, "VmRSS");
    const came = (this.last = await this.come(call));
    const grownMib = (await memoryMib(part.pid, "VmHWM")) - before;
    const found = await readings(port);
    assert.ok(found <= readingsMax, `${found} shapes were read from Postgres`);
    return { ...came, grownMib };
  }

  /** Of those who came last. */
  private async floor(): Promise<Came> {
    const { bytes, messages } = this.last!;
    this.progress(`${this.parameters.clients} clients of the floor`);
    const { clients } = this.parameters;
    const [each, size] = [Math.round(messages / clients), Math.floor(bytes / messages)];
    const file = join(this.directory, "messages");
    await writeFile(file, Buffer.concat(Array.from({ length: each }, () => messageOf(size))));
    const floor = part("catch-up/floor.ts", file, windowBytes);
    try {
      return await this.come({ kind: "floor", port: await floor.says<number>(), messages: each });
    } finally {
      await floor.stop();
    }
  }

  private async come(call: Call): Promise<Came> {
    this.crowd.tell(call);
    return this.crowd.says<Came>();
  }

  /** Gives a position that the last transaction is behind. */
  private async miss(): Promise<bigint> {
    const { missed, distinct } = this.parameters;
    this.progress(`${missed} transactions while nobody is there`);
    const update = `update ${table} set amount = amount + 1 where id < ${distinct}`;
    await this.postgres.query(`do $$ begin for i in 2..${missed} loop ${update}; commit; end loop; end $$`);
    const [row] = await this.postgres.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
    await this.postgres.query(update);
    return parseLsn(row!.lsn);
  }

  /** Its log outlives it. */
  private async withEngine<T>(work: (engine: Running) => Promise<T>): Promise<T> {
    const engine = part("engine.ts", this.postgres.url, table, join(this.directory, "engine"));
    try {
      return await work({ part: engine, port: await engine.says<number>() });
    } finally {
      await engine.stop();
    }
  }
}

interface Running {
  readonly part: Part;
  readonly port: number;
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, file), ...args.map(String));
}

function messageOf(bytes: number): Buffer {
  const message = Buffer.alloc(4 + bytes);
  message.writeUInt32BE(bytes);
  return message;
}

async function readings(port: number): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(/^walcast_snapshots_total (\S+)$/m.exec(metrics)?.[1] ?? Number.NaN);
}

async function memoryMib(pid: number, name: "VmRSS" | "VmHWM"): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)![1]) / 1024;
}
