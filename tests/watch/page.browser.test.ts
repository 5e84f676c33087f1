/** The examples' pages in a browser: a bare EventSource, and HTML that a server renders. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import type { Engine } from "../../engine/index.ts";
import { start } from "../../examples/sse/server.ts";
import { launchPage } from "../support/browser.ts";
import { running } from "../sockets/running.ts";

const table =
  "create table orders (id int primary key, status text not null); insert into orders values (1, 'new'), (2, '<b>')";

test("a page with nothing but EventSource shows each commit, and goes on after the connection was cut", async (t) => {
  const html = await readFile(new URL("../../examples/sse/orders.html", import.meta.url), "utf8");
  const app = (): Response => new Response(html, { headers: { "Content-Type": "text/html" } });
  const server = await running({ app, tables: { orders: { read: true } } }, table);
  const examples: Engine[] = [];
  t.after(async () => {
    for (const example of examples) await example.close();
    await rm(`${server.dataDir}-example`, { recursive: true, force: true });
    await server.close();
  });
  const page = await launchPage(t);
  const way = await wayTo(server.engine.url);
  t.after(() => way.close());
  await page.goto(`${way.url}/?engine=${way.url}`);
  const shows = (text: string): Promise<unknown> =>
    page.waitForFunction((expected) => document.body.innerText.trim() === expected, text);
  await shows("1: new\n2: <b>");
  await server.transaction("update orders set status = 'paid' where id = 1", "delete from orders where id = 2");
  await shows("1: paid");
  way.cut();
  await server.transaction("insert into orders values (3, 'while away')");
  await shows("1: paid\n3: while away");

  examples.push(await start(server.db.url, 0, `${server.dataDir}-example`));
  await page.goto(examples[0]!.url);
  await shows("3: while away\n1: paid");
  await server.transaction("update orders set status = '<i>' where id = 3");
  await shows("3: <i>\n1: paid");
  assert.equal(await page.locator("i").count(), 0);
});

/** A way to the engine that can be cut. */
async function wayTo(url: string): Promise<{ url: string; cut(): void; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(new URL(url).port), "127.0.0.1");
    for (const socket of [near, far]) sockets.add(socket.on("error", () => {}));
    near.pipe(far).pipe(near);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const cut = (): void => sockets.forEach((socket) => socket.destroy());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    close() {
      server.close();
      cut();
    },
  };
}
