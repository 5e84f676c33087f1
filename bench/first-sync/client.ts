/** A client in a fresh process: opens, syncs the table, says what that took and what it holds. `given`: on a PGlite as it comes. */
import { PGlite } from "@electric-sql/pglite";
import { createClient } from "../../client-sdk/index.ts";
import { asItComes } from "../pglite.ts";
import { say, whenDismissed } from "../processes.ts";
import { digestOf, type Loaded } from "./rows.ts";

const [port = "", table = "", given = ""] = process.argv.slice(2);

const started = performance.now();
const pglite = given === "given" ? await PGlite.create("memory://", asItComes()) : undefined;
const client = createClient({ url: `ws://127.0.0.1:${port}`, ...(pglite ? { replica: pglite } : {}) });
whenDismissed(() => client.close());
await client.query("select 1");
const opened = performance.now();
await client.sync({ table }).ready;
const loaded = performance.now();

const [row] = await client.query<{ digest: string }>(digestOf(table));
say({ openMs: opened - started, loadMs: loaded - opened, digest: row!.digest } satisfies Loaded);
