/**
 * The bindings to frameworks in a real browser: one page and one client, on which an application in each of them is mounted
 * by turns. React's StrictMode mounts everything twice.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Client } from "../../client-sdk/index.ts";
import { svelte } from "../../examples/frameworks/vite.config.ts";
import { launchPage } from "../support/browser.ts";
import { servePage } from "../support/page.ts";
import { until } from "../support/until.ts";
import { commit, Peer, type PeerConnection, table, text } from "./peer.ts";

const orders = table("orders", ["id integer", "status text"]);

/** What page.ts leaves for us to reach. */
interface PageGlobals {
  readonly client: Client;
  readonly renders: readonly string[];
  readonly heard: readonly string[];
  mount(name: string): void;
  setLeast(id: number): void;
  unmount(): void;
}

const three = ["1", "2", "3"].map((id) => [id, "new"]);

test("bindings show one state, follow it, and leave nothing behind", async (t) => {
  const peer = await Peer.start(t);
  const url = await servePage(t, {
    root: new URL("bindings", import.meta.url),
    plugins: [svelte],
    define: {
      // The build that knows StrictMode.
      "process.env.NODE_ENV": JSON.stringify("development"),
      __VUE_OPTIONS_API__: "false",
      __VUE_PROD_DEVTOOLS__: "false",
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
    },
  });
  const page = await launchPage(t);
  const complaints: string[] = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  const shows = (text: string) => page.getByText(text, { exact: true }).waitFor();
  const mount = (name: string) => page.evaluate((name) => (globalThis as unknown as PageGlobals).mount(name), name);
  const setLeast = (id: number) => page.evaluate((id) => (globalThis as unknown as PageGlobals).setLeast(id), id);

  /** It is gone, and what it asked for with it. */
  const unmounted = async (server: PeerConnection, ids: readonly number[]): Promise<void> => {
    await page.evaluate(() => (globalThis as unknown as PageGlobals).unmount());
    const left = new Set<number>();
    while (left.size < ids.length) left.add((await server.message("unsubscribe")).id);
    assert.deepEqual(left, new Set(ids));
    const { shapes, channels, live } = await page.evaluate(() =>
      (globalThis as unknown as PageGlobals).client.inspect(),
    );
    assert.deepEqual([shapes, channels, live], [[], [], []]);
  };

  let programs = 0;
  page.on("request", (request) => void (programs += Number(/\.wasm\b/.test(request.url()))));

  // Greeted after the second mounting: what the first one began must not be asked for.
  await page.goto(`${url}/?server=${encodeURIComponent(peer.url)}`);
  await until(() => peer.openCount === 1);
  assert.equal(programs, 0, "nobody wants rows yet: no PGlite");
  await mount("react");
  await shows("true | connecting | loading | loading | |");
  const server = await peer.greeted();
  const ids = await answered(server, 16n);
  assert.deepEqual(new Set(ids), new Set([1, 2, 3]));
  await shows("true | live | ready | ready | 1 new,2 new,3 new | 1,2,3");
  await shows("live:  | joined");
  happens(server, ids, 32n);
  await shows("live: two,three | joined");
  await shows("true | live | ready | ready | 2 paid,3 new | 2,3");
  await setLeast(3);
  await shows("true | live | ready | ready | 3 new | 3");
  assert.ok(programs > 0);
  await unmounted(server, ids);
  const renders = await page.evaluate(() => [...new Set((globalThis as unknown as PageGlobals).renders)]);
  assert.deepEqual(renders.sort(), ["1 and 1", "2 and 2", "3 and 3"]);

  let position = 32n;
  for (const framework of ["vue", "svelte", "solid"]) {
    await mount(framework);
    await shows("catching-up | loading | loading |");
    const ids = await answered(server, (position += 16n));
    await shows("live | ready | ready | 1 new,2 new,3 new");
    await shows("live:  | joined");
    happens(server, ids, (position += 16n));
    await shows("live: two,three | joined");
    await shows("live | ready | ready | 2 paid,3 new");
    await setLeast(3);
    await shows("live | ready | ready | 3 new");
    await unmounted(server, ids);
  }
  const heard = await page.evaluate(() => (globalThis as unknown as PageGlobals).heard);
  assert.deepEqual(heard, Array.from({ length: 4 }, () => ["one", "two", "three", "INSERT 3"]).flat());

  await mount("waiting");
  await shows("waiting");
  await shows("seeded loading | 0");
  const shape = await server.message("subscribe");
  const channel = await subscribedTwice(server);
  assert.equal(channel.shape.where, "id > 2");
  for (const { id } of [shape, channel]) server.describe(id, orders);
  server.copy(shape.id, three);
  server.join((position += 16n), { [shape.id]: [], [channel.id]: [] });
  await shows("ready | 1,2,3");
  await shows("joined |");
  for (const id of ["4", "5"]) {
    const change = commit((position += 16n), { kind: "insert", row: [id, "new"] });
    server.commits(position, { [shape.id]: [change], [channel.id]: [change] });
  }
  await shows("ready | 1,2,3,4,5");
  await shows("joined | INSERT 4,INSERT 5");
  // Another query suspends, and is complete at once.
  await shows("seeded ready | 1,2,3,4,5");
  await setLeast(5);
  await shows("ready | 5");
  await shows("seeded ready | 5");
  await page.evaluate(() => (globalThis as unknown as PageGlobals).unmount());
  await Promise.all([server.message("unsubscribe"), server.message("unsubscribe")]);
  assert.deepEqual(complaints, []);
});

/** A shape, a channel and a topic are asked for, and answered. Gives their ids, in this order. */
async function answered(server: PeerConnection, position: bigint): Promise<readonly number[]> {
  const asked = [await server.message("subscribe"), await server.message("subscribe")];
  const shape = asked.find(({ changes }) => !changes)!.id;
  const channel = asked.find(({ changes }) => changes)!.id;
  const topic = (await server.message("listen")).id;
  for (const id of [shape, channel]) server.describe(id, orders);
  server.copy(shape, three);
  server.send({ kind: "listening", id: topic, identity: "news", from: text(position) });
  server.join(position, { [shape]: [], [channel]: [], [topic]: [] });
  return [shape, channel, topic];
}

/** One commit, of which each of them is told something. */
function happens(server: PeerConnection, [shape, channel, topic]: readonly number[], position: bigint): void {
  const messages = ["one", "two", "three"].map((payload) => ({
    kind: "insert" as const,
    row: [JSON.stringify(payload)],
  }));
  server.commits(position, {
    [shape!]: [commit(position, { kind: "update", row: ["2", "paid"] }, { kind: "delete", key: ["1"] })],
    [channel!]: [commit(position, { kind: "insert", row: ["3", "new"] })],
    [topic!]: [commit(position, ...messages)],
  });
}

/** What is asked for, given back and asked for again, as StrictMode does. */
async function subscribedTwice(server: PeerConnection) {
  const first = await server.message("subscribe");
  assert.equal((await server.message("unsubscribe")).id, first.id);
  return server.message("subscribe");
}
