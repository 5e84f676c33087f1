/** Zero's client in a fresh process: preloads the table, says what that took and what it has. */
import { Zero } from "@rocicorp/zero";
import { say, whenDismissed } from "../../processes.ts";
import type { Synced } from "../first-sync.ts";
import { workloads } from "./schema.ts";

const [port = ""] = process.argv.slice(2);
const { schema, queries } = workloads.many;
const zero = new Zero({ cacheURL: `http://127.0.0.1:${port}`, schema, kvStore: "mem" });
whenDismissed(() => zero.close());
const started = performance.now();
await zero.preload(queries.all()).complete;
const loadMs = performance.now() - started;

const rows = await zero.run(queries.all());
const sum = rows.reduce((sum, { id, note }) => sum + id + (note?.length ?? 0), 0);
say({ loadMs, rows: rows.length, sum } satisfies Synced);
