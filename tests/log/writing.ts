/**
 * A process that writes a log until it is killed: `node writing.ts DIRECTORY SEED`. It prints each position once that is
 * recorded, so whoever kills it knows what must be found.
 */
import { writeSync } from "node:fs";
import { DurableLog } from "../../engine/log/durable.ts";
import { zeroLsn } from "../../engine/protocol.ts";
import { transactionAt } from "./support.ts";

const [directory, seed] = process.argv.slice(2) as [string, string];
const log = await DurableLog.open({
  directory,
  retentionMs: 3_600_000,
  bytesMax: 1 << 30,
  segmentBytes: 64 * 1024,
  tailBytes: 64 * 1024,
  onFlushed: () => void writeSync(1, `${log.recorded}\n`),
  onFailed: (error) => {
    throw error;
  },
});
if (log.history === undefined) await log.startAt(zeroLsn, "history");

// What was not acknowledged may have been kept all the same; what is sent again is recognised.
let next = 1;
let random = Number(seed);
const append = (): void => {
  random = (random * 48_271) % 0x7fffffff;
  const count = 1 + (random % 40);
  log.append(Array.from({ length: count }, () => transactionAt(next++)));
  if (random % 5 === 0) log.checkpoint();
  if (log.pendingBytes < 1 << 20) setImmediate(append);
  else setTimeout(append, 1);
};
append();
