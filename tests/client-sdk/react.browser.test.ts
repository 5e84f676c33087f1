/** The React hooks in a real browser, where StrictMode mounts everything twice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Client } from "../../client-sdk/index.ts";
import { launchBrowser } from "../support/browser.ts";
import { servePage } from "../support/page.ts";
import { commit, Peer, table } from "./peer.ts";

const orders = table("orders", ["id integer", "status text"]);

/** What page.ts leaves for us to reach. */
interface PageGlobals {
  readonly client: Client;
  readonly renders: readonly string[];
  setLeast(id: number): void;
  setShown(isShown: boolean): void;
}

test("hooks show one state, follow it, and leave nothing behind, mounted twice by StrictMode or not", async (t) => {
  const peer = await Peer.start(t);
  const url = await servePage(t, {
    root: new URL("react", import.meta.url),
    // The build that knows StrictMode.
    define: { "process.env.NODE_ENV": JSON.stringify("development") },
  });
  const browser = await launchBrowser({ after: (release) => t.after(release) });
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  const shows = (text: string) => page.getByText(text, { exact: true }).waitFor();

  // Greeted after the second mounting: what the first one began must not be asked for.
  await page.goto(`${url}/?server=${encodeURIComponent(peer.url)}`);
  await shows("true | connecting | loading | loading | |");
  const server = await peer.greeted();
  const { id } = await server.message("subscribe");
  assert.equal(id, 1);
  server.describe(id, orders);
  server.copy(id, [
    ["1", "new"],
    ["2", "new"],
    ["3", "new"],
  ]);
  server.join(16n, { [id]: [] });
  await shows("true | live | ready | ready | 1 new,2 new,3 new | 1,2,3");

  server.commits(32n, {
    [id]: [commit(32n, { kind: "update", row: ["2", "paid"] }, { kind: "delete", key: ["1"] })],
  });
  await shows("true | live | ready | ready | 2 paid,3 new | 2,3");
  await page.evaluate(() => (globalThis as unknown as PageGlobals).setLeast(3));
  await shows("true | live | ready | ready | 3 new | 3");

  await page.evaluate(() => (globalThis as unknown as PageGlobals).setShown(false));
  await shows("nothing");
  assert.equal((await server.message("unsubscribe")).id, id);
  const inspection = await page.evaluate(() => (globalThis as unknown as PageGlobals).client.inspect());
  assert.deepEqual([inspection.shapes, inspection.live], [[], []]);
  const renders = await page.evaluate(() => [...new Set((globalThis as unknown as PageGlobals).renders)]);
  assert.deepEqual(renders.sort(), ["1 and 1", "2 and 2", "3 and 3"]);
  assert.deepEqual(complaints, []);
});
