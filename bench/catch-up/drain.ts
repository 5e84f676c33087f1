/** The engine with a backlog in its slot: says how many milliseconds it took from the first transaction to the last. */
import { createEngine } from "../../engine/index.ts";
import { parseLsn } from "../../engine/protocol.ts";
import { say, whenDismissed } from "../processes.ts";

const [databaseUrl = "", table = "", dataDir = "", slot = "", target = ""] = process.argv.slice(2);
const end = BigInt(target);
const engine = await createEngine({
  databaseUrl,
  dataDir,
  slot,
  port: 0,
  tables: { [table]: { read: true } },
  logLevel: "error",
});
const first = position();
whenDismissed(() => engine.close());
say("streaming");
let startedNs = process.hrtime.bigint();
const watching = setInterval(watch, 1);
process.once("disconnect", () => clearInterval(watching));

/** Before the first commit the walsender is looking for it, which the floor does not count either. */
function watch(): void {
  const at = position();
  if (at === first) startedNs = process.hrtime.bigint();
  if (at < end) return;
  clearInterval(watching);
  say(Number(process.hrtime.bigint() - startedNs) / 1e6);
}

function position(): bigint {
  return parseLsn(engine.health().position);
}
