/**
 * How long a client waits before it connects again: full jitter, so that thousands that were cut off together do not come
 * back together. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export interface Backoff {
  /** Delay before the n-th attempt: random between 0 and base·2ⁿ, at most `maxMs`. */
  readonly baseMs: number;
  readonly maxMs: number;
}

export function delayMs(
  { attempt, slow }: { readonly attempt: number; readonly slow: boolean },
  backoff: Backoff,
  random: number,
): number {
  const { maxMs } = backoff;
  // A refusal (bad token, malformed message) is not cured by hurrying: never sooner than half the longest delay.
  if (slow) return maxMs / 2 + (random * maxMs) / 2;
  return random * longestMs(attempt, backoff);
}

/** A connection that lasted as long as the wait before it could have has worked; one that did not is one more failure. */
export function longestMs(attempt: number, { baseMs, maxMs }: Backoff): number {
  return Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
}
