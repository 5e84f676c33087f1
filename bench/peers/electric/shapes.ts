/**
 * In the place of Electric's server, which cannot be had from npm: a table's rows as its HTTP protocol has them, made beforehand and sent
 * from memory in chunks of its size. What a client makes of them is measured, no server. https://electric.ax/docs/api/http
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import pg from "pg";
import { say, whenDismissed } from "../../processes.ts";

/** Electric's default. */
const chunkBytes = 10 * 1024 * 1024;

const [url = "", table = ""] = process.argv.slice(2);
const client = new pg.Client({
  connectionString: url,
  options: "-c timezone=UTC",
  types: { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig,
});
await client.connect();
const chunks = chunked(await messages());
const schema = JSON.stringify(await columnTypes());
await client.end();

const server = createServer((request, response) => {
  const { searchParams } = new URL(request.url!, "http://localhost");
  // Whoever has everything waits for changes, of which there are none.
  if (searchParams.has("live")) return;
  const offset = searchParams.get("offset")!;
  const chunk = offset === "-1" ? 0 : Number(offset.split("_")[1]);
  response.setHeader("content-type", "application/json");
  response.setHeader("electric-handle", "bench");
  response.setHeader("electric-offset", `0_${chunk + 1}`);
  response.setHeader("electric-schema", schema);
  if (chunk === chunks.length - 1) response.setHeader("electric-up-to-date", "");
  response.end(chunks[chunk]);
}).listen(0, "127.0.0.1");
await once(server, "listening");
whenDismissed(() => server.closeAllConnections());
say((server.address() as AddressInfo).port);

async function messages(): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(`select * from ${table}`);
  const relation = ["public", table];
  return rows.map((value) =>
    JSON.stringify({
      key: `"public"."${table}"/"${value.id}"`,
      value,
      headers: { operation: "insert", relation },
    }),
  );
}

function chunked(all: readonly string[]): string[] {
  const chunks: string[] = [];
  let next: string[] = [];
  let bytes = 0;
  for (const message of all) {
    if (bytes + message.length > chunkBytes) {
      chunks.push(`[${next.join(",")}]`);
      next = [];
      bytes = 0;
    }
    next.push(message);
    bytes += message.length;
  }
  const upToDate = JSON.stringify({ headers: { control: "up-to-date", global_last_seen_lsn: "1" } });
  return [...chunks, `[${[...next, upToDate].join(",")}]`];
}

async function columnTypes(): Promise<Record<string, { type: string }>> {
  const { rows } = await client.query<{ name: string; type: string }>(
    `select attname as name, typname as type from pg_attribute join pg_type t on t.oid = atttypid
     where attrelid = '${table}'::regclass and attnum > 0 order by attnum`,
  );
  return Object.fromEntries(rows.map(({ name, type }) => [name, { type }]));
}
