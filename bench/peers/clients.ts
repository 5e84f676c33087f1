/** Many clients on the same rows, and a change now and then: how late it is at each. */
import { join } from "node:path";
import type { Figure } from "../bench.ts";
import { type CourseParameters, onCourse } from "../latency/course.ts";
import { inTurn, percentile } from "../measure.ts";
import { beside, type Circumstances, names } from "./beside.ts";

export interface ClientsParameters extends CourseParameters {
  readonly rounds: number;
  readonly clients: number;
  readonly pollMs: number;
}

const table = "bench_orders";

export function clientsFigures(
  parameters: ClientsParameters,
  { zero, directory, progress }: Circumstances,
): Promise<Figure[]> {
  return onCourse(parameters, async (course, postgres) => {
    const { rounds, clients, top, pollMs, rows, commits, warmUp, callbackPauseMs } = parameters;
    progress(`${commits} commits, seen by ${clients} clients`);
    const cache = ["../peers/zero/cache.ts", "newest", join(directory, "clients.db")];
    const polled = ["../peers/polling/server.ts", table, top];
    const { ours, ...others } = await inTurn(
      rounds,
      {
        ours: () => course.others(["engine"], "../peers/ours.ts", table, clients),
        polling: () => course.others(polled, "../peers/polling/client.ts", pollMs, clients),
        ...(zero && { zeroRaw: () => course.others(cache, "../peers/zero/raw.ts", clients) }),
      },
      { warmUp: false },
    );
    const conditions = { postgres, rounds, clients, commits, warmUp, pauseMs: callbackPauseMs, rows };
    return Object.entries(others).flatMap(([peer, theirs]) =>
      [0.5, 0.99].map((share) => {
        const at = (all: readonly (readonly number[])[]): number[] => all.map((round) => percentile(round, share));
        return beside(`many_clients_p${share * 100}_ms`, "ms", at(ours), at(theirs), {
          ...conditions,
          peer: { ...names, polling: `each polls the newest ${top} every ${pollMs} ms` }[peer]!,
        });
      }),
    );
  });
}
