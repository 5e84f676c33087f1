/** The React hooks in a real browser, where StrictMode mounts everything twice. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build, defaultClientConditions } from "vite";
import type { Client } from "../../client-sdk/index.ts";
import { launchBrowser } from "../support/browser.ts";
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
  const url = await servePage(t);
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

/** The page, bundled with React's development build, the one that knows StrictMode; and its address. */
async function servePage(t: TestContext): Promise<string> {
  const outDir = await mkdtemp(join(tmpdir(), "walcast-react-"));
  t.after(() => rm(outDir, { recursive: true, force: true }));
  await build({
    root: fileURLToPath(new URL("react", import.meta.url)),
    configFile: false,
    logLevel: "error",
    define: { "process.env.NODE_ENV": JSON.stringify("development") },
    resolve: { conditions: ["@walcast/source", ...defaultClientConditions] },
    build: { outDir, target: "es2023", minify: false, chunkSizeWarningLimit: 5_000 },
  });
  const types: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };
  const server = createServer((request, response) => {
    const path = new URL(request.url!, "http://localhost").pathname;
    const file = join(outDir, path === "/" ? "index.html" : path);
    response.setHeader("content-type", types[extname(file)] ?? "application/octet-stream");
    readFile(file).then(
      (bytes) => response.end(bytes),
      () => response.writeHead(204).end(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
