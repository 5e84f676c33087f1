/** The engine with so many connections a minute for an address, on any free port. */
import { createEngine } from "../../engine/index.ts";
import { say, whenDismissed } from "../processes.ts";

const [databaseUrl = "", table = "", dataDir = "", connectsPerMinute = ""] = process.argv.slice(2);
const engine = await createEngine({
  databaseUrl,
  dataDir,
  port: 0,
  tables: { [table]: { read: true } },
  limits: { connectsPerMinute: Number(connectsPerMinute) },
  logLevel: "error",
});
whenDismissed(() => engine.close());
say(Number(new URL(engine.url).port));
