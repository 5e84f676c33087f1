/** A real browser for tests: headless Chromium out of an npm package, so that no machine has to have one. */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Browser, type BrowserContext, chromium as driver, type Page } from "playwright-core";
import type { Releasing } from "./postgres.ts";

/**
 * Root may not use Chromium's sandbox, and containers have neither a GPU nor a large /dev/shm. It fetches nothing by
 * itself: tests stay on this machine.
 */
const flags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--no-first-run",
];
/** Pages that are there for a second, as `processFlags` has it for processes. */
const forAMoment = "--js-flags=--liftoff-only";

/** To open takes seconds, and many times that where the machine is busy: less than a test has, so that it is said what hangs. */
const PATIENCE_MS = 100_000;

export async function launchBrowser(t: Releasing): Promise<Browser> {
  const browser = await driver.launch({
    executablePath: await chromium(),
    headless: true,
    timeout: PATIENCE_MS,
    args: [...flags, forAMoment],
  });
  t.after(() => browser.close());
  return browser;
}

/** In a browser of its own. */
export async function launchPage(t: Releasing): Promise<Page> {
  const browser = await launchBrowser(t);
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  return page;
}

/**
 * With a profile on disk, as users have one: what was loaded and compiled for one page is there for the next. Contexts that
 * `newContext` makes are incognito: each access to a file of the origin's own is a message to the browser's process there,
 * and a replica in OPFS several times slower. Who measures has it as users do in this, too.
 */
export async function launchWithProfile(t: Releasing, { measures = false } = {}): Promise<BrowserContext> {
  const profile = await mkdtemp(join(tmpdir(), "walcast-profile-"));
  // Processes of the browser may write into it until after it has said that it is closed.
  t.after(() => rm(profile, { recursive: true, force: true, maxRetries: 10 }));
  const executablePath = await chromium();
  const args = measures ? flags : [...flags, forAMoment];
  const options = { executablePath, headless: true, timeout: PATIENCE_MS, args };
  const context = await driver.launchPersistentContext(profile, options);
  context.setDefaultTimeout(PATIENCE_MS);
  t.after(() => context.close());
  return context;
}

/** The program, unpacked once for each version. */
async function chromium(): Promise<string> {
  const manifest = new URL("../../package.json", import.meta.resolve("@sparticuz/chromium"));
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
  const kept = join(tmpdir(), `walcast-tests-chromium-${version}`);
  if (!existsSync(kept)) await unpack(kept);
  return join(kept, "chromium");
}

/**
 * In another place first: several processes may do it at once, and none may find a half of it. The package itself takes what is
 * among the machine's temporary files for whole while another process still writes it: it is told that they are elsewhere.
 */
async function unpack(kept: string): Promise<void> {
  const making = await mkdtemp(join(tmpdir(), "walcast-chromium-"));
  const program = fileURLToPath(new URL("unpack-chromium.ts", import.meta.url));
  await promisify(execFile)(process.execPath, [program], { env: { ...process.env, TMPDIR: making } });
  await rename(making, kept).catch(() => rm(making, { recursive: true }));
}
