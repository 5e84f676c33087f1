/** Publishes messages, each a transaction of its own with a pause between, and notes when each COMMIT was acknowledged. */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { markOf } from "../latency/arrivals.ts";
import { say, whenDismissed } from "../processes.ts";

const [url = "", topic = "", commits = "", pauseMs = ""] = process.argv.slice(2);
whenDismissed();
const client = new pg.Client({ connectionString: url });
await client.connect();
const acknowledged: number[] = [];
for (let number = 0; number < Number(commits); number++) {
  await delay(Number(pauseMs) * (0.5 + Math.random()));
  const text = "select walcast.publish($1, to_jsonb($2::text))";
  await client.query({ name: "publish", text, values: [topic, markOf(number)] });
  acknowledged.push(Number(process.hrtime.bigint()));
}
await client.end();
say(acknowledged);
