/** The floor: a bare PGlite in a fresh process, on a directory, and one query. Where the directory is empty the rows are loaded first. */
import { readFile } from "node:fs/promises";
import { PGlite } from "@electric-sql/pglite";
import { Messages } from "../../client-sdk/wire.ts";
import { addKey, createTable } from "../first-sync/rows.ts";
import { asItComes, execute } from "../pglite.ts";
import { say, whenDismissed } from "../processes.ts";
import { newestOf, type Shown } from "./shown.ts";

const [directory = "", table = "", file = ""] = process.argv.slice(2);
const messages = new Messages();

const started = performance.now();
const pglite = await PGlite.create(directory, file === "" ? {} : asItComes());
whenDismissed(() => pglite.close());
if (file !== "") await load();
const { rows } = await pglite.query<{ id: number }>(newestOf(table));
say({ ms: performance.now() - started, newest: rows[0]!.id } satisfies Shown);

async function load(): Promise<void> {
  execute(pglite, messages.query(createTable(table)).take());
  execute(
    pglite,
    messages
      .query(`copy ${table} from stdin`)
      .copyData(await readFile(file))
      .copyDone()
      .take(),
  );
  execute(pglite, messages.query(addKey(table)).take());
}
