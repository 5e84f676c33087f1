/** The page of tabs.browser.pg.test.ts: a client on a replica that all tabs share, and what it has shown. */
import { askToPersist, type Client, createClient } from "../../../client-sdk/index.ts";

const query = new URLSearchParams(location.search);
const token = query.get("token");

const client: Client = createClient({
  url: query.get("server")!,
  replica: query.get("replica")!,
  ...(token === null ? {} : { token }),
  ...(query.has("observed") ? { worker: observedWorker } : {}),
  shapes: { orders: { table: "orders" } },
  backoff: { baseMs: 10, maxMs: 200 },
});
const live = client.live<{ id: number; status: string }>("SELECT id, status FROM orders ORDER BY id");
const shown: string[] = [];
const heard: unknown[] = [];
live.subscribe((rows) => shown.push(rows.map(({ status }) => status).join()));
client.topic("news").subscribe({ onMessage: ({ payload }) => heard.push(payload) });
// The latter two for examples of the documentation.
Object.assign(globalThis, { client, live, shown, heard, statusIs, createClient, askToPersist });

async function statusIs(status: string): Promise<void> {
  while (client.status !== status) await new Promise<void>((resolve) => client.onStatus(() => resolve()));
}

function observedWorker(): Worker {
  return new Worker(new URL("./observed-worker.ts", import.meta.url), { type: "module", name: query.get("observed")! });
}
