/** A client of ours in a fresh process: opens, syncs the table, says what the latter took and what it has. */
import { createClient } from "../../client-sdk/index.ts";
import { say, whenDismissed } from "../processes.ts";
import type { Synced } from "./first-sync.ts";

const [port = "", table = ""] = process.argv.slice(2);
const client = createClient({ url: `ws://127.0.0.1:${port}` });
whenDismissed(() => client.close());
await client.query("select 1");
const started = performance.now();
await client.sync({ table }).ready;
const loadMs = performance.now() - started;

const [row] = await client.query<Omit<Synced, "loadMs">>(
  `select count(*)::int as rows, sum(id + coalesce(length(note), 0))::float as sum from ${table}`,
);
say({ loadMs, rows: row!.rows, sum: row!.sum } satisfies Synced);
