/** The floor of draining: a bare replication connection that pools its reads as the engine does, and looks for commits. */
import type { Socket } from "node:net";
import pg from "pg";
import { say, whenDismissed } from "../processes.ts";

const [url = "", slot = "", publication = "", target = ""] = process.argv.slice(2);
const poolMs = 1;
const end = BigInt(target);

const client = new pg.Client({ connectionString: url, replication: "database" } as pg.ClientConfig);
await client.connect();
const { connection } = client as unknown as { connection: NodeJS.EventEmitter & { stream: Socket } };
let startedNs = 0n;
let done = false;

connection.on("copyData", ({ chunk }: { chunk: Buffer }) => {
  if (startedNs === 0n) startedNs = process.hrtime.bigint();
  // A commit: after XLogData's header (25 bytes), tag, flags and the commit record's position comes its end.
  if (done || chunk[0] !== 0x77 || chunk[25] !== 0x43 || chunk.readBigUInt64BE(35) < end) return;
  done = true;
  say(Number(process.hrtime.bigint() - startedNs) / 1e6);
});
connection.stream.on("data", () => {
  connection.stream.pause();
  setTimeout(() => connection.stream.resume(), poolMs);
});
client
  .query(
    `START_REPLICATION SLOT ${slot} LOGICAL 0/0 (proto_version '2', streaming 'on', messages 'true', publication_names '${publication}')`,
  )
  .catch(() => process.exit());
whenDismissed();
