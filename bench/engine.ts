/** The engine itself, on any free port. Tables are named with commas between them. */
import { createEngine } from "../engine/index.ts";
import { say, whenDismissed } from "./processes.ts";

const [databaseUrl = "", tables = "", dataDir = "", tailBytes, keptSnapshotBytes] = process.argv.slice(2);
const engine = await createEngine({
  databaseUrl,
  dataDir,
  port: 0,
  tables: Object.fromEntries(tables.split(",").map((table) => [table, { read: true }])),
  ...(tailBytes === undefined ? {} : { log: { tailBytes: Number(tailBytes) } }),
  ...(keptSnapshotBytes === undefined ? {} : { limits: { keptSnapshotBytes: Number(keptSnapshotBytes) } }),
  logLevel: "error",
});
whenDismissed(() => engine.close());
say(Number(new URL(engine.url).port));
