/** A process with a replica in a directory, to be killed: `killed.ts URL DIRECTORY`. Says when it applied something. */
import { createClient } from "../../client-sdk/index.ts";

const [url, replica] = process.argv.slice(2);
const client = createClient({
  url: url!,
  replica: replica!,
  backoff: { baseMs: 1, maxMs: 20 },
  shapes: { orders: { table: "orders" }, items: { table: "items" } },
});
await client.preload();
const live = client.live<{ count: number }>("select count(*)::int as count from orders");
live.subscribe(([row]) => process.stdout.write(`${row!.count}\n`));
