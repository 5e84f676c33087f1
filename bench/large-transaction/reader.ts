/** Another table's client, raw: notes when its frames come and up to where. Told a position, says all of them once it is passed. */
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, told, whenDismissed } from "../processes.ts";

const [port = "", table = ""] = process.argv.slice(2);
const COMMITS = 1;
const JOIN = 4;
const arrived: { readonly position: bigint; readonly ns: bigint }[] = [];

const socket = await RawSocket.open(Number(port));
whenDismissed(() => void socket.socket.destroy());
socket.send({ kind: "hello" });
await socket.text(({ kind }) => kind === "welcome");
socket.send({ kind: "subscribe", id: 1, shape: { table } });
await new Promise<void>((resolve) => {
  socket.onBinary = (_position, kind) => {
    if (kind === JOIN) resolve();
  };
});
let last = 0n;
let isLast: (() => void) | undefined;
socket.onBinary = (position, kind) => {
  if (kind === COMMITS) arrived.push({ position, ns: process.hrtime.bigint() });
  last = position;
  isLast?.();
};
say("ready");
const until = BigInt(await told<string>());
await new Promise<void>((resolve) => {
  isLast = () => void (last > until && resolve());
  isLast();
});
say(arrived);
