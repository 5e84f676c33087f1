/** A client in a fresh process, on a directory. Says when its live query first showed rows, and after how long it had begun. */
import { createClient } from "../../client-sdk/index.ts";
import { say, whenDismissed } from "../processes.ts";
import { newestOf, type Shown } from "./shown.ts";

const [directory = "", table = "", port = ""] = process.argv.slice(2);

// createClient loads it by itself; but the floor has its PGlite loaded, too.
await Promise.all([import("../../client-sdk/flow.ts"), import("../../client-sdk/local.ts")]);

const started = performance.now();
const client = createClient({ url: `ws://127.0.0.1:${port}`, replica: directory, shapes: { shown: { table } } });
whenDismissed(() => client.close());
const live = client.live<{ id: number }>(newestOf(table));
const newest = await new Promise<number>((resolve) => {
  live.subscribe(([row]) => row && resolve(row.id));
});
say({ ms: performance.now() - started, newest } satisfies Shown);
