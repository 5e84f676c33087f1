/**
 * TanStack DB in the place of a client: a raw WebSocket client that writes each row into a collection in memory, and looks at what
 * the callback of its live query gets. Says "ready", and after the last commit when each one was shown.
 */
import { once } from "node:events";
import { WebSocket } from "ws";
import { decodeMessage } from "../../engine/changes/pgoutput.ts";
import { Message } from "../../engine/changes/pgoutput-message.ts";
import { Collection } from "../live/collection.ts";
import { say, whenDismissed } from "../processes.ts";
import { Arrivals } from "./arrivals.ts";
import { columns } from "./rows.ts";

const [port = "", commits = "", , rows = "", top = ""] = process.argv.slice(2);
const arrivals = new Arrivals(Number(commits));
const message = new Message();

const collection = await Collection.open(Number(rows));
await collection.watchNewest(-1, Number(top), (notes) => arrivals.saw(Number(process.hrtime.bigint()), notes));

const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, { perMessageDeflate: false });
await once(socket, "open");
socket.on("message", (update: Buffer) => {
  const { new: row } = decodeMessage(update, 0, update.length, message);
  collection.put(columns.map((_, column) => row.text(column)));
});
whenDismissed(() => collection.close());
say("ready");
