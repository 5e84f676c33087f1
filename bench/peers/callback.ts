/** From COMMIT to the rows in an application's hands: a live query's callback, a view's listener, the answer to a poll. */
import { join } from "node:path";
import type { Figure } from "../bench.ts";
import { type CourseParameters, onCourse } from "../latency/course.ts";
import { inTurn, percentile } from "../measure.ts";
import { beside, type Circumstances, names } from "./beside.ts";

export interface CallbackParameters extends CourseParameters {
  readonly rounds: number;
  readonly pollMs: number;
}

const table = "bench_orders";

export function callbackFigures(
  parameters: CallbackParameters,
  { zero, directory, progress }: Circumstances,
): Promise<Figure[]> {
  return onCourse(parameters, async (course, postgres) => {
    const { rounds, top, pollMs, rows, commits, warmUp, callbackPauseMs } = parameters;
    progress(`${commits} commits, seen in the newest ${top} of ${rows} rows`);
    const cache = ["../peers/zero/cache.ts", "newest", join(directory, "newest.db")];
    const results = await inTurn(
      rounds,
      {
        ours: () => course.callbacks(),
        polling: () => course.others(["../peers/polling/server.ts", table, top], "../peers/polling/client.ts", pollMs),
        ...(zero && {
          zero: () => course.others(cache, "../peers/zero/client.ts", top, "preloaded"),
          zeroOnDemand: () => course.others(cache, "../peers/zero/client.ts", top),
        }),
      },
      { warmUp: false },
    );
    const conditions = { postgres, rounds, commits, warmUp, callbackPauseMs, rows, top };
    const { ours, ...others } = results;
    return Object.entries(others).flatMap(([peer, theirs]) =>
      [0.5, 0.99].map((share) => {
        const at = (all: readonly (readonly number[])[]): number[] => all.map((round) => percentile(round, share));
        return beside(`callback_p${share * 100}_ms`, "ms", at(ours), at(theirs), {
          ...conditions,
          peer: { ...names, polling: `polling every ${pollMs} ms` }[peer]!,
        });
      }),
    );
  });
}
