/**
 * The floor: the least that can bring a commit to a WebSocket. A bare replication connection, one copy of the row's
 * message, one send per commit. It keeps nothing, checks nothing and knows one client.
 */
import pg from "pg";
import { uws, type WebSocket } from "../../engine/sockets/uws.ts";
import { say, whenDismissed } from "../processes.ts";

const [url = "", slot = "", publication = ""] = process.argv.slice(2);
let socket: WebSocket<unknown> | undefined;
let row: Buffer = Buffer.alloc(0);

const client = new pg.Client({ connectionString: url, replication: "database" } as pg.ClientConfig);
await client.connect();
const { connection } = client as unknown as { connection: NodeJS.EventEmitter };

connection.on("copyData", ({ chunk }: { chunk: Buffer }) => {
  // After XLogData's header, 25 bytes, comes the message: an update's is kept, a commit's sends it.
  if (chunk[25] === 0x55) row = Buffer.from(chunk.subarray(25));
  else if (chunk[25] === 0x43 && chunk[0] === 0x77) socket?.send(row, true);
});
connection.once("replicationStart", listen);
client
  .query(`START_REPLICATION SLOT ${slot} LOGICAL 0/0 (proto_version '1', publication_names '${publication}')`)
  .catch(() => process.exit());

function listen(): void {
  const app = uws.App().ws("/*", { open: (opened) => void (socket = opened) });
  app.listen("127.0.0.1", 0, (listening) => say(uws.us_socket_local_port(listening)));
}

whenDismissed();
