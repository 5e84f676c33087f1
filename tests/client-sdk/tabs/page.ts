/** The page of tabs.browser.pg.test.ts: a client on a replica that all tabs share, and what it has shown. */
import { type Client, createClient } from "../../../client-sdk/index.ts";

const query = new URLSearchParams(location.search);
const token = query.get("token");

const client: Client = createClient({
  url: query.get("server")!,
  replica: query.get("replica")!,
  ...(token === null ? {} : { token }),
  shapes: { orders: { table: "orders" } },
  backoff: { baseMs: 10, maxMs: 200 },
});
const live = client.live<{ id: number; status: string }>("SELECT id, status FROM orders ORDER BY id");
const shown: string[] = [];
const statuses: string[] = [];
live.subscribe((rows) => shown.push(rows.map(({ id, status }) => `${id} ${status}`).join()));
client.onStatus((status) => statuses.push(status));
Object.assign(globalThis, { client, live, shown, statuses });
