/**
 * The floor of those beside a large transaction: a bare replication connection that notes when each commit comes and keeps
 * nothing. Told a position, says all of them once it is passed.
 */
import pg from "pg";
import { say, told, whenDismissed } from "../processes.ts";

const [url = "", slot = "", publication = ""] = process.argv.slice(2);
const arrived: { readonly position: bigint; readonly ns: bigint }[] = [];
let isLast: (() => void) | undefined;

const client = new pg.Client({ connectionString: url, replication: "database" } as pg.ClientConfig);
await client.connect();
whenDismissed();
const { connection } = client as unknown as { connection: NodeJS.EventEmitter };

// Behind XLogData's header, 25 bytes: Commit has flags and two positions, Stream Commit its xid before them.
connection.on("copyData", ({ chunk }: { chunk: Buffer }) => {
  const end = chunk[25] === 0x43 ? 35 : chunk[25] === 0x63 ? 39 : undefined;
  if (chunk[0] !== 0x77 || end === undefined) return;
  arrived.push({ position: chunk.readBigUInt64BE(end), ns: process.hrtime.bigint() });
  isLast?.();
});
connection.once("replicationStart", () => say("ready"));
client
  .query(
    `START_REPLICATION SLOT ${slot} LOGICAL 0/0 (proto_version '2', publication_names '${publication}', streaming 'on')`,
  )
  .catch(() => process.exit());

const until = BigInt(await told<string>());
await new Promise<void>((resolve) => {
  isLast = () => void ((arrived.at(-1)?.position ?? 0n) > until && resolve());
  isLast();
});
say(arrived);
