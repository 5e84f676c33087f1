/**
 * A client as an application has it: a shape of the whole table with an index, and a live query of the newest rows. Notes
 * when each commit's value is in the rows that the live query's callback gets. Says "ready", and after the last commit
 * when each one was shown.
 */
import { createClient } from "../../client-sdk/index.ts";
import { say, whenDismissed } from "../processes.ts";
import { Arrivals } from "./arrivals.ts";

const [port = "", commits = "", table = "", top = ""] = process.argv.slice(2);
const arrivals = new Arrivals(Number(commits));

const client = createClient({
  url: `ws://127.0.0.1:${port}`,
  shapes: { newest: { table, indexes: ["created_at desc"] } },
});
whenDismissed(() => client.close());
await client.preload();
const live = client.live<{ note: string }>(`select * from ${table} order by created_at desc limit ${top}`);
await live.ready;
live.subscribe((rows) => {
  const at = Number(process.hrtime.bigint());
  arrivals.saw(
    at,
    rows.map(({ note }) => note),
  );
});
say("ready");
