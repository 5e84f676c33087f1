/**
 * Bare sockets that each watch one row by Server-Sent Events, as many of each row. Says "ready" when all have had their first
 * state, and after so many events of commits which commit each was and when it came.
 */
import { connect, type Socket } from "node:net";
import { marker, marksIn } from "../latency/arrivals.ts";
import { say, whenDismissed } from "../processes.ts";

export interface Seen {
  readonly commits: readonly number[];
  readonly atNs: readonly number[];
}

const [port = "", watchers = "", rows = "", table = "", expected = ""] = process.argv.slice(2);
/** The kernel turns away whom it cannot keep waiting. */
const connectingMax = 200;

const commits: number[] = [];
const atNs: number[] = [];
const sockets: Socket[] = [];
whenDismissed(() => sockets.forEach((socket) => socket.destroy()));
while (sockets.length < Number(watchers)) {
  const count = Math.min(connectingMax, Number(watchers) - sockets.length);
  await Promise.all(Array.from({ length: count }, () => watch(sockets.length % Number(rows))));
}
say("ready");

/** Resolves with the first state. */
function watch(row: number): Promise<void> {
  const socket = connect(Number(port), "127.0.0.1");
  sockets.push(socket);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.write(
    `GET /v1/watch/${table}/${row}?columns=id,note HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n`,
  );
  socket.on("data", (bytes) => {
    const now = Number(process.hrtime.bigint());
    for (const mark of marksIn(bytes)) saw(Number(mark.slice(marker.length)), now);
    if (bytes.includes("event: state")) resolve();
  });
  socket.once("close", () => reject(new Error("a watcher was closed")));
  socket.once("error", reject);
  return promise;
}

function saw(commit: number, now: number): void {
  commits.push(commit);
  atNs.push(now);
  if (commits.length === Number(expected)) say({ commits, atNs } satisfies Seen);
}
