/** A figure of ours beside one of theirs, both with the range of their rounds. */
import type { Conditions, Figure, Progress, Range } from "../bench.ts";
import { median } from "../measure.ts";

export interface Circumstances {
  /** Which are installed. */
  readonly zero: boolean;
  readonly electric: boolean;
  /** For what a peer keeps from one of its rounds to the next. */
  readonly directory: string;
  readonly progress: Progress;
}

/** As conditions say them. */
export const names: Readonly<Record<string, string>> = {
  zero: "Zero 1.9.0, the table preloaded",
  zeroOnDemand: "Zero 1.9.0, nothing but the view's query",
  zeroFollowing: "Zero 1.9.0, the table preloaded and a view of the probe",
  zeroSync: "Zero 1.9.0, preload",
  electric: "pglite-sync 0.6.1, by csv, its rows made beforehand by a server of ours",
  zeroRaw: "Zero 1.9.0, raw clients",
};

export function beside(
  name: string,
  unit: string,
  ours: readonly number[],
  theirs: readonly number[],
  conditions: Conditions,
): Figure {
  return {
    figure: name,
    unit,
    value: median(ours),
    range: rangeOf(ours),
    peer: median(theirs),
    peerRange: rangeOf(theirs),
    conditions,
  };
}

function rangeOf(rounds: readonly number[]): Range {
  return [Math.min(...rounds), Math.max(...rounds)];
}
