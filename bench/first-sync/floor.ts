/**
 * The floor: a bare PGlite in a fresh process takes the same bytes from memory, in one COPY, and gets its primary key
 * afterwards. `prepared`: it begins with the files of an empty one, as a client's does; without, it makes them (`initdb`).
 */
import { readFile } from "node:fs/promises";
import { PGlite } from "@electric-sql/pglite";
import { Messages } from "../../client-sdk/wire.ts";
import { asItComes, execute, prepared } from "../pglite.ts";
import { say, whenDismissed } from "../processes.ts";
import { addKey, createTable, digestOf, type Loaded } from "./rows.ts";

const [file = "", table = "", begins = ""] = process.argv.slice(2);
const lines = await readFile(file);
const messages = new Messages();

const options = begins === "prepared" ? prepared() : asItComes();

const started = performance.now();
const pglite = await PGlite.create("memory://", options);
whenDismissed(() => pglite.close());
execute(pglite, messages.query("select 1").take());
const opened = performance.now();
execute(pglite, messages.query(`set timezone = 'UTC'; ${createTable(table)}`).take());
execute(pglite, messages.query(`copy ${table} from stdin`).copyData(lines).copyDone().take());
execute(pglite, messages.query(addKey(table)).take());
const loaded = performance.now();

const { rows } = await pglite.query<{ digest: string }>(digestOf(table));
say({ openMs: opened - started, loadMs: loaded - opened, digest: rows[0]!.digest } satisfies Loaded);
