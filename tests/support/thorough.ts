/**
 * How often: what draws cases, kills processes or goes in rounds does less of it in `npm test`, which somebody waits for, than in
 * `npm run check`, which has the time. What is demanded of so many cases is given for both, too.
 */
export const isThorough = process.env.WALCAST_THOROUGH !== undefined;

/** The count for this run: `many` in a thorough one. */
export function thorough(many: number, few: number): number {
  return isThorough ? many : few;
}
