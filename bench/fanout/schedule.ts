/**
 * Commits by a schedule that waits for nobody: what comes late because the one before took long counts as late, or a server that
 * stops for a second would look like one that was slow once.
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import type { Arrival } from "./clients.ts";
import { type Committed, firstId, type Writer } from "./orders.ts";
import type { Contender } from "./scene.ts";

/** So many commits before the schedule do not count: V8 has yet to compile what they run through. */
const warmUpCommits = 300;

/** Milliseconds from when each COMMIT was due to be acknowledged until its frame was at each socket that has to have it. */
export async function lateness(
  writer: Writer,
  contender: Contender,
  audience: "one" | "each",
  { clients, perSecond, commits }: { readonly clients: number; readonly perSecond: number; readonly commits: number },
): Promise<number[]> {
  const receivers = (commit: number): number[] =>
    audience === "each" ? [commit % clients] : Array.from({ length: clients }, (_, socket) => socket);
  const warmUp = Math.ceil(Math.min(warmUpCommits, 2 * commits) / clients) * clients;
  const committed: Committed[] = [];
  for (let i = 0; i < warmUp; i++) committed.push(await writer.commit(contender.table, firstId + (i % clients), 1));
  committed.push(
    ...(await onSchedule(commits, perSecond, (i) => writer.commit(contender.table, firstId + (i % clients), 1))),
  );
  const last = new Map(committed.flatMap(({ before }, commit) => receivers(commit).map((socket) => [socket, before])));
  const arrivals = await contender.arrivalsBeyond(
    Array.from({ length: clients }, (_, socket) => last.get(socket) ?? 0n),
  );
  return differences(committed, arrivals, receivers).slice(warmUp * receivers(0).length);
}

async function onSchedule(
  commits: number,
  perSecond: number,
  commit: (number: number) => Promise<Committed>,
): Promise<Committed[]> {
  const committed: Committed[] = [];
  const startNs = now();
  let freeNs = startNs;
  for (let i = 0; i < commits; i++) {
    const dueNs = startNs + (i * 1e9) / perSecond;
    await delay(Math.max(0, (dueNs - now()) / 1e6));
    const begunNs = now();
    const one = await commit(i);
    // A timer that fires late is nobody's fault; a commit that had to wait for the one before was due when it was due.
    committed.push({ ...one, ns: one.ns - (freeNs > dueNs ? begunNs - dueNs : 0) });
    freeNs = one.ns;
  }
  return committed;
}

function differences(
  committed: readonly Committed[],
  arrivals: readonly Arrival[],
  receivers: (commit: number) => readonly number[],
): number[] {
  const bySocket = Map.groupBy(arrivals, ({ socket }) => socket);
  const next = new Map<number, number>();
  return committed.flatMap(({ before, ns }, commit) =>
    receivers(commit).map((socket) => {
      const own = bySocket.get(socket)!;
      let at = next.get(socket) ?? 0;
      while (at < own.length && own[at]!.position <= before) at++;
      next.set(socket, at);
      assert.ok(at < own.length, `commit ${commit} has arrived at socket ${socket}`);
      return (own[at]!.ns - ns) / 1e6;
    }),
  );
}

function now(): number {
  return Number(process.hrtime.bigint());
}
