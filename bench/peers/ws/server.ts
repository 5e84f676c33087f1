/**
 * What the engine's server would be with the library `ws`: for each commit that a bare replication connection brings, it sends the frame
 * that it was told to every socket, as `fanout/floor.ts` does with uWebSockets.js.
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import pg from "pg";
import { WebSocketServer } from "ws";
import type { Replay } from "../../fanout/floor.ts";
import { say, whenDismissed } from "../../processes.ts";

/** In a data frame. */
const POSITION_AT = 12;

const [url = "", slot = "", publication = ""] = process.argv.slice(2);
let frame: Buffer = Buffer.alloc(0);
process.on("message", (replay: Replay) => {
  frame = Buffer.from(replay.frame);
  say("told");
});

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
await once(server, "listening");
server.on("connection", (socket) => socket.once("message", () => socket.send('{"kind":"welcome"}')));

const client = new pg.Client({ connectionString: url, replication: "database" } as pg.ClientConfig);
await client.connect();
const { connection } = client as unknown as {
  connection: NodeJS.EventEmitter & { sendCopyFromChunk(chunk: Buffer): void };
};
connection.on("copyData", ({ chunk }: { chunk: Buffer }) => {
  // A keepalive that wants an answer: of nothing, a status is its kind and zeros.
  if (chunk[0] === 0x6b && chunk[17] === 1) connection.sendCopyFromChunk(Buffer.from([0x72, ...Buffer.alloc(33)]));
  // After XLogData's header, 25 bytes: a commit's tag, flags and position, and then its end.
  if (chunk[0] === 0x77 && chunk[25] === 0x43) committed(chunk.readBigUInt64BE(35));
});
connection.once("replicationStart", () => say((server.address() as AddressInfo).port));
client
  .query(`START_REPLICATION SLOT ${slot} LOGICAL 0/0 (proto_version '2', publication_names '${publication}')`)
  .catch(() => process.exit());
whenDismissed();

function committed(end: bigint): void {
  if (frame.length === 0) return;
  frame.writeBigUInt64BE(end, POSITION_AT);
  for (const socket of server.clients) socket.send(frame, { binary: true });
}
