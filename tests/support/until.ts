import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";

/**
 * For what nobody tells of. Asking without a pause would take the processor from what is waited for, and from the tests
 * beside. What does not come is named, before the runner ends the test without a word.
 */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpMs = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > giveUpMs) assert.fail(`waited in vain until ${holds.toString()}`);
    await delay(ASK_AGAIN_MS);
  }
}

/** The same for what is told. */
export async function inTime<T>(coming: Promise<T>, what: () => string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const giveUp = (): void => reject(new Error(`waited in vain for ${what()}`));
  const timer = setTimeout(giveUp, PATIENCE_MS).unref();
  return Promise.race([coming, promise]).finally(() => clearTimeout(timer));
}

const ASK_AGAIN_MS = 5;
/** Less than a test has. It is there to say what hangs: nothing else is too slow. */
const PATIENCE_MS = 100_000;
