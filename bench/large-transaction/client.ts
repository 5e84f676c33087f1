/** A client with the whole table and a live count. Each time it is told a count, says at what instant that count was shown. */
import { createClient } from "../../client-sdk/index.ts";
import { say, told, whenDismissed } from "../processes.ts";

const [port = "", table = ""] = process.argv.slice(2);
const client = createClient({ url: `ws://127.0.0.1:${port}`, shapes: { rows: { table } } });
whenDismissed(() => client.close());
await client.preload();
const live = client.live<{ count: number }>(`select count(*)::int as count from ${table}`, []);
await live.ready;
let wanted = -1;
live.subscribe(tellIfShown);
say("ready");
for (;;) {
  wanted = await told<number>();
  tellIfShown();
}

function tellIfShown(): void {
  if (live.rows[0]?.count !== wanted) return;
  wanted = -1;
  say(String(process.hrtime.bigint()));
}
