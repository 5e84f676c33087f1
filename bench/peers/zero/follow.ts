/**
 * A client that has what four writers write: all orders, and the row that the probe counts in. Says what the probe's count was, and told
 * a count, when it first had that.
 */
import { Zero } from "@rocicorp/zero";
import { say, whenDismissed } from "../../processes.ts";
import { workloads } from "./schema.ts";

const [port = ""] = process.argv.slice(2);
const { schema, queries } = workloads.written;
const zero = new Zero({ cacheURL: `http://127.0.0.1:${port}`, schema, kvStore: "mem" });
whenDismissed(() => zero.close());
await zero.preload(queries.all()).complete;

let count = 0;
let since = 0;
let awaited: number | undefined;
process.on("message", (told: number) => {
  awaited = told;
  answer();
});
const view = zero.materialize(queries.probe());
await new Promise<void>((resolve) => {
  view.addListener((rows, result) => {
    count = rows[0]?.n ?? 0;
    since = Number(process.hrtime.bigint());
    answer();
    if (result === "complete") resolve();
  });
});
say(count);

function answer(): void {
  if (awaited === undefined || count < awaited) return;
  awaited = undefined;
  say(since);
}
