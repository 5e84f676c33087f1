/** A real browser for tests: headless Chromium out of an npm package, so that no machine has to have one. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import chromium from "@sparticuz/chromium";
import { type Browser, type BrowserContext, chromium as driver } from "playwright-core";
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

export async function launchBrowser(t: Releasing): Promise<Browser> {
  const browser = await driver.launch({
    executablePath: await chromium.executablePath(),
    headless: true,
    args: [...flags, forAMoment],
  });
  t.after(() => browser.close());
  return browser;
}

/**
 * With a profile on disk, as users have one: what was loaded and compiled for one page is there for the next. Contexts that
 * `newContext` makes are incognito: each access to a file of the origin's own is a message to the browser's process there,
 * and a replica in OPFS several times slower. Who measures has it as users do in this, too.
 */
export async function launchWithProfile(t: Releasing, { measures = false } = {}): Promise<BrowserContext> {
  const profile = await mkdtemp(join(tmpdir(), "walcast-profile-"));
  t.after(() => rm(profile, { recursive: true, force: true }));
  const executablePath = await chromium.executablePath();
  const args = measures ? flags : [...flags, forAMoment];
  const context = await driver.launchPersistentContext(profile, { executablePath, headless: true, args });
  t.after(() => context.close());
  return context;
}
