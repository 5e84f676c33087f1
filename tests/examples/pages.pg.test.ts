/** The examples of docs/client.md and docs/live-queries.md, run as they stand there against a real engine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { renderToString } from "react-dom/server";
import { type Channel, type Client, createClient, type LiveQuery } from "../../client-sdk/index.ts";
import { type Running, running } from "../sockets/running.ts";
import { type Example, exampleFolder, examplesOf, runExample, scriptOf } from "../support/examples.ts";
import { until } from "../support/until.ts";

const address = "ws://localhost:4437";
const releases: (() => Promise<unknown>)[] = [];
let server: Running;
let client: Client;
let folder: string;
let files = 0;

before(async () => {
  server = await running(
    { topics: { notifications: { read: true } } },
    `create table orders (id int primary key, customer_id int, status text, amount numeric(12,2), created_at timestamptz);
     insert into orders select n, 7, case n when 3 then 'archived' else 'new' end, n, timestamptz '2026-01-01' + n * interval '1 hour' from generate_series(1, 3) n`,
  );
  folder = await exampleFolder({ after: (release) => void releases.push(release) }, "pages");
  client = createClient({ url: server.engine.url, shapes: { orders: { table: "orders" } } });
  await client.preload();
});
after(async () => {
  await client.close();
  await server.close();
  for (const release of releases) await release();
});

const clientPage = await examplesOf("docs/client.md");
const livePage = await examplesOf("docs/live-queries.md");

test("the pages have the examples that are run here; the inspector's needs a page, and is only compiled", () => {
  assert.deepEqual(
    [clientPage, livePage].map((examples) => examples.map(({ code }) => example(code))),
    [
      ["createClient", "BEGIN READ WRITE", "channel", "topic", "mountInspector", "useLiveQuery"],
      ["live<Order>", "sync"],
    ],
  );
});

test("client.md: a client, its shape and a live query", async () => {
  const rendered: string[] = [];
  const render = (rows: readonly { id: number }[]): void => void rendered.push(rows.map(({ id }) => id).join());
  const { client: shown } = await run(clientPage[0]!, { render }, { [address]: server.engine.url }, "client");
  await until(() => rendered.at(-1) === "2,1");
  await server.transaction("update orders set status = 'new' where id = 3");
  await until(() => rendered.at(-1) === "3,2,1");
  await (shown as Client).close();
});

test("client.md: a table of one's own", async () => {
  await run(clientPage[1]!, { client, orderId: 2, note: "call them" });
  assert.deepEqual(await client.query("select o.id, d.note from orders o join drafts d on d.order_id = o.id"), [
    { id: 2, note: "call them" },
  ]);
});

test("client.md: a channel", async () => {
  const told: unknown[] = [];
  const notify = ({ id }: { id: number }): void => void told.push(id);
  const log = (type: string, old: unknown, row: unknown): void => void told.push([type, !!old, !!row]);
  const { channel } = await run(clientPage[2]!, { client, notify, log }, {}, "channel");
  await server.transaction("insert into orders values (4, 7, 'new', 4, '2026-01-02')");
  await server.transaction("update orders set status = 'paid' where id = 4");
  await until(() => told.length === 3);
  assert.deepEqual(told, [4, ["INSERT", false, true], ["DELETE", true, false]]);
  await (channel as Channel<unknown>).unsubscribe();
});

test("client.md: a topic", async () => {
  const shown: unknown[] = [];
  const given = { client, reload: assert.fail, hide: assert.fail, show: (payload: unknown) => shown.push(payload) };
  const { stop } = await run(clientPage[3]!, given, {}, "stop");
  await server.db.query(`select walcast.publish('notifications', '{"text": "hello"}')`);
  await until(() => shown.length === 1);
  assert.deepEqual(shown, [{ text: "hello" }]);
  (stop as () => void)();
});

test("client.md: a component", async () => {
  let html = "";
  const root = { render: (element: Parameters<typeof renderToString>[0]) => (html = renderToString(element)) };
  await run(clientPage[5]!, { client, root });
  // On a server it is loading.
  assert.equal(html, "<p>…</p>");
});

test("live-queries.md: a live query, and an index for it", async () => {
  const rendered: string[] = [];
  const render = (rows: readonly { id: number }[]): void => void rendered.push(rows.map(({ id }) => id).join());
  const { live } = await run(livePage[0]!, { client, render }, {}, "live");
  await until(() => rendered.at(-1) === "4,3,2,1");
  await server.transaction("delete from orders where id = 4");
  await until(() => rendered.at(-1) === "3,2,1");
  (live as LiveQuery<unknown>).close();
  await run(livePage[1]!, { client });
  const indexed = async (): Promise<string> =>
    JSON.stringify(await client.query("select indexdef from pg_indexes where tablename = 'orders'"));
  await until(async () => /\(customer_id, created_at DESC\).*\(status\)/.test(await indexed()));
});

/** What tells it from the page's others. */
function example(code: string): string | undefined {
  return /BEGIN READ WRITE|mountInspector|useLiveQuery|createClient|(?<=client\s*\.)(?:channel|topic|live<Order>|sync)/.exec(
    code,
  )?.[0];
}

async function run(
  one: Example,
  given: Readonly<Record<string, unknown>>,
  replaced: Readonly<Record<string, string>> = {},
  ...declared: readonly string[]
): Promise<Record<string, unknown>> {
  const script = await scriptOf(one, replaced);
  return runExample(script, join(folder, `example-${files++}.mjs`), given, ...declared);
}
