/** What a page asks that looks again and again: the newest rows by HTTP, each time from Postgres. Says its port. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import pg from "pg";
import { say, whenDismissed } from "../../processes.ts";

const [url = "", table = "", top = ""] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString: url, max: 10 });
const query = { name: "newest", text: `select * from ${table} order by created_at desc limit ${top}` };

const server = createServer((_, response) => {
  void pool
    .query(query)
    .then(({ rows }) => response.setHeader("content-type", "application/json").end(JSON.stringify(rows)));
}).listen(0, "127.0.0.1");
await once(server, "listening");
whenDismissed(async () => {
  server.closeAllConnections();
  await pool.end();
});
say((server.address() as AddressInfo).port);
