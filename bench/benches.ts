/** Every benchmark, in the order in which rows flow. */
import type { Bench } from "./bench.ts";
import { decode } from "./decode.ts";
import { match } from "./match.ts";
import { latency } from "./latency.ts";

export const benches: readonly Bench[] = [decode, match, latency];
