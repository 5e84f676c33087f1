/** A client in a fresh process: opens, syncs the table, says what that took and what it holds. */
import { createClient } from "../../client-sdk/index.ts";
import { say, whenDismissed } from "../processes.ts";
import { digestOf, type Loaded } from "./rows.ts";

const [port = "", table = ""] = process.argv.slice(2);

const started = performance.now();
const client = createClient({ url: `ws://127.0.0.1:${port}` });
whenDismissed(() => client.close());
await client.query("select 1");
const opened = performance.now();
await client.sync({ table }).ready;
const loaded = performance.now();

const [row] = await client.query<{ digest: string }>(digestOf(table));
say({ openMs: opened - started, loadMs: loaded - opened, digest: row!.digest } satisfies Loaded);
