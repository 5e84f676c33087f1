/**
 * The floor: COPY to a bare socket. Nothing is done with what comes but to look whether it was the last. Says how many
 * milliseconds that took and how many bytes came, each time it is told to.
 */
import pg from "pg";
import { say, whenDismissed } from "../processes.ts";

const [url = "", table = ""] = process.argv.slice(2);
const client = new pg.Client({ connectionString: url });
await client.connect();
const { stream } = client.connection;
stream.removeAllListeners("data");
whenDismissed(() => void stream.destroy());
/** ReadyForQuery, outside of a transaction. */
const ready = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

process.on("message", () => void copy().then(say));
say("ready");

function copy(): Promise<{ ms: number; bytes: number }> {
  const startedNs = process.hrtime.bigint();
  let bytes = 0;
  return new Promise((resolve) => {
    stream.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (!chunk.subarray(-ready.length).equals(ready)) return;
      stream.removeAllListeners("data");
      resolve({ ms: Number(process.hrtime.bigint() - startedNs) / 1e6, bytes });
    });
    client.connection.query(`copy ${table} to stdout`);
  });
}
