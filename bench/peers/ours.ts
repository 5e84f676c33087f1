/** Many raw clients of an engine in one process. Says "ready", and after the last commit when each one's bytes were at each of them. */
import { once } from "node:events";
import { WebSocket } from "ws";
import { frameKinds, subprotocol } from "../../engine/protocol.ts";
import { type Arrivals, arrivalsOfEach, marksIn } from "../latency/arrivals.ts";
import { say, whenDismissed } from "../processes.ts";

const [port = "", commits = "", table = "", clients = ""] = process.argv.slice(2);
for (const arrivals of arrivalsOfEach(Number(clients), Number(commits))) await subscribe(arrivals);
whenDismissed();
say("ready");

async function subscribe(arrivals: Arrivals): Promise<void> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, subprotocol, { perMessageDeflate: false });
  await once(socket, "open");
  const joined = new Promise<void>((resolve) => {
    socket.on("message", (data: Buffer, isBinary) => {
      const at = Number(process.hrtime.bigint());
      if (isBinary && data[0] === frameKinds.join) resolve();
      else if (isBinary && data[0] === frameKinds.commits) arrivals.saw(at, marksIn(data));
    });
  });
  socket.send(JSON.stringify({ kind: "hello" }));
  socket.send(JSON.stringify({ kind: "subscribe", id: 1, shape: { table } }));
  await joined;
}
