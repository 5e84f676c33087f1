/**
 * PGlite's own live queries in the place of a client: a raw WebSocket client that upserts each row into a PGlite with the
 * extension `live`, and looks at what its callback gets. Says "ready", and after the last commit when each one was shown.
 */
import { once } from "node:events";
import { PGlite } from "@electric-sql/pglite";
import { live } from "@electric-sql/pglite/live";
import { WebSocket } from "ws";
import { decodeMessage } from "../../engine/changes/pgoutput.ts";
import { Message } from "../../engine/changes/pgoutput-message.ts";
import { say, whenDismissed } from "../processes.ts";
import { Arrivals } from "./arrivals.ts";
import { columns, createTable, insertRows } from "./rows.ts";
import { prepared } from "../pglite.ts";

const [port = "", commits = "", table = "", rows = "", top = ""] = process.argv.slice(2);
const arrivals = new Arrivals(Number(commits));
const message = new Message();

const replica = await PGlite.create("memory://", { ...prepared(), extensions: { live } });
await replica.exec(
  `${createTable(table)}; ${insertRows(table, Number(rows))}; create index on ${table} (created_at desc)`,
);
const values = columns.map((_, column) => `$${column + 1}`).join(", ");
const exchanged = columns
  .slice(1)
  .map((column) => `${column} = excluded.${column}`)
  .join(", ");
const upsert = `insert into ${table} values (${values}) on conflict (id) do update set ${exchanged}`;
await replica.live.query<{ note: string }>(
  `select * from ${table} order by created_at desc limit ${top}`,
  [],
  ({ rows: shown }) => {
    const at = Number(process.hrtime.bigint());
    arrivals.saw(
      at,
      shown.map(({ note }) => note),
    );
  },
);

const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, { perMessageDeflate: false });
await once(socket, "open");
socket.on("message", (update: Buffer) => {
  const { new: row } = decodeMessage(update, 0, update.length, message);
  const texts = columns.map((_, column) => row.text(column));
  void replica.query(upsert, texts);
});
whenDismissed(() => replica.close());
say("ready");
