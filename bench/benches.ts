/** Every benchmark, in the order in which rows flow. */
import type { Bench } from "./bench.ts";
import { apply } from "./apply.ts";
import { browser } from "./browser.ts";
import { catchUp } from "./catch-up.ts";
import { coldStart } from "./cold-start.ts";
import { crowd } from "./crowd.ts";
import { decode } from "./decode.ts";
import { fanout } from "./fanout.ts";
import { firstSync } from "./first-sync.ts";
import { hostile } from "./hostile.ts";
import { idioms } from "./idioms.ts";
import { largeTransaction } from "./large-transaction.ts";
import { latency } from "./latency.ts";
import { live } from "./live.ts";
import { log } from "./log.ts";
import { match } from "./match.ts";
import { memory } from "./memory.ts";
import { peers } from "./peers.ts";
import { snapshot } from "./snapshot.ts";
import { slowConsumers } from "./slow-consumers.ts";
import { storm } from "./storm.ts";
import { throughput } from "./throughput.ts";

export const benches: readonly Bench[] = [
  decode,
  log,
  match,
  snapshot,
  fanout,
  latency,
  throughput,
  crowd,
  hostile,
  firstSync,
  catchUp,
  storm,
  largeTransaction,
  apply,
  live,
  coldStart,
  browser,
  memory,
  slowConsumers,
  idioms,
  peers,
];
