/** A process for browser.ts: puts Chromium where its temporary files are. */
import chromium from "@sparticuz/chromium";

await chromium.executablePath();
