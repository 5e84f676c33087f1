/**
 * The floor: Postgres with a bare replication connection attached, which notes when each commit comes, keeps nothing else and lets
 * Postgres believe that it has everything. Told a position, says what it noted once it is passed.
 */
import pg from "pg";
import { say, whenDismissed } from "../processes.ts";
import type { Arrival, Read } from "./reader.ts";

const [url = "", slot = "", publication = ""] = process.argv.slice(2);
let arrivals: Arrival[] = [];
let operations = 0;
let position = 0n;
let target: bigint | undefined;

const client = new pg.Client({ connectionString: url, replication: "database" } as pg.ClientConfig);
await client.connect();
const { connection } = client as unknown as {
  connection: NodeJS.EventEmitter & { sendCopyFromChunk(chunk: Buffer): void };
};
connection.on("copyData", ({ chunk }: { chunk: Buffer }) => {
  if (chunk[0] === 0x6b && chunk[17] === 1) connection.sendCopyFromChunk(acknowledgement());
  // After XLogData's header, 25 bytes: insert or update, or a commit's tag, flags and position, and then its end.
  const tag = chunk[0] === 0x77 ? chunk[25] : undefined;
  if (tag === 0x49 || tag === 0x55) operations++;
  if (tag === 0x43) committed(chunk.readBigUInt64BE(35));
});
connection.once("replicationStart", () => say("ready"));
client
  .query(`START_REPLICATION SLOT ${slot} LOGICAL 0/0 (proto_version '2', publication_names '${publication}')`)
  .catch(() => process.exit());
process.on("message", (told: string) => {
  target = BigInt(told);
  answer();
});
whenDismissed();

function committed(end: bigint): void {
  position = end;
  arrivals.push({ position, ns: Number(process.hrtime.bigint()) });
  answer();
}

function answer(): void {
  if (target === undefined || position <= target) return;
  target = undefined;
  say({ arrivals, operations } satisfies Read);
  arrivals = [];
  operations = 0;
}

/** Of all that came: kind, three times the position, a time that nobody looks at, and no wish for an answer. */
function acknowledgement(): Buffer {
  const status = Buffer.alloc(34);
  status[0] = 0x72;
  for (const at of [1, 9, 17]) status.writeBigUInt64BE(position, at);
  return status;
}
