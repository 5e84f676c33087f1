/**
 * Whether a change of a joined table is followed, or the query runs again: the newest fifty of many orders may be there in
 * a tenth of a millisecond, which is less than finding and reading the twenty orders that a customer's name stands in.
 */

/** The last time that all of a query ran. */
export interface WholeRun {
  readonly ms: number;
  readonly rows: number;
  /** It was looked at how to follow it, and nothing was in the caches. */
  readonly isFirst: boolean;
}

export type IsCheaperToFollow = (keys: number, run: WholeRun) => boolean;

// Measured with PGlite on one core: a round trip more, a row that is looked up and put in its place, a row that is compared.
const FOLLOW_MS = 0.08;
const KEY_MS = 0.006;
const ROW_MS = 0.0005;

// A first run that took no longer says little of the next, by which it is found out.
const FIRST_RUN_MS = 20;

export function isCheaperToFollow(keys: number, { ms, rows, isFirst }: WholeRun): boolean {
  if (isFirst && ms < FIRST_RUN_MS) return false;
  return FOLLOW_MS + keys * KEY_MS < ms + rows * ROW_MS;
}
