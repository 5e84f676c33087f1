/**
 * The one subscribed client: raw, with all tables named. Keeps what comes and when. Told a position, says when it was passed, how far
 * it was when, and how many operations came since it was told last; only then are the frames looked into.
 */
import { once } from "node:events";
import { WebSocket } from "ws";
import { decodeCommits, frameHeaderBytes, frameKinds, subprotocol } from "../../engine/protocol.ts";
import { say, whenDismissed } from "../processes.ts";

export interface Arrival {
  readonly position: bigint;
  readonly ns: number;
}

export interface Read {
  readonly arrivals: readonly Arrival[];
  readonly operations: number;
}

const POSITION_AT = 12;
const [port = "", ...tables] = process.argv.slice(2);
let frames: { readonly data: Buffer; readonly ns: number }[] = [];
let position = 0n;
let target: bigint | undefined;

const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, subprotocol, { perMessageDeflate: false });
await once(socket, "open");
let joins = 0;
const joined = new Promise<void>((resolve, reject) => {
  socket.on("message", (data: Buffer, isBinary) => {
    if (!isBinary && data.includes('"kind":"error"')) reject(new Error(data.toString()));
    if (isBinary && data[0] === frameKinds.join && ++joins === tables.length) resolve();
  });
});
socket.send(JSON.stringify({ kind: "hello" }));
for (const [index, table] of tables.entries())
  socket.send(JSON.stringify({ kind: "subscribe", id: index + 1, shape: { table } }));
await joined;
socket.on("message", (data: Buffer, isBinary) => {
  if (!isBinary || data[0] !== frameKinds.commits) return;
  frames.push({ data, ns: Number(process.hrtime.bigint()) });
  position = data.readBigUInt64BE(POSITION_AT);
  answer();
});
process.on("message", (told: string) => {
  target = BigInt(told);
  answer();
});
whenDismissed(() => socket.close());
say("ready");

function answer(): void {
  if (target === undefined || position <= target) return;
  target = undefined;
  const taken = frames;
  frames = [];
  say({
    arrivals: taken.map(({ data, ns }) => ({ position: data.readBigUInt64BE(POSITION_AT), ns })),
    operations: taken.reduce((sum, { data }) => sum + operationsIn(data), 0),
  } satisfies Read);
}

function operationsIn(frame: Buffer): number {
  const payloads = frame.subarray(frameHeaderBytes(frame.readUInt16BE(2)));
  return decodeCommits(payloads).reduce((sum, { operations }) => sum + operations.length, 0);
}
