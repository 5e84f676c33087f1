/** Another table's client, raw: notes when its frames come and up to where. Told a position, says all of them once it is passed. */
import { frameKinds } from "../../engine/protocol.ts";
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, told, whenDismissed } from "../processes.ts";

const [port = "", table = ""] = process.argv.slice(2);
const arrived: { readonly position: bigint; readonly ns: bigint }[] = [];

const socket = await RawSocket.subscribed(Number(port), table);
whenDismissed(() => void socket.socket.destroy());
let last = 0n;
let isLast: (() => void) | undefined;
socket.onBinary = (position, kind) => {
  if (kind === frameKinds.commits) arrived.push({ position, ns: process.hrtime.bigint() });
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
