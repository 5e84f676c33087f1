/**
 * Ctrl-C and `kill`: the first time to end in order, the second time to end at once.
 */

/** A terminal tells every process about Ctrl-C, and npm tells its child again: that is one wish, not two. */
const sameWishMs = 500;

/** Calls `stop` once. A later SIGINT or SIGTERM exits with the code that shells expect, 128 and the signal's number. */
export function onStopSignal(stop: (signal: NodeJS.Signals) => void): void {
  let firstAt: number | undefined;
  const onSignal = (signal: NodeJS.Signals, number: number): void => {
    if (firstAt === undefined) {
      firstAt = performance.now();
      stop(signal);
    } else if (performance.now() - firstAt > sameWishMs) process.exit(128 + number);
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
}
