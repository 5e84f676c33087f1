/**
 * The engine with a topic and room for many watchers, on any free port. Told how far states are to be apart, it also watches a
 * table as a program that embeds it does, until some row has the value that it was told.
 */
import { createEngine } from "../../engine/index.ts";
import { say, told, whenDismissed } from "../processes.ts";

export interface WatchOrder {
  readonly table: string;
  readonly coalesceMs: number;
  readonly last: number;
}

export interface Watched {
  readonly states: number;
  /** From the first state, which says "watching", to the last. */
  readonly ms: number;
  readonly endedNs: number;
  readonly rows: readonly { readonly id: number; readonly value: number }[];
}

const [databaseUrl = "", tables = "", topic = "", dataDir = ""] = process.argv.slice(2);
const many = 1_000_000;
const engine = await createEngine({
  databaseUrl,
  dataDir,
  port: 0,
  tables: Object.fromEntries(tables.split(",").map((table) => [table, { read: true }])),
  topics: { [topic]: { read: true } },
  limits: { connections: many, connectionsPerAddress: many, connectionsPerUser: many },
  logLevel: "error",
});
whenDismissed(() => engine.close());
say(Number(new URL(engine.url).port));
say(await watch(await told<WatchOrder>()));

async function watch({ table, coalesceMs, last }: WatchOrder): Promise<Watched> {
  let states = 0;
  let startedNs = 0;
  for await (const rows of engine.watch<Watched["rows"][number]>({ table }, { coalesceMs })) {
    const endedNs = now();
    if (states++ === 0) {
      startedNs = endedNs;
      say("watching");
    }
    if (rows.some(({ value }) => value === last))
      return { states, ms: (endedNs - startedNs) / 1e6, endedNs, rows: [...rows] };
  }
  throw new Error("expected the last value, and the states ended");
}

function now(): number {
  return Number(process.hrtime.bigint());
}
