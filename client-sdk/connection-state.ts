/**
 * Where a connection is, and what each thing that happens makes of that.
 *
 *     idle ─start─▶ opening ─opened─▶ greeting ─welcomed─▶ open ─settled─▶ open (attempt 0)
 *                      ▲  └────────────────┴──────lost───────┴──▶ waiting ─elapsed─▶ opening
 *                      └── tokenChanged, from anywhere but open                         closed, from anywhere
 *
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export type ConnectionState =
  | { readonly kind: "idle" }
  /** `attempt` counts connections since the last one that worked. */
  | { readonly kind: "opening" | "greeting" | "open"; readonly attempt: number }
  | { readonly kind: "waiting"; readonly attempt: number; readonly slow: boolean }
  | { readonly kind: "closed" };

export type ConnectionEvent =
  | { readonly kind: "start" | "opened" | "welcomed" | "settled" | "elapsed" | "tokenChanged" | "close" }
  /** `slow`: trying again at once would only be refused again. */
  | { readonly kind: "lost"; readonly slow: boolean };

/** Total: an event that means nothing in a state leaves it as it is. */
export function next(state: ConnectionState, event: ConnectionEvent): ConnectionState {
  if (state.kind === "closed" || event.kind === "close") return { kind: "closed" };
  switch (event.kind) {
    case "start":
      return state.kind === "idle" ? { kind: "opening", attempt: 0 } : state;
    case "opened":
      return state.kind === "opening" ? { kind: "greeting", attempt: state.attempt } : state;
    case "welcomed":
      return state.kind === "greeting" ? { kind: "open", attempt: state.attempt } : state;
    case "settled":
      return state.kind === "open" && state.attempt > 0 ? { kind: "open", attempt: 0 } : state;
    case "lost":
      return state.kind === "idle" || state.kind === "waiting"
        ? state
        : { kind: "waiting", attempt: state.attempt + 1, slow: event.slow };
    case "elapsed":
      return state.kind === "waiting" ? { kind: "opening", attempt: state.attempt } : state;
    case "tokenChanged":
      return state.kind === "idle" || state.kind === "open" ? state : { kind: "opening", attempt: 0 };
  }
}

export interface Backoff {
  /** Delay before the n-th attempt: random between 0 and base·2ⁿ, at most `maxMs`. */
  readonly baseMs: number;
  readonly maxMs: number;
}

export function delayMs(
  { attempt, slow }: { attempt: number; slow: boolean },
  { baseMs, maxMs }: Backoff,
  random: number,
): number {
  // A refusal (bad token, malformed message) is not cured by hurrying: never sooner than half the longest delay.
  if (slow) return maxMs / 2 + (random * maxMs) / 2;
  return random * Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
}

/** The same connection: nothing to open or close between the two. */
export function isSame(before: ConnectionState, now: ConnectionState): boolean {
  return before.kind === now.kind && now.kind === "open";
}
