/**
 * What clients cost that stopped reading while everything goes on: the engine's memory, measured from outside, against the
 * budget that its configuration allows them; and that they are all brought up to date when they read again.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseLsn } from "../engine/protocol.ts";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly clients: number;
  readonly updates: number;
  readonly rowBytes: number;
}

export const slowConsumers: Bench<Parameters> = {
  name: "slow-consumers",
  question: "How much memory does the engine need for clients that stopped reading?",
  notMeasured:
    "The kernel's socket buffers, which hold some MiB for each before the engine notices anything. A network. The floor is what the budget allows: the limit for one connection, for every client.",
  real: { clients: 500, updates: 2_500, rowBytes: 8_000 },
  small: { clients: 3, updates: 10, rowBytes: 100 },
  run,
};

const table = "bench_wide";
/** The default of limits.backlogBytesPerConnection. */
const budgetMib = 1;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-slow-"));
  const engine = new Part(join(import.meta.dirname, "engine.ts"), await setUp(postgres), table, directory);
  try {
    const port = await engine.says<number>();
    return await measure(postgres, engine.pid, port, parameters, progress);
  } finally {
    await engine.stop();
    await postgres.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function setUp({ query, url }: BenchPostgres): Promise<string> {
  await query(
    `create table ${table} (id int primary key, v text not null); insert into ${table} values (1, ''), (2, '')`,
  );
  await query(`alter table ${table} alter v set storage external`);
  return url;
}

async function measure(
  postgres: BenchPostgres,
  enginePid: number,
  port: number,
  parameters: Parameters,
  progress: Progress,
): Promise<Figure[]> {
  const { clients, updates, rowBytes } = parameters;
  const file = join(import.meta.dirname, "slow-consumers", "clients.ts");
  const part = new Part(file, String(port), String(clients), table);
  try {
    progress(`${clients} clients subscribe and stop reading`);
    await part.says();
    const before = await rssMib(enginePid);
    progress(`${updates} updates of ${rowBytes} bytes`);
    part.tell(String(await update(postgres, updates, rowBytes)));
    await part.says();
    const after = await rssMib(enginePid);
    progress("they read on");
    part.tell(String(await update(postgres, 1, 1)));
    const caughtUpMs = await part.says<number>();
    const conditions = { postgres: postgres.version, ...parameters };
    return [
      figure("engine_rss_growth_mib", "MiB", after - before, budgetMib * clients, { conditions }),
      { figure: "engine_rss_mib", value: after, unit: "MiB", conditions },
      { figure: "caught_up_ms", value: caughtUpMs, unit: "ms", conditions },
    ];
  } finally {
    await part.stop();
  }
}

/** One transaction each. Gives a position that the last of them reaches. */
async function update({ query }: BenchPostgres, updates: number, rowBytes: number): Promise<bigint> {
  await query(`
    do $$ begin
      for i in 1..${updates} loop
        update ${table} set v = repeat(chr(97 + i % 26), ${rowBytes}) where id = 1;
        commit;
      end loop;
    end $$`);
  const [row] = await query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
  await query(`update ${table} set v = '' where id = 2`);
  return parseLsn(row!.lsn);
}

async function rssMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) / 1024;
}
