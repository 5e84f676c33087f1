/**
 * What being behind costs: a backlog in the slot that the engine drains after a stop, and many clients that return at one
 * position and are brought up to date from the log.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { formatLsn, parseLsn, subprotocol } from "../engine/protocol.ts";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { inTurn, median } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly rounds: number;
  readonly backlogTransactions: number;
  readonly changesPerTransaction: number;
  readonly clients: number;
  /** Transactions of one row that the clients have missed. */
  readonly behind: number;
}

export const catchUp: Bench<Parameters> = {
  name: "catch-up",
  question:
    "How fast is a backlog drained from the slot, and how fast do clients that were away catch up from the log?",
  notMeasured:
    "A network: loopback, and the clients share the machine's cores with the engine. What a client does with the bytes: these count them. While draining nobody is subscribed. The floors are a bare replication connection that pools its reads and decodes nothing, and a bare uWebSockets.js that sends the same messages from memory.",
  real: { rounds: 3, backlogTransactions: 50_000, changesPerTransaction: 10, clients: 1_000, behind: 10_000 },
  brief: { rounds: 1 },
  small: { rounds: 1, backlogTransactions: 20, changesPerTransaction: 5, clients: 3, behind: 20 },
  run,
};

const table = "bench_orders";
const slot = "bench_drain";
/** As little as it may be: most of what the clients have missed has to be read from the log's files. */
const tailBytes = 1024 * 1024;
/** As the engine's own. */
const windowBytes = 256 * 1024;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-catch-up-"));
  try {
    await postgres.query(
      `create table ${table} (id int primary key, status text not null, amount numeric(12,2) not null);
       insert into ${table} select g, 'new', g from generate_series(1, 1000) g;
       alter table ${table} replica identity full`,
    );
    // Only so that the writing does not take longer than the reading.
    await postgres.query("set synchronous_commit = off");
    const bench = new CatchUp(postgres, directory, parameters, progress);
    return [...(await bench.drain()), ...(await bench.clients())];
  } finally {
    await postgres.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

class CatchUp {
  private readonly postgres: BenchPostgres;
  private readonly directory: string;
  private readonly parameters: Parameters;
  private readonly progress: Progress;
  private readonly conditions: Conditions;

  constructor(postgres: BenchPostgres, directory: string, parameters: Parameters, progress: Progress) {
    this.postgres = postgres;
    this.directory = directory;
    this.parameters = parameters;
    this.progress = progress;
    this.conditions = { postgres: postgres.version, ...parameters };
  }

  // ── A backlog in the slot ───────────────────────────────────────────────────────────────────────────────────────────

  async drain(): Promise<Figure[]> {
    const { rounds, backlogTransactions, changesPerTransaction } = this.parameters;
    await this.prepareSlot();
    const ours: number[] = [];
    const floor: number[] = [];
    for (let round = 0; round < rounds; round++) {
      await this.postgres.query("select pg_create_logical_replication_slot('bench_floor', 'pgoutput')");
      const target = String(await this.backlog());
      ours.push(await this.drained(target));
      floor.push(await this.drainedBare(target));
      await dropSlot(this.postgres, "bench_floor");
    }
    const rate = (of: readonly number[]): number => (backlogTransactions * changesPerTransaction * 1_000) / median(of);
    return [figure("drain_changes_per_s", "1/s", rate(ours), rate(floor), { conditions: this.conditions })];
  }

  /** The engine makes its slot and its publication, which the floor uses too. */
  private async prepareSlot(): Promise<void> {
    const engine = this.engine("0");
    await engine.says();
    await finished(engine);
    await this.postgres.query(`alter publication walcast add table ${table}`);
  }

  private async drained(target: string): Promise<number> {
    this.progress("the engine drains it");
    const engine = this.engine(target);
    await engine.says();
    return finished(engine);
  }

  private drainedBare(target: string): Promise<number> {
    this.progress("a bare connection drains it");
    return finished(this.part("drain-floor.ts", this.postgres.url, "bench_floor", "walcast", target));
  }

  /** Gives the commit-end of its last transaction. */
  private async backlog(): Promise<bigint> {
    const { backlogTransactions, changesPerTransaction } = this.parameters;
    this.progress(`${backlogTransactions} transactions of ${changesPerTransaction} changes`);
    await this.write(backlogTransactions, changesPerTransaction);
    return this.end();
  }

  // ── Clients that were away ──────────────────────────────────────────────────────────────────────────────────────────

  async clients(): Promise<Figure[]> {
    const { rounds, clients, behind } = this.parameters;
    const engine = new Part(
      join(import.meta.dirname, "engine.ts"),
      this.postgres.url,
      table,
      join(this.directory, "engine"),
      String(tailBytes),
    );
    const port = await engine.says<number>();
    try {
      const resume = await firstVisit(port);
      this.progress(`${behind} transactions while ${clients} clients are away`);
      await this.write(behind, 1);
      const target = String(await this.end());
      const file = join(this.directory, "messages");
      await writeFile(file, await record(port, resume, BigInt(target)));
      const floor = this.part("floor.ts", file, String(windowBytes));
      const floorPort = await floor.says<number>();
      const before = await bytesRead(port);
      const results = await inTurn(
        rounds,
        {
          ours: () => this.returned(port, target, JSON.stringify(resume)),
          floor: () => this.returned(floorPort, target),
        },
        { warmUp: false },
      );
      const read = (await bytesRead(port)) - before;
      await floor.stop();
      return this.clientFigures(results, read / rounds);
    } finally {
      await engine.stop();
    }
  }

  private clientFigures(results: { ours: Returned[]; floor: Returned[] }, logBytesRead: number): Figure[] {
    const { conditions } = this;
    const rate = (all: readonly Returned[]): number => median(all.map(({ bytes, ms }) => bytes / ms / 1_000));
    const ms = (all: readonly Returned[]): number => median(all.map((one) => one.ms));
    return [
      figure("clients_mb_per_s", "MB/s", rate(results.ours), rate(results.floor), { conditions }),
      figure("clients_ms", "ms", ms(results.ours), ms(results.floor), { conditions }),
      { figure: "log_read_mb", value: logBytesRead / 1e6, unit: "MB", conditions },
    ];
  }

  private async returned(port: number, target: string, resume = ""): Promise<Returned> {
    this.progress(`${this.parameters.clients} clients return${resume === "" ? " to the floor" : ""}`);
    const part = this.part("clients.ts", String(port), String(this.parameters.clients), target, resume);
    try {
      await part.says();
      part.tell("go");
      return await part.says<Returned>();
    } finally {
      await part.stop();
    }
  }

  // ── Postgres ────────────────────────────────────────────────────────────────────────────────────────────────────────

  private async write(transactions: number, changes: number): Promise<void> {
    const first = `i % ${1000 - changes} + 1`;
    await this.postgres.query(`
      do $$ begin
        for i in 1..${transactions} loop
          update ${table} set amount = amount + 1, status = 'status ' || i where id between ${first} and ${first} + ${changes - 1};
          commit;
        end loop;
      end $$`);
  }

  /** A commit-end that is not before anything committed so far, and that a transaction in the stream reaches. */
  private async end(): Promise<bigint> {
    await this.postgres.query(`update ${table} set amount = 0 where id = 1000`);
    const [row] = await this.postgres.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
    const written = parseLsn(row!.lsn);
    await this.postgres.query(`update ${table} set amount = 1 where id = 1000`);
    return written;
  }

  private engine(target: string): Part {
    return this.part("drain.ts", this.postgres.url, table, join(this.directory, "drain"), slot, target);
  }

  private part(file: string, ...args: readonly string[]): Part {
    return new Part(join(import.meta.dirname, "catch-up", file), ...args);
  }
}

interface Returned {
  readonly ms: number;
  readonly bytes: number;
}

async function finished(part: Part): Promise<number> {
  try {
    return await part.says<number>();
  } finally {
    await part.stop();
  }
}

async function dropSlot({ query }: BenchPostgres, name: string): Promise<void> {
  await query(
    `select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = '${name}' and active`,
  );
  await query(`select pg_drop_replication_slot('${name}')`);
}

interface Resume {
  readonly epoch: string;
  readonly position: string;
  readonly identity: string;
  readonly table: string;
}

/** Loads the shape once; where it was left is where the clients return to. */
async function firstVisit(port: number): Promise<Resume> {
  const socket = await greeted(port, { kind: "hello" });
  let epoch = "";
  let identity = "";
  const position = await new Promise<bigint>((resolve) => {
    socket.on("message", (data: Buffer, isBinary) => {
      if (isBinary) return data[0] === 4 ? resolve(data.readBigUInt64BE(12)) : undefined;
      const message = JSON.parse(data.toString()) as Record<string, never>;
      if (message["kind"] === "welcome") epoch = message["epoch"]!;
      if (message["kind"] === "described") ({ identity } = message["table"]!);
    });
    socket.send(JSON.stringify({ kind: "subscribe", id: 1, shape: { table } }));
  });
  socket.close();
  await once(socket, "close");
  assert.notEqual(identity, "");
  return { epoch, identity, position: formatLsn(position as never), table };
}

/** What one client is sent until it has reached the target, as length and bytes of each binary message. */
async function record(port: number, resume: Resume, target: bigint): Promise<Buffer> {
  const socket = await greeted(port, { kind: "hello", epoch: resume.epoch, position: resume.position });
  const parts: Buffer[] = [];
  await new Promise<void>((resolve) => {
    socket.on("message", (data: Buffer, isBinary) => {
      if (!isBinary) return;
      const length = Buffer.alloc(4);
      length.writeUInt32BE(data.length);
      parts.push(length, data);
      if (data.readBigUInt64BE(12) >= target) resolve();
    });
    socket.send(JSON.stringify({ kind: "subscribe", id: 1, shape: { table }, identity: resume.identity }));
    socket.send(JSON.stringify({ kind: "resume" }));
  });
  socket.close();
  await once(socket, "close");
  return Buffer.concat(parts);
}

async function greeted(port: number, hello: object): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, subprotocol, { perMessageDeflate: false });
  await once(socket, "open");
  socket.send(JSON.stringify(hello));
  return socket;
}

async function bytesRead(port: number): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(/^walcast_catch_up_bytes_total (\S+)$/m.exec(metrics)?.[1] ?? Number.NaN);
}
