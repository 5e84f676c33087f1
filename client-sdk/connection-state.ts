/**
 * Where a connection is, what each thing that happens makes of that, and what is to be done about it. Pure: `next` says
 * all of it as values, and connection.ts carries them out. The diagram is in docs/client.md.
 *
 * Every state has at most one timer, and only those between `opening` and `doubted` have a socket.
 */

interface Attempting<Kind extends string> {
  readonly kind: Kind;
  /** Connections since the last one that worked, this one not counted. */
  readonly attempt: number;
}

export type ConnectionState =
  | { readonly kind: "idle" }
  /** The token function was asked. */
  | Attempting<"asking">
  | Attempting<"opening">
  /** The server was told who we are. */
  | Attempting<"greeting">
  | Attempting<"open">
  /** Open, but nobody knows whether anybody is at the other end: it was pinged. */
  | Attempting<"doubted">
  /** `slow`: trying again at once would only be refused again. */
  | (Attempting<"waiting"> & { readonly slow: boolean })
  | { readonly kind: "closed" };

export type ConnectionEvent =
  | { readonly kind: "start" }
  /** The token is there. */
  | { readonly kind: "asked" }
  | { readonly kind: "opened" }
  | { readonly kind: "welcomed" }
  /** Anything came. */
  | { readonly kind: "heard" }
  /** Nothing has come for too long. */
  | { readonly kind: "quiet" }
  /** The device, the page or its network is back. */
  | { readonly kind: "wake" }
  /** `worked`: this connection lasted long enough for the next one to begin its counting anew. */
  | { readonly kind: "lost"; readonly slow: boolean; readonly worked: boolean }
  /** The wait is over. */
  | { readonly kind: "elapsed" }
  | { readonly kind: "tokenChanged" }
  /** What the greeting said is not where the client goes on from. */
  | { readonly kind: "moved" }
  | { readonly kind: "close" };

export type TimerKind = "attempt" | "silence" | "answer" | "backoff";

export type Effect =
  | { readonly kind: "stopTimer" }
  | { readonly kind: "closeSocket" }
  /** What was welcomed is over. */
  | { readonly kind: "goDown" }
  | { readonly kind: "tell" }
  | { readonly kind: "startTimer"; readonly timer: TimerKind }
  | { readonly kind: "askToken" }
  | { readonly kind: "openSocket" }
  | { readonly kind: "greet" }
  | { readonly kind: "ping" };

export interface Step {
  readonly state: ConnectionState;
  /** In this order. */
  readonly effects: readonly Effect[];
}

export function next(before: ConnectionState, event: ConnectionEvent): Step {
  const move = moves[before.kind][event.kind] as Move<ConnectionState["kind"], ConnectionEvent["kind"]>;
  const state = move(before, event);
  return { state, effects: state === before ? [] : effectsBetween(before, state) };
}

export function isOpen({ kind }: ConnectionState): boolean {
  return kind === "open" || kind === "doubted";
}

// ── The moves ────────────────────────────────────────────────────────────────────────────────────────────────────────

type StateOf<Kind extends ConnectionState["kind"]> = Extract<ConnectionState, { kind: Kind }>;
type EventOf<Kind extends ConnectionEvent["kind"]> = Extract<ConnectionEvent, { kind: Kind }>;
type Move<S extends ConnectionState["kind"], E extends ConnectionEvent["kind"]> = (
  state: StateOf<S>,
  event: EventOf<E>,
) => ConnectionState;

const stay = (state: ConnectionState): ConnectionState => state;
const close = (): ConnectionState => ({ kind: "closed" });
const begin = (): ConnectionState => ({ kind: "asking", attempt: 0 });

/** One attempt after another has its number; the wait before the next one grows with it. */
const lose = ({ attempt }: Attempting<string>, { slow, worked }: EventOf<"lost">): ConnectionState => ({
  kind: "waiting",
  attempt: worked ? 1 : attempt + 1,
  slow,
});

function to(kind: "asking" | "opening" | "greeting" | "open" | "doubted") {
  return ({ attempt }: Attempting<string>): ConnectionState => ({ kind, attempt });
}

