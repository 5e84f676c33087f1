/** The floor: what the attacker talks to in the engine's place. It greets who greets, and reads and drops everything else. */
import { uws } from "../../engine/sockets/uws.ts";
import { say, whenDismissed } from "../processes.ts";

const hello = Buffer.byteLength(JSON.stringify({ kind: "hello" }));
const welcome = JSON.stringify({ kind: "welcome" });

const app = uws.App().ws("/*", {
  maxPayloadLength: 1024 * 1024,
  message: (socket, message) => void (message.byteLength === hello ? socket.send(welcome) : socket.end(1000)),
});
app.listen("127.0.0.1", 0, (listening) => say(uws.us_socket_local_port(listening)));

whenDismissed();
