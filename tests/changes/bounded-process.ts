/**
 * A process that streams and keeps nothing, for tests of how much memory that takes. It reads large transactions part by
 * part, deletes their files, and says what it saw, one JSON line for each transaction with rows. Ends when its input does.
 */
import { existsSync, readdirSync, unlinkSync } from "node:fs";
import { Stream } from "../../engine/changes/stream.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { zeroLsn } from "../../engine/protocol.ts";

export interface Seen {
  readonly messages: number;
  readonly bytes: number;
  /** The most that was in use up to here, and what was left a moment later. */
  readonly buffersMost: number;
  readonly buffersAfter: number;
  readonly rssMost: number;
  readonly filesLeft: number;
}

const [databaseUrl, slot, stagingDirectory, recentXid] = process.argv.slice(2) as [string, string, string, string];

let buffersMost = 0;
let rssMost = 0;
setInterval(measure, 50).unref();

/** What is in use, and not what the collector has yet to come by: when it does is its own affair. */
function measure(): void {
  globalThis.gc!();
  const { arrayBuffers, rss } = process.memoryUsage();
  buffersMost = Math.max(buffersMost, arrayBuffers);
  rssMost = Math.max(rssMost, rss);
}

async function see({ bytes, starts, large }: Transaction): Promise<void> {
  let [messages, size] = [starts.length - 1, bytes.length];
  let parts = 0;
  for await (const part of large?.parts() ?? []) {
    messages += part.starts.length - 1;
    size += part.bytes.length;
    // Collecting for each would take longer than reading them.
    if (parts++ % 16 === 0) measure();
  }
  if (large) unlinkSync(large.path);
  if (messages > 0) process.stdout.write(`${JSON.stringify(await seen(messages, size))}\n`);
}

async function seen(messages: number, bytes: number): Promise<Seen> {
  const buffersAfter = await settled();
  const filesLeft = existsSync(stagingDirectory) ? readdirSync(stagingDirectory).length : 0;
  return { messages, bytes, buffersMost, buffersAfter, rssMost, filesLeft };
}

/** What is still in use, once the collector has been where it goes by itself only in time: it falls until it does not. */
async function settled(): Promise<number> {
  let least = Infinity;
  for (let rounds = 0; rounds < 10; rounds++) {
    await new Promise((resolve) => setImmediate(resolve));
    globalThis.gc!();
    const { arrayBuffers } = process.memoryUsage();
    if (arrayBuffers < least) rounds = 0;
    least = Math.min(least, arrayBuffers);
  }
  return least;
}

const stream = new Stream(
  {
    databaseUrl,
    slot,
    publication: "walcast",
    walSenderTimeoutMs: 60_000,
    recentXid: BigInt(recentXid),
    stagingDirectory,
  },
  {
    onTransactions: (transactions) => transactions.forEach((transaction) => void see(transaction)),
    onQuiet: () => {},
    acknowledged: () => zeroLsn,
    pendingBytes: () => 0,
  },
);
process.stdin.resume().on("end", () => void stream.stop());
await stream.run(() => process.stdout.write("{}\n"));
process.exit();
