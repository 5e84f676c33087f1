/**
 * The same work by others, in turn with ours: Zero (zero-cache and its client), polling, a server made with the library `ws`, PGlite with Electric's sync. Those that
 * have to be installed are in `peers/`, whose package.json is its own: `npm install --prefix bench/peers`. Without it they are left out.
 */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Bench, Figure, Progress } from "./bench.ts";
import { type CallbackParameters, callbackFigures } from "./peers/callback.ts";
import { type ClientsParameters, clientsFigures } from "./peers/clients.ts";
import { type FirstSyncParameters, firstSyncFigures } from "./peers/first-sync.ts";
import { type SocketsParameters, socketsFigures } from "./peers/sockets.ts";
import { type ThroughputParameters, throughputFigures } from "./peers/throughput.ts";

interface Parameters {
  readonly callback: CallbackParameters;
  readonly clients: ClientsParameters;
  readonly sockets: SocketsParameters;
  readonly throughput: ThroughputParameters;
  readonly firstSync: FirstSyncParameters;
  /** Those that have to be installed, where they are. */
  readonly installed: boolean;
}

const realParameters: Parameters = {
  callback: {
    rounds: 3,
    commits: 1_300,
    warmUp: 800,
    pauseMs: 1,
    callbackPauseMs: 8,
    rows: 10_000,
    top: 50,
    pollMs: 200,
  },
  clients: {
    rounds: 3,
    clients: 100,
    commits: 80,
    warmUp: 30,
    pauseMs: 1,
    callbackPauseMs: 100,
    rows: 1_000,
    top: 50,
    pollMs: 200,
  },
  sockets: { rounds: 3, transactions: 30, sockets: 1_000, rows: [1, 10, 100] },
  throughput: { rounds: 3, ms: 2_000, writers: 4 },
  firstSync: { rounds: 3, rows: 100_000 },
  installed: true,
};

export const peers: Bench<Parameters> = {
  name: "peers",
  question: "How does it compare with others who do the same work?",
  notMeasured:
    "What others are better at: Zero keeps no SQL database in the client and runs queries on the server that a client has no rows for; polling needs no server at all. Everybody has the settings that they come with, on one machine with Postgres, the writer and the client. Peers that are not installed are left out: npm install --prefix bench/peers.",
  real: realParameters,
  brief: {
    callback: { ...realParameters.callback, rounds: 1 },
    clients: { ...realParameters.clients, rounds: 1 },
    sockets: { ...realParameters.sockets, rounds: 1 },
    throughput: { ...realParameters.throughput, rounds: 1 },
    firstSync: { ...realParameters.firstSync, rounds: 1 },
  },
  small: {
    // As many rows as commits: none hides another, however seldom somebody looks.
    callback: { rounds: 1, commits: 14, warmUp: 2, pauseMs: 1, callbackPauseMs: 5, rows: 200, top: 14, pollMs: 20 },
    clients: {
      rounds: 1,
      clients: 3,
      commits: 14,
      warmUp: 2,
      pauseMs: 1,
      callbackPauseMs: 5,
      rows: 200,
      top: 14,
      pollMs: 20,
    },
    sockets: { rounds: 1, transactions: 2, sockets: 3, rows: [1, 3] },
    throughput: { rounds: 1, ms: 100, writers: 2 },
    firstSync: { rounds: 1, rows: 1_000 },
    installed: false,
  },
  run,
};

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-bench-peers-"));
  const has = (name: string): boolean =>
    parameters.installed && existsSync(join(import.meta.dirname, "peers", "node_modules", name));
  const circumstances = {
    zero: has("@rocicorp/zero"),
    electric: has("@electric-sql/pglite-sync"),
    ...{ directory, progress },
  };
  try {
    return [
      ...(await callbackFigures(parameters.callback, circumstances)),
      ...(await clientsFigures(parameters.clients, circumstances)),
      ...(await socketsFigures(parameters.sockets, circumstances)),
      ...(await throughputFigures(parameters.throughput, circumstances)),
      ...(await firstSyncFigures(parameters.firstSync, circumstances)),
    ];
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
