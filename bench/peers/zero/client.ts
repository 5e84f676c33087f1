/**
 * Zero's client as an application has it: the whole table preloaded, as its documentation advises for what is looked at, and a view of
 * the newest rows. Notes when each commit's value is in the rows that the view's listener gets. Says "ready", and after the last commit
 * when each one was shown.
 */
import { Zero } from "@rocicorp/zero";
import { Arrivals } from "../../latency/arrivals.ts";
import { say, whenDismissed } from "../../processes.ts";
import { workloads } from "./schema.ts";

const [port = "", commits = "", top = "", preloaded = ""] = process.argv.slice(2);
const { schema, queries } = workloads.newest;
const arrivals = new Arrivals(Number(commits));

const zero = new Zero({ cacheURL: `http://127.0.0.1:${port}`, schema, kvStore: "mem" });
whenDismissed(() => zero.close());
if (preloaded !== "") await zero.preload(queries.all()).complete;
const view = zero.materialize(queries.top({ top: Number(top) }));
await new Promise<void>((resolve) => {
  view.addListener((rows, result) => {
    const at = Number(process.hrtime.bigint());
    arrivals.saw(
      at,
      rows.map(({ note }) => note),
    );
    if (result === "complete") resolve();
  });
});
say("ready");
