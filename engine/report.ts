/** What an engine says about itself: in `/health`, in `/metrics` and to the program that runs it. Before there are stages, that it starts. */
import { reasonOf } from "./explain.ts";
import type { Stages } from "./main.ts";
import type { Counts, Figures } from "./metrics.ts";
import { formatLsn, zeroLsn } from "./protocol.ts";
import type { Health } from "./sockets/http.ts";
import type { Server } from "./sockets/server.ts";
import type { Vetting } from "./sockets/vetting.ts";

export interface EngineStats {
  /** WebSockets, and streams of events. */
  readonly connections: number;
  /** Distinct shapes that are live. */
  readonly shapes: number;
  /** Current states: those that are kept in memory, each for all who follow the same, and queries that a program watches. */
  readonly watches: number;
  readonly snapshotsTotal: number;
  readonly resyncsTotal: number;
  /** What the log holds, in bytes. */
  readonly logBytes: number;
}

/** `waitingFor` is what keeps it from having stages. */
export function healthOf(stages: Stages | undefined, waitingFor: string | undefined): Health {
  const { replication, tail, vitals } = stages ?? {};
  const reason = replication?.reason ?? (tail?.failure && reasonOf(tail.failure)) ?? waitingFor;
  return {
    status: replication?.status ?? "starting",
    position: formatLsn(tail?.end ?? zeroLsn),
    lagBytes: vitals?.lagBytes ?? 0,
    lagSeconds: vitals?.lagSeconds ?? 0,
    ...(vitals?.slot && { slot: vitals.slot }),
    ...(vitals?.warning !== undefined && { warning: vitals.warning }),
    ...(reason !== undefined && { reason }),
  };
}

export function statsOf(stages: Stages | undefined, server: Server, vetting: Vetting): EngineStats {
  const { shapes, counts, resyncs, log } = figuresOf(stages, server, vetting);
  return {
    connections: server.connections,
    shapes,
    watches: (stages?.watches.size ?? 0) + (stages?.queries.size ?? 0),
    snapshotsTotal: counts.snapshots,
    resyncsTotal: resyncs.values().reduce((sum, count) => sum + count, 0),
    logBytes: log?.bytes ?? 0,
  };
}

export function figuresOf(stages: Stages | undefined, server: Server, vetting: Vetting): Figures {
  const { tail, replication, hub, snapshots, vitals } = stages ?? {};
  return {
    live: replication?.status === "live",
    lagBytes: vitals?.lagBytes ?? 0,
    lagSeconds: vitals?.lagSeconds ?? 0,
    slot: vitals?.slot,
    log: tail,
    acknowledged: replication?.acknowledged,
    shapes: hub?.live.size ?? 0,
    unindexed: hub?.live.unindexed ?? 0,
    waits: vetting.waits,
    clients: server.states,
    resyncs: hub?.resyncs ?? new Map(),
    refusals: hub?.refusals ?? new Map(),
    returned: hub?.returned ?? new Map(),
    audits: hub?.audits.answers ?? new Map(),
    kept: snapshots?.kept,
    counts: countsOf(stages),
  };
}

function countsOf(stages: Stages | undefined): Counts {
  const { tail, replication, hub, snapshots } = stages ?? {};
  return {
    snapshots: snapshots?.total ?? 0,
    snapshotsReused: snapshots?.reused ?? 0,
    snapshotTransactions: snapshots?.transactions ?? 0,
    replicationBreaks: replication?.breaks ?? 0,
    sendsDropped: hub?.counters.sendsDropped ?? 0,
    clientsFallenBehind: hub?.counters.fellBehind ?? 0,
    unknownChanges: hub?.counters.unknownChanges ?? 0,
    catchUpPasses: hub?.catchUp.passesTotal ?? 0,
    catchUpBytes: tail?.bytesRead ?? 0,
  };
}
