/** A real browser for tests: headless Chromium out of an npm package, so that no machine has to have one. */
import chromium from "@sparticuz/chromium";
import { type Browser, chromium as driver } from "playwright-core";
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

export async function launchBrowser(t: Releasing): Promise<Browser> {
  const browser = await driver.launch({ executablePath: await chromium.executablePath(), headless: true, args: flags });
  t.after(() => browser.close());
  return browser;
}
