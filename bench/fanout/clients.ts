/**
 * Many raw clients in one process, on one shape or each on a shape of its own; without a table they are a floor's. Says "ready", and
 * notes when each frame of commits begins to arrive, and where. Told how many frames in all, says when the last of them came; told
 * positions, one for each socket, says all arrivals so far once every socket is beyond its own.
 */
import { frameKinds } from "../../engine/protocol.ts";
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, whenDismissed } from "../processes.ts";
import { firstId } from "./orders.ts";

export type Order =
  | { readonly kind: "frames"; readonly frames: number }
  | { readonly kind: "beyond"; readonly positions: readonly bigint[] };

export interface Arrival {
  readonly socket: number;
  readonly position: bigint;
  readonly ns: number;
}

const [port = "", count = "", audience = "", table = ""] = process.argv.slice(2);
/** The kernel turns away whom it cannot keep waiting. */
const atOnce = 50;
const sockets: RawSocket[] = [];
let arrivals: Arrival[] = [];
let frames = 0;
let order: Order | undefined;

while (sockets.length < Number(count)) {
  const next = Math.min(atOnce, Number(count) - sockets.length);
  sockets.push(...(await Promise.all(Array.from({ length: next }, (_, i) => opened(sockets.length + i)))));
}
whenDismissed(() => {
  for (const { socket } of sockets) socket.destroy();
});
process.on("message", (told: Order) => {
  order = told;
  answer();
});
say("ready");

async function opened(number: number): Promise<RawSocket> {
  const raw = table === "" ? await counted(number) : await RawSocket.subscribed(Number(port), shape(number));
  raw.socket.once("close", () => {
    if (process.connected) throw new Error(`socket ${number} was closed`);
  });
  raw.onBinary = (position, kind) => arrived(number, position, kind);
  return raw;
}

async function counted(number: number): Promise<RawSocket> {
  const raw = await RawSocket.open(Number(port));
  raw.send({ socket: number });
  await raw.text(({ kind }) => kind === "welcome");
  return raw;
}

function shape(number: number): object {
  return audience === "one" ? { table } : { table, where: "id = $1", params: [firstId + number] };
}

function arrived(socket: number, position: bigint, kind: number): void {
  if (kind !== frameKinds.commits) return;
  arrivals.push({ socket, position, ns: Number(process.hrtime.bigint()) });
  frames++;
  answer();
}

function answer(): void {
  if (!order || !isFulfilled(order)) return;
  say(order.kind === "frames" ? arrivals.at(-1)!.ns : arrivals);
  order = undefined;
  arrivals = [];
}

function isFulfilled(order: Order): boolean {
  if (order.kind === "frames") return frames >= order.frames;
  return order.positions.every((position, number) => sockets[number]!.position > position);
}
