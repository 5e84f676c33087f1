/**
 * The floor: for each commit that a bare replication connection brings, a loop that corks and sends the frame it was told to as many
 * sockets, to all of them or to one after the other. Only the position in the frame changes. It keeps nothing, checks nothing and
 * knows no shapes.
 */
import pg from "pg";
import { uws, type WebSocket } from "../../engine/sockets/uws.ts";
import { say, whenDismissed } from "../processes.ts";

/** In a data frame. */
const POSITION_AT = 12;

export interface Replay {
  readonly audience: "one" | "each";
  readonly frame: Uint8Array;
}

const [url = "", slot = "", publication = ""] = process.argv.slice(2);
let audience: Replay["audience"] = "one";
let frame: Buffer = Buffer.alloc(0);
let turn = 0;
const sockets: WebSocket<unknown>[] = [];

process.on("message", (replay: Replay) => {
  ({ audience } = replay);
  frame = Buffer.from(replay.frame);
  turn = 0;
  say("told");
});

const client = new pg.Client({ connectionString: url, replication: "database" } as pg.ClientConfig);
await client.connect();
const { connection } = client as unknown as {
  connection: NodeJS.EventEmitter & { sendCopyFromChunk(chunk: Buffer): void };
};
connection.on("copyData", ({ chunk }: { chunk: Buffer }) => {
  // A keepalive that wants an answer; without one Postgres takes the connection for dead.
  if (chunk[0] === 0x6b && chunk[17] === 1) connection.sendCopyFromChunk(acknowledgement());
  // After XLogData's header, 25 bytes: a commit's tag, flags and position, and then its end.
  if (chunk[0] === 0x77 && chunk[25] === 0x43) committed(chunk.readBigUInt64BE(35));
});
connection.once("replicationStart", listen);
client
  .query(`START_REPLICATION SLOT ${slot} LOGICAL 0/0 (proto_version '2', publication_names '${publication}')`)
  .catch(() => process.exit());
whenDismissed();

function committed(end: bigint): void {
  if (frame.length === 0) return;
  frame.writeBigUInt64BE(end, POSITION_AT);
  if (audience === "each") return send(sockets[turn++ % sockets.length]!);
  for (const socket of sockets) send(socket);
}

/** Of nothing: kind, three positions and a time, and no wish for an answer. */
function acknowledgement(): Buffer {
  const status = Buffer.alloc(34);
  status[0] = 0x72;
  return status;
}

function send(socket: WebSocket<unknown>): void {
  socket.cork(() => void socket.send(frame, true, false));
}

function listen(): void {
  const app = uws.App().ws("/*", {
    message: (socket, text) => {
      const { socket: number } = JSON.parse(Buffer.from(text).toString()) as { socket: number };
      sockets[number] = socket;
      socket.send('{"kind":"welcome"}');
    },
    close: () => void (sockets.length = 0),
  });
  app.listen("127.0.0.1", 0, (listening) => say(uws.us_socket_local_port(listening)));
}
