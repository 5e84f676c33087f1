/** A page that React renders on the server as it streams, whose script comes late: its rows are there at once, and never away. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement, type ReactNode } from "react";
import { renderToReadableStream } from "react-dom/server";
import type { Client } from "../../client-sdk/index.ts";
import { running } from "../sockets/running.ts";
import { launchPage } from "../support/browser.ts";
import { servePage } from "../support/page.ts";
import { List, type Order, Page, shapes } from "./seeded/view.ts";

/** What the page leaves for us to reach. */
interface PageGlobals {
  readonly client: Client;
  readonly seen: readonly string[];
}

/** Notes all that the list ever shows. */
const witness = `<script>
  globalThis.seen = [];
  new MutationObserver(() => {
    const shown = document.querySelector("main")?.innerText.replaceAll("\\n", ", ") ?? "";
    if (seen.at(-1) !== shown) seen.push(shown);
  }).observe(document, { childList: true, subtree: true, characterData: true });
</script>`;

test("rows are in the first paint, and the page goes on from them when its script comes", async (t) => {
  const bundle = await servePage(t, { root: new URL("seeded", import.meta.url) });
  const [, script] = /src="([^"]+)"/.exec(await (await fetch(bundle)).text())!;
  const scriptMayCome = Promise.withResolvers<void>();

  const render = async (): Promise<Response> => {
    const seed = world.engine.seed(shapes);
    const orders = (first: readonly Order[]): ReactNode => createElement(List, { orders: first });
    const body = createElement(
      "html",
      null,
      createElement("head", {
        dangerouslySetInnerHTML: { __html: `<meta charset="utf-8"><title>seeded</title>${witness}` },
      }),
      createElement("body", null, createElement("main", null, createElement(Page, { seed, orders }))),
    );
    const options = { bootstrapModules: [script!] };
    return new Response(await renderToReadableStream(body, options), { headers: { "Content-Type": "text/html" } });
  };
  const asset = async (path: string): Promise<Response> => {
    if (path === script) await scriptMayCome.promise;
    return fetch(`${bundle}${path}`);
  };
  const app = ({ url }: Request): Promise<Response> => {
    const { pathname } = new URL(url);
    return pathname === "/" ? render() : asset(pathname);
  };
  const world = await running(
    { app },
    "create table orders (id int primary key, status text); insert into orders values (1, '<b>'), (2, 'new')",
  );
  t.after(() => world.close());

  const page = await launchPage(t);
  const complaints: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  const shows = (text: string): Promise<unknown> =>
    page.waitForFunction((one) => document.querySelector("main")?.innerText.replaceAll("\n", ", ") === one, text);

  await page.goto(world.engine.url, { waitUntil: "commit" });
  await shows("1 <b>, 2 new");
  await world.transaction("update orders set status = 'paid' where id = 2", "insert into orders values (3, 'late')");
  const { snapshotsTotal } = world.engine.stats();
  scriptMayCome.resolve();
  await shows("1 <b>, 2 paid, 3 late");
  await world.transaction("delete from orders where id = 1");
  await shows("2 paid, 3 late");

  const { seen, inspection } = await page.evaluate(() => {
    const { seen, client } = globalThis as unknown as PageGlobals;
    return { seen, inspection: client.inspect() };
  });
  const shown = seen.slice(seen.indexOf("1 <b>, 2 new"));
  assert.deepEqual(shown, ["1 <b>, 2 new", "1 <b>, 2 paid, 3 late", "2 paid, 3 late"]);
  assert.deepEqual([inspection.resumes, world.engine.stats().snapshotsTotal, complaints], [1, snapshotsTotal, []]);
});
