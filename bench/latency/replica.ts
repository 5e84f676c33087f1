/**
 * The floor of a live query: a raw WebSocket client that upserts each row into a bare PGlite and asks for the newest rows
 * again, both in one call of its raw protocol. It makes no objects of the rows and finds out nothing by itself. Says
 * "ready", and after the last commit when each one's value was in the result.
 */
import { once } from "node:events";
import { PGlite } from "@electric-sql/pglite";
import { WebSocket } from "ws";
import { Messages } from "../../client-sdk/wire.ts";
import { decodeMessage } from "../../engine/changes/pgoutput.ts";
import { Message } from "../../engine/changes/pgoutput-message.ts";
import { execute, prepared } from "../pglite.ts";
import { say, whenDismissed } from "../processes.ts";
import { Arrivals, marksIn } from "./arrivals.ts";
import { columns, createTable, insertRows } from "./rows.ts";

const [port = "", commits = "", table = "", rows = "", top = ""] = process.argv.slice(2);
const arrivals = new Arrivals(Number(commits));
const messages = new Messages();
const message = new Message();

const replica = await PGlite.create("memory://", prepared());
await replica.exec(
  `${createTable(table)}; ${insertRows(table, Number(rows))}; create index on ${table} (created_at desc)`,
);
prepare();

const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, { perMessageDeflate: false });
await once(socket, "open");
socket.on("message", (update: Buffer) => receive(update));
whenDismissed(() => replica.close());
say("ready");

function prepare(): void {
  const values = columns.map((_, column) => `$${column + 1}`).join(", ");
  const exchanged = columns
    .slice(1)
    .map((column) => `${column} = excluded.${column}`)
    .join(", ");
  messages.parse("upsert", `insert into ${table} values (${values}) on conflict (id) do update set ${exchanged}`);
  messages.parse("newest", `select * from ${table} order by created_at desc limit ${top}`);
  execute(replica, messages.sync().take());
}

function receive(update: Buffer): void {
  const { new: row } = decodeMessage(update, 0, update.length, message);
  const values = columns.map((_, column) => row.text(column));
  const found = execute(replica, messages.run("upsert", values).run("newest", []).sync().take());
  arrivals.saw(Number(process.hrtime.bigint()), marksIn(found));
}
