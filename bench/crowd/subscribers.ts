/**
 * Sockets that subscribe, each to one shape after the other. Says "ready" when all are greeted. Told how many, subscribes to so
 * many more, of one row each, and says how many milliseconds later the last one had joined; told that they shall not stay,
 * unsubscribes from each once it has joined.
 */
import { frameKinds } from "../../engine/protocol.ts";
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, told, whenDismissed } from "../processes.ts";

export interface Order {
  readonly subscriptions: number;
  readonly stay: boolean;
}

const [port = "", count = "", table = ""] = process.argv.slice(2);
const sockets = await Promise.all(Array.from({ length: Number(count) }, greeted));
let subscribed = 0;
whenDismissed(() => {
  for (const { socket } of sockets) socket.destroy();
});
say("ready");
for (;;) {
  const order = await told<Order>();
  const startedNs = process.hrtime.bigint();
  const last = subscribed + order.subscriptions;
  await Promise.all(sockets.map((socket) => work(socket, last, order.stay)));
  say(Number(process.hrtime.bigint() - startedNs) / 1e6);
}

async function greeted(): Promise<RawSocket> {
  const socket = await RawSocket.open(Number(port));
  socket.send({ kind: "hello" });
  await socket.text(({ kind }) => kind === "welcome");
  return socket;
}

async function work(socket: RawSocket, last: number, stay: boolean): Promise<void> {
  while (subscribed < last) {
    const id = ++subscribed;
    await joined(socket, id);
    if (stay) continue;
    socket.send({ kind: "unsubscribe", id });
    await socket.text(({ kind }) => kind === "unsubscribed");
  }
}

function joined(socket: RawSocket, id: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.onBinary = (_position, kind) => {
      if (kind === frameKinds.join) resolve();
    };
    socket.onText = (text) => {
      if (text.includes('"kind":"error"')) reject(new Error(text));
    };
    socket.send({ kind: "subscribe", id, shape: { table, where: "id = $1", params: [id - 1] } });
  });
}
