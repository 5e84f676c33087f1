/** The machine that a figure belongs to. Benches that use Postgres add its version themselves. */
import { availableParallelism, cpus, totalmem } from "node:os";
import type { Conditions } from "./bench.ts";

export function machine(): Conditions {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
  };
}
