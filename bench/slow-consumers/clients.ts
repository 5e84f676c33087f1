/**
 * Clients that subscribe, are up to date, and stop reading; one more that goes on. Says "stopped"; told to, says how far the
 * one that reads has come and how late it was; told again, all read on, and it says when the last has reached the target.
 */
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, told, whenDismissed } from "../processes.ts";

const [port = "", count = "", table = ""] = process.argv.slice(2);

const sockets: RawSocket[] = [];
for (let i = 0; i < Number(count); i++) sockets.push(await RawSocket.subscribed(Number(port), table));
const reading = await RawSocket.subscribed(Number(port), table);
whenDismissed(() => {
  for (const { socket } of [...sockets, reading]) socket.destroy();
});
for (const { socket } of sockets) socket.pause();
say("stopped");

await reached(reading, BigInt(await told<string>()));
say("read");

const target = BigInt(await told<string>());
const startedNs = process.hrtime.bigint();
for (const { socket } of sockets) socket.resume();
await Promise.all(sockets.map((socket) => reached(socket, target)));
say(Number(process.hrtime.bigint() - startedNs) / 1e6);

function reached(socket: RawSocket, position: bigint): Promise<void> {
  if (socket.position >= position) return Promise.resolve();
  return new Promise((resolve, reject) => {
    socket.socket.once("close", () => reject(new Error(`a socket was closed at ${socket.position}`)));
    socket.onBinary = (at) => {
      if (at >= position) resolve();
    };
  });
}
