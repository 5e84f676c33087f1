/**
 * One huge transaction: when all of it stands in a client, what memory it took in the engine, and whether others noticed. It
 * is decoded while it still runs, staged on disk, and applied by the client in one local transaction.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { parseLsn } from "../engine/protocol.ts";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { copyOut } from "./first-sync/copy-out.ts";
import { addKey, createTable, insertRows, type Loaded } from "./first-sync/rows.ts";
import { median, percentile } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  /** How many rows a transaction has, and how often it comes; smallest first. */
  readonly sizes: readonly { readonly rows: number; readonly rounds: number }[];
  /** Of the smallest size, before those that count. */
  readonly warmUps: number;
  readonly otherCommits: number;
}

type Size = Parameters["sizes"][number];

export const largeTransaction: Bench<Parameters> = {
  name: "large-transaction",
  question:
    "How long after COMMIT are all rows of a large transaction shown by a client, and what does the engine need for it?",
  notMeasured:
    "A network, a browser. The writer, Postgres, the engine and two clients share the machine's cores. The floor is one COPY of as many rows into a bare PGlite, and its primary key; for the others, a bare replication connection in the engine's place.",
  real: {
    sizes: [
      { rows: 10_000, rounds: 5 },
      { rows: 100_000, rounds: 1 },
      { rows: 500_000, rounds: 1 },
    ],
    warmUps: 3,
    otherCommits: 200,
  },
  brief: { sizes: [{ rows: 10_000, rounds: 3 }] },
  small: { sizes: [{ rows: 100, rounds: 1 }], warmUps: 1, otherCommits: 5 },
  run,
};

