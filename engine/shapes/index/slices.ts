/** Work that may wait and would hold everybody else up: a little of it is done in each turn of the event loop. */

/** Does a little, and says whether something is left. */
export type Step = () => boolean;

const turnMs = 0.5;
const steps: Step[] = [];

export function inSlices(step: Step): void {
  steps.push(step);
  if (steps.length === 1) setImmediate(turn);
}

function turn(): void {
  const end = performance.now() + turnMs;
  while (steps.length > 0 && performance.now() < end) if (!steps[0]!()) steps.shift();
  if (steps.length > 0) setImmediate(turn);
}
