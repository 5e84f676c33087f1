/**
 * Writers, each on a connection of its own, as fast as Postgres answers or at a rate by a schedule; and a probe beside them, a small
 * transaction every now and then, by which whoever listens can tell how far behind it is. Told how long, says what was committed; the
 * last probe comes when all writers are done.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { parseLsn } from "../../engine/protocol.ts";
import { say, told, whenDismissed } from "../processes.ts";
import { probeTable, type WorkloadName, workloads } from "./workloads.ts";

export interface Order {
  readonly ms: number;
  /** How many of them write. */
  readonly writers: number;
  /** Of all writers together; 0: as fast as they can. */
  readonly perSecond: number;
}

export interface Probe {
  /** Of the WAL, before its commit and behind every commit that was acknowledged before. */
  readonly before: bigint;
  readonly acknowledgedNs: number;
}

export interface Written {
  readonly transactions: number;
  /** Until the last was acknowledged. */
  readonly ms: number;
  readonly probes: readonly Probe[];
}

const probeEveryMs = 50;

const [url = "", workload = "", writersMax = ""] = process.argv.slice(2);
const chosen = workloads[workload as WorkloadName];
const writers = await Promise.all(Array.from({ length: Number(writersMax) }, connected));
const prober = await connected();
whenDismissed(() => Promise.all([prober, ...writers].map((client) => client.end())).then(() => undefined));
say("ready");
for (;;) say(await write(await told<Order>()));

async function connected(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

async function write({ ms, writers: count, perSecond }: Order): Promise<Written> {
  const startNs = now();
  const endNs = startNs + ms * 1e6;
  const probes: Probe[] = [];
  const writing = new AbortController();
  const probing = (async () => {
    for (; !writing.signal.aborted; await delay(probeEveryMs)) probes.push(await probe());
  })();
  const counts = await Promise.all(
    writers.slice(0, count).map((client, writer) => {
      const intervalNs = perSecond === 0 ? 0 : (1e9 * count) / perSecond;
      return writeUntil(client, endNs, startNs + (writer / count) * intervalNs, intervalNs);
    }),
  );
  const doneNs = now();
  writing.abort();
  await probing;
  probes.push(await probe());
  return { transactions: counts.reduce((sum, one) => sum + one, 0), ms: (doneNs - startNs) / 1e6, probes };
}

/** One that is late goes on at once until it has caught up with its schedule. */
async function writeUntil(client: pg.Client, endNs: number, firstNs: number, intervalNs: number): Promise<number> {
  let done = 0;
  for (let dueNs = firstNs; now() < endNs && dueNs < endNs; dueNs += intervalNs) {
    const earlyMs = (dueNs - now()) / 1e6;
    if (earlyMs > 0) await delay(earlyMs);
    await client.query(chosen.transaction(Math.random));
    done++;
  }
  return done;
}

async function probe(): Promise<Probe> {
  const position = "select pg_current_wal_insert_lsn()::text as lsn";
  const results: unknown = await prober.query(`begin; update ${probeTable} set n = n + 1; ${position}; commit`);
  const [, , { rows }] = results as [unknown, unknown, pg.QueryResult<{ lsn: string }>];
  return { before: parseLsn(rows[0]!.lsn), acknowledgedNs: now() };
}

function now(): number {
  return Number(process.hrtime.bigint());
}
