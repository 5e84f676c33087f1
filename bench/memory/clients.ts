/** Raw clients that subscribe to one table, are up to date, and do nothing more. Says "ready" when all are. */
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, whenDismissed } from "../processes.ts";

const [port = "", count = "", table = ""] = process.argv.slice(2);
const atOnce = 50;
const sockets: RawSocket[] = [];
for (let left = Number(count); left > 0; left -= atOnce) {
  const coming = Array.from({ length: Math.min(left, atOnce) }, () => RawSocket.subscribed(Number(port), table));
  sockets.push(...(await Promise.all(coming)));
}
whenDismissed(() => {
  for (const { socket } of sockets) socket.destroy();
});
say("ready");
