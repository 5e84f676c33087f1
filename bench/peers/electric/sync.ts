/** PGlite with Electric's sync in a fresh process: syncs the table by COPY, its fastest way, says what that took and what it has. */
import { PGlite } from "@electric-sql/pglite";
import { electricSync } from "@electric-sql/pglite-sync";
import { addKey, createTable } from "../../first-sync/rows.ts";
import { say, whenDismissed } from "../../processes.ts";
import type { Synced } from "../first-sync.ts";

const [port = "", table = ""] = process.argv.slice(2);
const pglite = await PGlite.create("memory://", { extensions: { electric: electricSync() } });
whenDismissed(() => pglite.close());
await pglite.exec(`${createTable(table)}; ${addKey(table)}`);

const started = performance.now();
await new Promise<void>((onInitialSync, onError) => {
  const shape = { url: `http://127.0.0.1:${port}/v1/shape`, params: { table } };
  void pglite.electric.syncShapeToTable({
    ...{ shape, table, primaryKey: ["id"], shapeKey: table, initialInsertMethod: "csv" },
    ...{ onInitialSync, onError },
  });
});
const loadMs = performance.now() - started;

const { rows } = await pglite.query<Omit<Synced, "loadMs">>(
  `select count(*)::int as rows, sum(id + coalesce(length(note), 0))::float as sum from ${table}`,
);
say({ loadMs, ...rows[0]! } satisfies Synced);
