/** How long a client in a fresh process takes until it shows what an earlier one has left in a directory; and without a replica, until an event. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import type { Shown } from "./cold-start/shown.ts";
import { copyOut } from "./first-sync/copy-out.ts";
import { addKey, createTable, insertRows } from "./first-sync/rows.ts";
import { inTurn, median } from "./measure.ts";
import { type BenchPostgres, benchPostgres } from "./postgres.ts";
import { Part } from "./processes.ts";

interface Parameters {
  readonly rounds: number;
  readonly rows: number;
  /** A first round that does not count. */
  readonly warmUp: boolean;
}

export const coldStart: Bench<Parameters> = {
  name: "cold-start",
  question:
    "How long does a fresh process take until it shows rows that an earlier one has stored, and without a replica until a first event?",
  notMeasured:
    "The start of Node and the loading of the client's own code, and the system's cache being cold. It is the time from createClient to the first callback of a live query of the newest 50; browsers are in the bench browser. The floor is a bare PGlite that opens such a directory, and one query. The event is of a commit that is made when the channel says that it listens; its floor is a bare WebSocket.",
  real: { rounds: 5, rows: 100_000, warmUp: true },
  brief: { rounds: 2 },
  small: { rounds: 1, rows: 500, warmUp: false },
  run,
};

const table = "bench_orders";

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-cold-"));
  try {
    return await measure(postgres, directory, parameters, progress);
  } finally {
    await postgres.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function measure(
  { url, query, version }: BenchPostgres,
  directory: string,
  { rounds, rows, warmUp }: Parameters,
  progress: Progress,
): Promise<Figure[]> {
  await query(`${createTable(table)}; ${insertRows(table, rows)}; ${addKey(table)}`);
  const file = join(directory, "rows");
  await writeFile(file, (await copyOut(url, table)).lines);
  const engine = new Part(join(import.meta.dirname, "engine.ts"), url, table, join(directory, "engine"));
  try {
    const ours = [join(directory, "ours"), table, `${await engine.says<number>()}`];
    const bare = [join(directory, "bare"), table];
    await shown(progress, "client.ts", rows, ours);
    await shown(progress, "bare.ts", rows, [...bare, file]);
    const contenders = {
      ours: () => shown(progress, "client.ts", rows, ours),
      floor: () => shown(progress, "bare.ts", rows, bare),
    };
    const results = await inTurn(rounds, contenders, { warmUp });
    const update = () => query(`update ${table} set note = 'told' where id = 1`);
    const told = (file: string) => () => heard(progress, file, [table, ours[2]!], update);
    const events = await inTurn(rounds, { ours: told("listener.ts"), floor: told("bare-listener.ts") }, { warmUp });
    const conditions = { postgres: version, rounds, rows };
    return [
      figure("first_rows_ms", "ms", median(results.ours), median(results.floor), { conditions }),
      figure("first_event_ms", "ms", median(events.ours), median(events.floor), { conditions }),
    ];
  } finally {
    await engine.stop();
  }
}

async function shown(progress: Progress, file: string, rows: number, args: readonly string[]): Promise<number> {
  progress(file);
  const part = new Part(join(import.meta.dirname, "cold-start", file), ...args);
  try {
    const { ms, newest } = await part.says<Shown>();
    assert.equal(newest, rows);
    return ms;
  } finally {
    await part.stop();
  }
}

async function heard(
  progress: Progress,
  file: string,
  args: readonly string[],
  update: () => Promise<unknown>,
): Promise<number> {
  progress(file);
  const part = new Part(join(import.meta.dirname, "cold-start", file), ...args);
  try {
    assert.equal(await part.says<string>(), "listens");
    const ms = part.says<number>();
    await update();
    return await ms;
  } finally {
    await part.stop();
  }
}
