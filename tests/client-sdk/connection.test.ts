import assert from "node:assert/strict";
import { test } from "node:test";

import { syncUrl } from "../../client-sdk/connection.ts";
import { type ConnectionEvent, type ConnectionState, delayMs, next } from "../../client-sdk/connection-state.ts";

const states: Record<string, ConnectionState> = {
  idle: { kind: "idle" },
  opening: { kind: "opening", attempt: 3 },
  greeting: { kind: "greeting", attempt: 3 },
  open: { kind: "open", attempt: 3 },
  waiting: { kind: "waiting", attempt: 3, slow: false },
  closed: { kind: "closed" },
};

const lost: ConnectionEvent = { kind: "lost", slow: true };
const waitingAgain: ConnectionState = { kind: "waiting", attempt: 4, slow: true };

// What is not listed leaves the state as it is.
const transitions: Record<string, readonly (readonly [ConnectionEvent, ConnectionState])[]> = {
  idle: [[{ kind: "start" }, { kind: "opening", attempt: 0 }]],
  opening: [
    [{ kind: "opened" }, { kind: "greeting", attempt: 3 }],
    [lost, waitingAgain],
    [{ kind: "tokenChanged" }, { kind: "opening", attempt: 0 }],
  ],
  greeting: [
    [{ kind: "welcomed" }, { kind: "open", attempt: 3 }],
    [lost, waitingAgain],
    [{ kind: "tokenChanged" }, { kind: "opening", attempt: 0 }],
  ],
  open: [
    [{ kind: "settled" }, { kind: "open", attempt: 0 }],
    [lost, waitingAgain],
  ],
  waiting: [
    [{ kind: "elapsed" }, { kind: "opening", attempt: 3 }],
    [{ kind: "tokenChanged" }, { kind: "opening", attempt: 0 }],
  ],
  closed: [],
};

const events: readonly ConnectionEvent[] = [
  lost,
  ...(["start", "opened", "welcomed", "settled", "elapsed", "tokenChanged", "close"] as const).map((kind) => ({
    kind,
  })),
];

for (const [name, state] of Object.entries(states)) {
  test(`in ${name}, every event leads where the diagram says`, () => {
    for (const event of events) {
      const listed = transitions[name]!.find(([{ kind }]) => kind === event.kind)?.[1];
      assert.deepEqual(next(state, event), event.kind === "close" ? { kind: "closed" } : (listed ?? state), event.kind);
    }
  });
}

test("the delay is random up to a bound that doubles, and after a refusal at least half the longest", () => {
  const backoff = { baseMs: 100, maxMs: 10_000 };
  assert.equal(delayMs({ attempt: 1, slow: false }, backoff, 0), 0);
  assert.equal(delayMs({ attempt: 1, slow: false }, backoff, 0.5), 100);
  assert.equal(delayMs({ attempt: 3, slow: false }, backoff, 0.5), 400);
  assert.equal(delayMs({ attempt: 5000, slow: false }, backoff, 1), 10_000);
  assert.equal(delayMs({ attempt: 1, slow: true }, backoff, 0), 5_000);
  assert.equal(delayMs({ attempt: 1, slow: true }, backoff, 1), 10_000);
});

test("the engine's address may be given in any of its forms", () => {
  const cases = {
    "ws://localhost:4437": "ws://localhost:4437/v1/sync",
    "http://localhost:4437/": "ws://localhost:4437/v1/sync",
    "https://shop.example/live": "wss://shop.example/live/v1/sync",
    "wss://shop.example/v1/sync": "wss://shop.example/v1/sync",
  };
  for (const [given, expected] of Object.entries(cases)) assert.equal(syncUrl(given), expected);
});