const table = "bench_orders";
const other = "bench_other";

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-large-"));
  try {
    await postgres.query(
      `${createTable(table)}; ${addKey(table)}; create table ${other} (id int primary key, n int not null); insert into ${other} values (1, 0)`,
    );
    const figures: Figure[] = [];
    for (const size of parameters.sizes)
      figures.push(...(await measure(postgres, join(directory, String(size.rows)), size, parameters, progress)));
    return figures;
  } finally {
    await postgres.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function measure(
  postgres: BenchPostgres,
  directory: string,
  { rows, rounds }: Size,
  { sizes, warmUps, otherCommits }: Parameters,
  progress: Progress,
): Promise<Figure[]> {
  await postgres.query(`truncate ${table}`);
  const engine = new Part(join(import.meta.dirname, "engine.ts"), postgres.url, `${table},${other}`, directory);
  const parts = [engine];
  try {
    const port = String(await engine.says<number>());
    const client = part("client.ts", port, table);
    parts.unshift(client);
    await client.says();
    const reader = part("reader.ts", port, other);
    parts.unshift(reader);
    await reader.says();
    const warm = await visibleAfter(postgres, client, sizes[0]!.rows, 0, warmUps);
    const before = await rssMib(engine.pid, "VmRSS");
    progress(`a transaction of ${rows} rows`);
    const { visibleMs, otherCommitted } = await visibleAfter(postgres, client, rows, otherCommits, rounds);
    reader.tell(String(otherCommitted.at(-1)!.position));
    const late = lateness(await reader.says<At[]>(), otherCommitted);
    const peak = await rssMib(engine.pid, "VmHWM");
    for (const one of parts.splice(0)) await one.stop();
    progress(`${rows} rows past a bare replication connection`);
    const bareLate = await bareLateness(postgres, rows, otherCommits);
    progress(`${rows} rows into a bare PGlite`);
    const conditions: Conditions = { postgres: postgres.version, rows, rounds, warmUps, otherCommits };
    const first = { figure: "first_visible_ms", value: warm.visibleMs[0]!, unit: "ms", conditions };
    return [
      figure("visible_ms", "ms", median(visibleMs), await bare(postgres.url, directory), { conditions }),
      ...(rows === sizes[0]!.rows ? [first] : []),
      { figure: "engine_rss_growth_mib", value: peak - before, unit: "MiB", conditions },
      figure("others_p50_ms", "ms", percentile(late, 0.5), percentile(bareLate, 0.5), { conditions }),
      figure("others_p99_ms", "ms", percentile(late, 0.99), percentile(bareLate, 0.99), { conditions }),
    ];
  } finally {
    for (const one of parts) await one.stop();
  }
}

/** One large transaction after the other, in an empty table each: how long until a client shows it. With the commits beside the last. */
async function visibleAfter(
  postgres: BenchPostgres,
  client: Part,
  rows: number,
  otherCommits: number,
  rounds: number,
): Promise<{ visibleMs: number[]; otherCommitted: At[] }> {
  const visibleMs: number[] = [];
  let otherCommitted: At[] = [];
  for (let round = 0; round < rounds; round++) {
    await showing(client, 0, () => postgres.query(`truncate ${table}`));
    let committedNs = 0n;
    const shownNs = await showing(client, rows, async () => {
      ({ committedNs, otherCommitted } = await commitBeside(postgres, rows, otherCommits));
    });
    visibleMs.push(Number(shownNs - committedNs) / 1e6);
  }
  return { visibleMs, otherCommitted };
}

/** When the client first shows so many rows. */
async function showing(client: Part, rows: number, work: () => Promise<unknown>): Promise<bigint> {
  const shown = client.says<string>();
  client.tell(rows);
  await work();
  return BigInt(await shown);
}

/** The large transaction, and when it was acknowledged; right behind it others commit, one row at a time. */
async function commitBeside(
  { url, query }: BenchPostgres,
  rows: number,
  otherCommits: number,
): Promise<{ committedNs: bigint; otherCommitted: At[] }> {
  const writer = new pg.Client({ connectionString: url });
  await writer.connect();
  await writer.query("begin");
  await writer.query(insertRows(table, rows));
  await writer.query("commit");
  const committedNs = process.hrtime.bigint();
  const otherCommitted: At[] = [];
  for (let i = 0; i < otherCommits; i++) {
    await query(`update ${other} set n = n + 1`);
    const ns = process.hrtime.bigint();
    // Behind this commit's record, and before the next one's.
    const [row] = await query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
    otherCommitted.push({ ns, position: parseLsn(row!.lsn) });
  }
  await query(`update ${other} set n = n + 1`);
  await writer.end();
  return { committedNs, otherCommitted };
}

/** How late the others are without us: Postgres decodes one transaction after the other, and sends the large one first. */
async function bareLateness(postgres: BenchPostgres, rows: number, otherCommits: number): Promise<number[]> {
  const { url, query } = postgres;
  await query(`truncate ${table}`);
  await query(`create publication bench_bare for table ${table}, ${other}`);
  await query("select pg_create_logical_replication_slot('bench_bare', 'pgoutput')");
  const reader = part("bare.ts", url, "bench_bare", "bench_bare");
  try {
    await reader.says();
    const { otherCommitted } = await commitBeside(postgres, rows, otherCommits);
    reader.tell(String(otherCommitted.at(-1)!.position));
    return lateness(await reader.says<At[]>(), otherCommitted);
  } finally {
    await reader.stop();
    await query(
      "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = 'bench_bare' and active",
    );
    await query("select pg_drop_replication_slot('bench_bare'); drop publication bench_bare");
  }
}

/** An instant, and how far the stream was then. */
interface At {
  readonly position: bigint;
  readonly ns: bigint;
}

/** Of each but the first: its frame is the first beyond the position at which the commit before it was over. */
function lateness(arrived: readonly At[], committed: readonly At[]): number[] {
  return committed.slice(1).map(({ ns }, i) => {
    const frame = arrived.find(({ position }) => position > committed[i]!.position);
    return Number(frame!.ns - ns) / 1e6;
  });
}

/** Milliseconds in which a bare PGlite takes the same rows. */
async function bare(url: string, directory: string): Promise<number> {
  const file = join(directory, "rows");
  await writeFile(file, (await copyOut(url, table)).lines);
  const floor = new Part(join(import.meta.dirname, "first-sync", "floor.ts"), file, table, "prepared");
  try {
    return (await floor.says<Loaded>()).loadMs;
  } finally {
    await floor.stop();
  }
}

function part(file: string, ...args: readonly string[]): Part {
  return new Part(join(import.meta.dirname, "large-transaction", file), ...args);
}

async function rssMib(pid: number, field: "VmRSS" | "VmHWM"): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)![1]) / 1024;
}