const unlessSlow = (state: StateOf<"waiting">): ConnectionState => (state.slow ? state : to("asking")(state));

/** Total: a pair that is missing does not compile. */
const moves: { readonly [S in ConnectionState["kind"]]: { readonly [E in ConnectionEvent["kind"]]: Move<S, E> } } = {
  idle: {
    start: begin,
    asked: stay,
    opened: stay,
    welcomed: stay,
    heard: stay,
    quiet: stay,
    wake: stay,
    lost: stay,
    elapsed: stay,
    tokenChanged: stay,
    moved: stay,
    close,
  },
  asking: {
    start: stay,
    asked: to("opening"),
    opened: stay,
    welcomed: stay,
    heard: stay,
    quiet: stay,
    wake: stay,
    lost: lose,
    elapsed: stay,
    tokenChanged: begin,
    moved: stay,
    close,
  },
  opening: {
    start: stay,
    asked: stay,
    opened: to("greeting"),
    welcomed: stay,
    heard: stay,
    quiet: stay,
    wake: stay,
    lost: lose,
    elapsed: stay,
    tokenChanged: begin,
    moved: stay,
    close,
  },
  greeting: {
    start: stay,
    asked: stay,
    opened: stay,
    welcomed: to("open"),
    heard: stay,
    quiet: stay,
    wake: stay,
    lost: lose,
    elapsed: stay,
    tokenChanged: begin,
    moved: to("asking"),
    close,
  },
  // The token of an open connection is exchanged on it: renewal.ts.
  open: {
    start: stay,
    asked: stay,
    opened: stay,
    welcomed: stay,
    heard: stay,
    quiet: to("doubted"),
    wake: to("doubted"),
    lost: lose,
    elapsed: stay,
    tokenChanged: stay,
    moved: to("asking"),
    close,
  },
  doubted: {
    start: stay,
    asked: stay,
    opened: stay,
    welcomed: stay,
    heard: to("open"),
    quiet: stay,
    wake: stay,
    lost: lose,
    elapsed: stay,
    tokenChanged: stay,
    moved: to("asking"),
    close,
  },
  waiting: {
    start: stay,
    asked: stay,
    opened: stay,
    welcomed: stay,
    heard: stay,
    quiet: stay,
    // A server that said no says it again, however awake we are.
    wake: unlessSlow,
    lost: stay,
    elapsed: to("asking"),
    tokenChanged: begin,
    moved: unlessSlow,
    close,
  },
  closed: {
    start: stay,
    asked: stay,
    opened: stay,
    welcomed: stay,
    heard: stay,
    quiet: stay,
    wake: stay,
    lost: stay,
    elapsed: stay,
    tokenChanged: stay,
    moved: stay,
    close: stay,
  },
};

// ── What they bring about ────────────────────────────────────────────────────────────────────────────────────────────

const withSocket = new Set<ConnectionState["kind"]>(["opening", "greeting", "open", "doubted"]);
const keepingSocket = new Set<ConnectionState["kind"]>(["greeting", "open", "doubted"]);

const entering: { readonly [S in ConnectionState["kind"]]: readonly Effect[] } = {
  idle: [],
  asking: [{ kind: "startTimer", timer: "attempt" }, { kind: "askToken" }],
  opening: [{ kind: "startTimer", timer: "attempt" }, { kind: "openSocket" }],
  greeting: [{ kind: "startTimer", timer: "attempt" }, { kind: "greet" }],
  open: [{ kind: "startTimer", timer: "silence" }],
  doubted: [{ kind: "startTimer", timer: "answer" }, { kind: "ping" }],
  waiting: [{ kind: "startTimer", timer: "backoff" }],
  closed: [],
};

/** What is over ends before anybody is told, and whoever is told may take a step of his own before the next thing begins. */
function effectsBetween(before: ConnectionState, after: ConnectionState): Effect[] {
  const effects: Effect[] = [{ kind: "stopTimer" }];
  if (withSocket.has(before.kind) && !keepingSocket.has(after.kind)) effects.push({ kind: "closeSocket" });
  if (isOpen(before) && !isOpen(after)) effects.push({ kind: "goDown" });
  return [...effects, { kind: "tell" }, ...entering[after.kind]];
}
