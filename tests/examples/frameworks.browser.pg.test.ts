/** The example of frameworks in a real browser, with a real Postgres at the other end: through a drop, and without rights. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Client } from "../../client-sdk/index.ts";
import { svelte } from "../../examples/frameworks/vite.config.ts";
import { cuttable } from "../client-sdk/cuttable.ts";
import { running } from "../sockets/running.ts";
import { launchPage } from "../support/browser.ts";
import { servePage } from "../support/page.ts";

const names = ["react", "vue", "svelte", "solid"];

test("React, Vue, Svelte and Solid show the same rows of Postgres, through a drop, and why where they may not", async (t) => {
  const address = await servePage(t, {
    root: new URL("../../examples/frameworks", import.meta.url),
    plugins: [svelte],
  });
  const world = await running(
    {
      auth: (token) => ({ claims: { sub: token }, scopes: [] }),
      tables: { orders: { read: ({ claims }) => claims["sub"] !== "nobody" } },
    },
    "create table orders (id int primary key, status text); insert into orders select n, 'new' from generate_series(1, 6) n",
  );
  t.after(() => world.close());
  const network = await cuttable(t, world.engine.url);
  const page = await launchPage(t);
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  const shows = (expected: string): Promise<unknown> =>
    page.waitForFunction(
      ([all, expected]) =>
        all.every((name) => document.getElementById(name)!.innerText.trim().replaceAll("\n", ", ") === expected),
      [names, expected] as const,
    );

  await page.goto(`${address}/?engine=${network.url}`);
  await shows("6: new, 5: new, 4: new, 3: new, 2: new");
  await world.transaction("update orders set status = 'paid' where id = 6", "delete from orders where id = 5");
  await shows("6: paid, 4: new, 3: new, 2: new, 1: new");
  await network.away(() =>
    world.transaction("delete from orders where id < 4", "insert into orders values (7, 'while away')"),
  );
  await shows("7: while away, 6: paid, 4: new");
  const setToken = (token: string): Promise<unknown> =>
    page.evaluate((token) => (globalThis as unknown as { client: Client }).client.setToken(token), token);
  await setToken("nobody");
  await page.waitForFunction((all) => all.every((name) => document.querySelector(`#${name} p`)), names);
  const said = await page.evaluate((all) => all.map((name) => document.getElementById(name)!.innerText.trim()), names);
  assert.deepEqual([new Set(said).size, complaints], [1, []]);
  assert.match(said[0]!, /orders/);
});
