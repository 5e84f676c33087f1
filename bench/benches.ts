/** Every benchmark, in the order in which rows flow. */
import type { Bench } from "./bench.ts";
import { decode } from "./decode.ts";

export const benches: readonly Bench[] = [decode];
