import { setTimeout as delay } from "node:timers/promises";

/**
 * For what nobody tells of. Asking without a pause would take the processor from what is waited for, and from the tests
 * beside.
 */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await delay(askAgainMs);
}

const askAgainMs = 5;
