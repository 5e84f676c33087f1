/** Every benchmark, in the order in which rows flow. */
import type { Bench } from "./bench.ts";
import { decode } from "./decode.ts";
import { firstSync } from "./first-sync.ts";
import { latency } from "./latency.ts";
import { match } from "./match.ts";

export const benches: readonly Bench[] = [decode, match, latency, firstSync];
