/**
 * The floor: a bare uWebSockets.js server that sends every socket the same messages, in order, from memory, as fast as the
 * socket takes them. It reads nothing, decodes nothing and knows no shapes.
 */
import { readFileSync } from "node:fs";
import { uws, type WebSocket } from "../../engine/sockets/uws.ts";
import { say, whenDismissed } from "../processes.ts";

const messages = readMessages(process.argv[2]!);
/** As many bytes as an engine lets wait in one socket while it catches up. */
const windowBytes = Number(process.argv[3]);

interface Sent {
  next: number;
}

const app = uws.App().ws<Sent>("/*", {
  maxBackpressure: 0,
  upgrade: (res, req, context) => {
    const [key, protocol, extensions] = ["key", "protocol", "extensions"].map((name) =>
      req.getHeader(`sec-websocket-${name}`),
    );
    res.upgrade({ next: 0 }, key!, protocol!, extensions!, context);
  },
  message: sendMore,
  drain: sendMore,
});
app.listen("127.0.0.1", 0, (listening) => say(uws.us_socket_local_port(listening)));
whenDismissed();

function sendMore(socket: WebSocket<Sent>): void {
  const sent = socket.getUserData();
  while (sent.next < messages.length && socket.getBufferedAmount() <= windowBytes)
    socket.send(messages[sent.next++]!, true, false);
}

/** Each with its length before it, as `record` in ../catch-up.ts wrote them. */
function readMessages(file: string): Buffer[] {
  const bytes = readFileSync(file);
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32BE(at))
    found.push(bytes.subarray(at + 4, at + 4 + bytes.readUInt32BE(at)));
  return found;
}
