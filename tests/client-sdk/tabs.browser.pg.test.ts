/** Tabs of a real browser that share one replica, against a real engine. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import type { Client, LiveQuery } from "../../client-sdk/index.ts";
import { type Running, running } from "../sockets/running.ts";
import { launchBrowser } from "../support/browser.ts";
import { servePage } from "../support/page.ts";
import { until } from "../support/until.ts";

/** What page.ts leaves for us to reach. */
interface PageGlobals {
  readonly client: Client;
  readonly live: LiveQuery<{ id: number; status: string }>;
  readonly shown: readonly string[];
  readonly statuses: readonly string[];
}

const releasing: (() => Promise<unknown>)[] = [];
const releases = { after: (release: () => Promise<unknown>) => void releasing.push(release) };
let world: Running;
let url: string;
let browser: Browser;

before(async () => {
  world = await running(
    {},
    "CREATE TABLE orders (id int PRIMARY KEY, status text); INSERT INTO orders VALUES (1, 'new'), (2, 'new')",
  );
  url = await servePage(releases, { root: new URL("tabs", import.meta.url) });
  browser = await launchBrowser(releases);
});
after(async () => {
  await world.close();
  for (const release of releasing.reverse()) await release();
});

/** One user's browser: its tabs have one storage. */
class Tabs {
  readonly context: BrowserContext;
  private readonly replica: string;

  constructor(context: BrowserContext, replica: string) {
    this.context = context;
    this.replica = replica;
  }

  static async start(t: TestContext): Promise<Tabs> {
    const context = await browser.newContext();
    t.after(() => context.close());
    return new Tabs(context, "idb://tabs");
  }

  async open(token?: string): Promise<Page> {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => assert.fail(error));
    page.on("console", (message) => message.type() === "error" && console.error(message.text()));
    const query = new URLSearchParams({ server: world.engine.url, replica: this.replica, ...(token ? { token } : {}) });
    await page.goto(`${url}/?${query.toString()}`);
    return page;
  }
}

function shown(page: Page): Promise<string> {
  return page.evaluate(() => (globalThis as unknown as PageGlobals).shown.at(-1) ?? "");
}

async function shows(page: Page, text: string): Promise<void> {
  await until(async () => (await shown(page)) === text);
}

async function write(status: string): Promise<string> {
  await world.transaction(`UPDATE orders SET status = '${status}'`);
  return `1 ${status},2 ${status}`;
}

function clients(): Promise<number> {
  return world.metric('walcast_clients{state="live"}');
}

test("tabs share one replica and one socket, and go on when the one that has it is closed, crashes or is frozen", async (t) => {
  const tabs = await Tabs.start(t);
  const first = await tabs.open();
  await shows(first, await write("first"));
  const others = [await tabs.open(), await tabs.open(), await tabs.open()];
  for (const page of others) await shows(page, await write("shared"));
  assert.equal(await clients(), 1);

  const started = performance.now();
  await first.close();
  const closed = await write("closed");
  for (const page of others) await shows(page, closed);
  t.diagnostic(`closed: ${Math.round(performance.now() - started)} ms`);
});
