/** The order dashboard for tests: a shop in a database of its own, the engine, the built page, and windows on it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContextOptions, Locator, Page } from "playwright-core";
import { pino } from "pino";
import type { WalcastConfig } from "../../engine/config.ts";
import { createEngine, type Engine } from "../../engine/main.ts";
import { createApp } from "../../examples/order-dashboard/server/app.ts";
import { buildPage, builtPage } from "../../examples/order-dashboard/server/build.ts";
import { createShop } from "../../examples/order-dashboard/server/database.ts";
import { readable } from "../../examples/order-dashboard/server/readable.ts";
import { Traffic } from "../../examples/order-dashboard/server/traffic.ts";
import { launchBrowser } from "../support/browser.ts";
import { Wire } from "../simulation/wire.ts";
import { Random } from "../splice/random.ts";
import { lowPort, type Releasing, type TestDatabase, testDatabase } from "../support/postgres.ts";

export interface Dashboard {
  readonly db: TestDatabase;
  /** A window whose page shows the orders. */
  open(options?: BrowserContextOptions): Promise<Window>;
  /** Stops the engine: every socket closes. */
  stopEngine(): Promise<void>;
  /** Starts it again where it was, perhaps with other rules. */
  startEngine(rules?: WalcastConfig): Promise<void>;
  /** Between the windows and the engine nothing passes any more, and nobody is told. */
  cutNetwork(): void;
  mendNetwork(): void;
  /** Of the engine's metrics. */
  metric(name: string): Promise<number>;
  /** Runs statements as one transaction. */
  transaction(statements: readonly string[]): Promise<void>;
}

export interface Window {
  readonly page: Page;
  /** What the page complained about: console errors and exceptions. */
  readonly complaints: readonly string[];
  row(id: number): Locator;
  /** Resolves when the row has this text in it. */
  shows(id: number, text: string): Promise<void>;
  status(id: number): Promise<string>;
}

export async function openDashboard(t: Releasing): Promise<Dashboard> {
  const staticDir = (await builtPage()) ?? (await buildPage());
  const db = await testDatabase(t);
  await createShop(db.pool);
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-test-"));
  const app = createApp(db.pool, new Traffic(db.pool));
  const config = { databaseUrl: db.url, slot: db.name, port: lowPort(), dataDir, ...readable, staticDir, app };
  const start = (rules: WalcastConfig = {}): Promise<Engine> =>
    createEngine({ ...config, ...rules }, pino({ level: "silent" }));
  let engine = await start();
  const { url } = engine;
  t.after(async () => {
    await engine.close();
    await rm(dataDir, { recursive: true, force: true });
  });
  const browser = await launchBrowser(t);
  let isCut = false;
  const target = { name: "engine", host: "127.0.0.1", port: Number(new URL(url).port) };
  const wire = await Wire.open(() => (isCut ? undefined : target), new Random(1));
  t.after(() => wire.close());
  return {
    db,
    open: (options) => openWindow(browser, `http://127.0.0.1:${wire.port}`, options),
    cutNetwork: () => {
      isCut = true;
      wire.blackhole();
    },
    mendNetwork: () => {
      isCut = false;
      wire.reset();
    },
    metric: async (name) => {
      const text = await (await fetch(`${url}/metrics`)).text();
      const samples = [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (.*)$`, "gm"))];
      return samples.reduce((sum, [, value]) => sum + Number(value), 0);
    },
    stopEngine: () => engine.close(),
    startEngine: async (rules) => void (engine = await start(rules)),
    transaction: (statements) => transaction(db, statements),
  };
}

async function openWindow(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Window> {
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1280, height: 900 }, ...options });
  // To open takes seconds, and many times that where the machine is busy.
  context.setDefaultTimeout(100_000);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.addInitScript(recordFlashes);
  await page.goto(url);
  await page.locator("[data-order-id]").first().waitFor();
  const row = (id: number) => page.locator(`[data-order-id="${id}"]`);
  return {
    page,
    complaints,
    row,
    shows: (id, text) => row(id).filter({ hasText: text }).waitFor(),
    status: (id) => row(id).locator(".status-text").innerText(),
  };
}

/** In the page: notes which rows were lit up. Lighting up takes a second, and a busy machine may look later. */
function recordFlashes(): void {
  const flashed: (string | undefined)[] = [];
  const animate = Element.prototype.animate;
  Object.assign(globalThis, { flashed });
  Element.prototype.animate = function (this: HTMLElement, frames, options) {
    if (typeof options === "object" && options.id === "flash") flashed.push(this.dataset["orderId"]);
    return animate.call(this, frames, options);
  };
}

async function transaction({ pool }: TestDatabase, statements: readonly string[]): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    for (const statement of statements) await client.query(statement);
    await client.query("COMMIT");
  } finally {
    client.release();
  }
}
