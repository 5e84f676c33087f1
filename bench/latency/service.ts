/**
 * The floor again, with pg-logical-replication's service and plugin in the place of the bare connection, as they
 * deliver: what is between the two figures is their share. Acknowledgements are off, which favours the service.
 */
import { LogicalReplicationService, PgoutputPlugin } from "pg-logical-replication";
import { uws, type WebSocket } from "../../engine/sockets/uws.ts";
import { say, whenDismissed } from "../processes.ts";

const [url = "", slot = "", publication = ""] = process.argv.slice(2);
let socket: WebSocket<unknown> | undefined;
let note = "";

const service = new LogicalReplicationService(
  { connectionString: url },
  { acknowledge: { auto: false, timeoutSeconds: 0 } },
);
service.on("data", (_lsn: string, message: { tag: string; new?: { note: string } }) => {
  if (message.tag === "update") note = message.new!.note;
  else if (message.tag === "commit") socket?.send(note, false);
});
service.once("start", listen);
service.on("error", () => process.exit());
service
  .subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: [publication] }), slot)
  .catch(() => process.exit());

function listen(): void {
  const app = uws.App().ws("/*", { open: (opened) => void (socket = opened) });
  app.listen("127.0.0.1", 0, (listening) => say(uws.us_socket_local_port(listening)));
}

whenDismissed();
