/**
 * The promise, all of it at once: whatever is written, changed, killed and cut, no client ever shows what was not there.
 * A look at it among the other tests; `npm run check` has a minute of it. WALCAST_SEED runs one seed again, WALCAST_SECONDS makes it
 * longer; tests/simulation/run.ts sets both.
 */
import { test } from "node:test";
import { Simulation } from "./simulation/simulation.ts";
import { Random } from "./splice/random.ts";

const seconds = Number(process.env.WALCAST_SECONDS ?? 12);

test(
  "whatever goes wrong, every state that a client shows is one that Postgres had",
  { timeout: (seconds + 120) * 1_000 },
  async (t) => {
    const simulation = new Simulation(Random.fromEnvironment().seed);
    console.log(`WALCAST_SEED=${simulation.seed}`);
    await simulation.run(seconds, t);
    console.log(simulation.summary());
  },
);
