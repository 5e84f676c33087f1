/** A table comes into a client for the first time: from the request to the last row, server and client being processes of their own. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Figure } from "../bench.ts";
import { addKey, createTable, insertRows } from "../first-sync/rows.ts";
import { inTurn } from "../measure.ts";
import { type BenchPostgres, benchPostgres } from "../postgres.ts";
import { Part } from "../processes.ts";
import { beside, type Circumstances, names } from "./beside.ts";

export interface FirstSyncParameters {
  readonly rounds: number;
  readonly rows: number;
}

/** What a client's process says. */
export interface Synced {
  readonly loadMs: number;
  readonly rows: number;
  /** Of all ids and the lengths of all notes. */
  readonly sum: number;
}

const table = "bench_orders";
const sumOf = `select count(*)::int as rows, sum(id + coalesce(length(note), 0))::float as sum from ${table}`;

export async function firstSyncFigures(
  { rounds, rows }: FirstSyncParameters,
  { zero, electric, directory, progress }: Circumstances,
): Promise<Figure[]> {
  if (!zero && !electric) return [];
  const postgres = await benchPostgres();
  const servers: Part[] = [];
  const serve = (file: string, ...args: readonly string[]): Part => {
    servers.push(new Part(join(import.meta.dirname, file), postgres.url, ...args));
    return servers.at(-1)!;
  };
  try {
    await setUp(postgres, rows);
    const [expected] = await postgres.query<Omit<Synced, "loadMs">>(sumOf);
    progress(`${rows} rows into a client`);
    const synced = async (server: Part, file: string): Promise<() => Promise<number>> => {
      const port = await server.says<number>();
      return async () => rows / ((await loadMs(file, port, expected!)) / 1_000);
    };
    const { ours, ...others } = await inTurn(rounds, {
      ours: await synced(serve("../engine.ts", table, join(directory, "first-sync")), "sync.ts"),
      ...(zero && {
        zeroSync: await synced(serve("zero/cache.ts", "many", join(directory, "many.db")), "zero/sync.ts"),
      }),
      ...(electric && { electric: await synced(serve("electric/shapes.ts", table), "electric/sync.ts") }),
    });
    const conditions = { postgres: postgres.version, rounds, rows };
    return Object.entries(others).map(([peer, theirs]) =>
      beside("first_sync_rows_per_s", "rows/s", ours, theirs, { ...conditions, peer: names[peer]! }),
    );
  } finally {
    for (const server of servers) await server.stop();
    await postgres.stop();
  }
}

async function setUp({ query }: BenchPostgres, rows: number): Promise<void> {
  await query(`${createTable(table)}; ${insertRows(table, rows)}; ${addKey(table)}`);
  await query(`vacuum analyze ${table}`);
}

/** In a process of its own, which then has exactly Postgres' rows. */
async function loadMs(file: string, port: number, expected: Omit<Synced, "loadMs">): Promise<number> {
  const part = new Part(join(import.meta.dirname, file), String(port), table);
  try {
    const { loadMs, ...found } = await part.says<Synced>();
    assert.deepEqual(found, expected);
    return loadMs;
  } finally {
    await part.stop();
  }
}
