/**
 * A raw WebSocket client: notes when each commit's bytes are here, and only then looks which commit that was. Given a
 * table it greets an engine and subscribes first, without one it just listens. Says "ready", and after the last commit
 * when each one arrived.
 */
import { once } from "node:events";
import { WebSocket } from "ws";
import { frameKinds, subprotocol } from "../../engine/protocol.ts";
import { say, whenDismissed } from "../processes.ts";
import { Arrivals, marksIn } from "./arrivals.ts";

const [port = "", commits = "", table] = process.argv.slice(2);
const arrivals = new Arrivals(Number(commits));

const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, table === undefined ? [] : [subprotocol], {
  perMessageDeflate: false,
});
await once(socket, "open");
if (table !== undefined) await subscribe(table);
socket.on("message", (data: Buffer) => arrivals.saw(Number(process.hrtime.bigint()), marksIn(data)));
whenDismissed();
say("ready");

/** Resolves when the rows are there and the subscription has joined the stream. */
async function subscribe(table: string): Promise<void> {
  socket.send(JSON.stringify({ kind: "hello" }));
  socket.send(JSON.stringify({ kind: "subscribe", id: 1, shape: { table } }));
  await new Promise<void>((resolve, reject) => {
    socket.on("message", (data: Buffer, isBinary) => {
      if (isBinary && data[0] === frameKinds.join) resolve();
      if (!isBinary && data.includes('"kind":"error"')) reject(new Error(data.toString()));
    });
  });
}
