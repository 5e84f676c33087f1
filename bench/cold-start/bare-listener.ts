/** The floor: a bare WebSocket in a fresh process, which says what the client says, and looks no further than what kind of frame comes. */
import { type ClientMessage, frameKinds, type ServerMessage, subprotocol } from "../../engine/protocol.ts";
import { say, whenDismissed } from "../processes.ts";

const [table = "", port = ""] = process.argv.slice(2);

const started = performance.now();
const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, subprotocol);
socket.binaryType = "arraybuffer";
whenDismissed(async () => socket.close());
socket.addEventListener("open", () => tell({ kind: "hello" }));
socket.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) => {
  if (typeof data === "string") return greeted(JSON.parse(data) as ServerMessage);
  const [kind] = new Uint8Array(data, 0, 1);
  if (kind === frameKinds.join) say("listens");
  if (kind === frameKinds.commits) say(performance.now() - started);
});

function greeted({ kind }: ServerMessage): void {
  if (kind === "welcome") tell({ kind: "subscribe", id: 1, shape: { table }, changes: true });
}

function tell(message: ClientMessage): void {
  socket.send(JSON.stringify(message));
}
