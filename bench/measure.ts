/** How figures are taken: contenders in turn, so that whatever else the machine does meets them all, and then medians. */
import { isSmall } from "./small.ts";

/**
 * Runs A B C A B C …; gives each contender's results in order, without those of a first round, which warms up. Contenders
 * that start afresh each time have nothing to keep warm: `warmUp: false`.
 */
export async function inTurn<Results extends Readonly<Record<string, unknown>>>(
  rounds: number,
  contenders: { readonly [Name in keyof Results]: () => Results[Name] | Promise<Results[Name]> },
  { warmUp = true } = {},
): Promise<{ [Name in keyof Results]: Results[Name][] }> {
  const results = {} as { [Name in keyof Results]: Results[Name][] };
  for (let round = warmUp && !isSmall() ? -1 : 0; round < rounds; round++) {
    for (const name in contenders) {
      const result = await contenders[name]();
      if (round >= 0) (results[name] ??= []).push(result);
    }
  }
  return results;
}

/** The smallest value that at least `share` of the values do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  if (value === undefined) throw new Error("a percentile of no values");
  return value;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** Seconds that the work took. */
export function secondsOf(work: () => void): number {
  const started = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - started) / 1e9;
}
