/**
 * Clients that ask for one table at once. Says "ready" when all of them are greeted; told to go, says how many milliseconds later
 * the last one has joined and how many bytes came. Of a floor they only ask.
 */
import { frameKinds } from "../../engine/protocol.ts";
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, told, whenDismissed } from "../processes.ts";

const [port = "", count = "", table = ""] = process.argv.slice(2);
const sockets = await Promise.all(Array.from({ length: Number(count) }, greeted));
whenDismissed(() => {
  for (const { socket } of sockets) socket.destroy();
});
say("ready");
await told();
const startedNs = process.hrtime.bigint();
await Promise.all(sockets.map(joined));
const ms = Number(process.hrtime.bigint() - startedNs) / 1e6;
say({ ms, bytes: sockets.reduce((sum, { bytes }) => sum + bytes, 0) });

async function greeted(): Promise<RawSocket> {
  const socket = await RawSocket.open(Number(port));
  if (table === "") return socket;
  socket.send({ kind: "hello" });
  await socket.text(({ kind }) => kind === "welcome");
  return socket;
}

function joined(socket: RawSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.socket.once("close", () => reject(new Error("a socket was closed")));
    socket.onBinary = (_position, kind) => {
      if (kind === frameKinds.join) resolve();
    };
    socket.send({ kind: "subscribe", id: 1, shape: { table } });
  });
}
