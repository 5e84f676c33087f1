import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { delayMs, longestMs } from "../../client-sdk/backoff.ts";
import { type ConnectionEvent, type ConnectionState, next } from "../../client-sdk/connection-state.ts";
import { syncUrl } from "../../client-sdk/edge.ts";
import { onWake } from "../../client-sdk/wake.ts";

const states: readonly ConnectionState[] = [
  { kind: "idle" },
  { kind: "asking", attempt: 3 },
  { kind: "opening", attempt: 3 },
  { kind: "greeting", attempt: 3 },
  { kind: "open", attempt: 3 },
  { kind: "doubted", attempt: 3 },
  { kind: "waiting", attempt: 3, slow: false },
  { kind: "closed" },
];
const lost: ConnectionEvent = { kind: "lost", slow: true, worked: false };
const plain = [
  "start",
  "asked",
  "opened",
  "welcomed",
  "heard",
  "quiet",
  "wake",
  "elapsed",
  "tokenChanged",
  "moved",
  "close",
] as const;
const events: readonly ConnectionEvent[] = [lost, ...plain.map((kind) => ({ kind }))];

test("the page's diagram is what the code does, every state and event of it", () => {
  const page = readFileSync(new URL("../../docs/client.md", import.meta.url), "utf8");
  const arrows = [...page.matchAll(/^ +(\w+) --> (\w+): (.*)$/gm)];
  const said = arrows.flatMap(([, from, to, on]) => on!.split(", ").map((event) => `${from} ${event} ${to}`));
  const done = states.flatMap((state) =>
    events.flatMap((event) => {
      const { state: after } = next(state, event);
      return after === state ? [] : [`${state.kind} ${event.kind} ${after.kind}`];
    }),
  );
  assert.deepEqual(said.sort(), done.sort());
});

test("attempts are counted until a connection has worked, and anew for another token", () => {
  const after = (from: ConnectionState, event: ConnectionEvent): ConnectionState => next(from, event).state;
  const open: ConnectionState = { kind: "open", attempt: 3 };
  assert.deepEqual(after(open, lost), { kind: "waiting", attempt: 4, slow: true });
  assert.deepEqual(after(open, { ...lost, worked: true }), { kind: "waiting", attempt: 1, slow: true });
  const waiting: ConnectionState = { kind: "waiting", attempt: 3, slow: false };
  assert.deepEqual(after(waiting, { kind: "elapsed" }), { kind: "asking", attempt: 3 });
  assert.deepEqual(after(waiting, { kind: "wake" }), { kind: "asking", attempt: 3 });
  assert.deepEqual(after(waiting, { kind: "tokenChanged" }), { kind: "asking", attempt: 0 });
});

test("a server that said no is not asked again because the page woke up", () => {
  const refused: ConnectionState = { kind: "waiting", attempt: 3, slow: true };
  assert.deepEqual(next(refused, { kind: "wake" }), { state: refused, effects: [] });
});

test("what is over ends before anybody is told, and what is next begins afterwards", () => {
  const kinds = (from: ConnectionState, event: ConnectionEvent): string[] =>
    next(from, event).effects.map(({ kind }) => kind);
  assert.deepEqual(kinds({ kind: "open", attempt: 0 }, lost), [
    "stopTimer",
    "closeSocket",
    "goDown",
    "tell",
    "startTimer",
  ]);
  assert.deepEqual(kinds({ kind: "greeting", attempt: 0 }, { kind: "tokenChanged" }), [
    "stopTimer",
    "closeSocket",
    "tell",
    "startTimer",
    "askToken",
  ]);
});

test("the delay is random up to a bound that doubles, and after a refusal at least half the longest", () => {
  const backoff = { baseMs: 100, maxMs: 10_000 };
  assert.equal(delayMs({ attempt: 1, slow: false }, backoff, 0), 0);
  assert.equal(delayMs({ attempt: 1, slow: false }, backoff, 0.5), 100);
  assert.equal(delayMs({ attempt: 3, slow: false }, backoff, 0.5), 400);
  assert.equal(delayMs({ attempt: 5000, slow: false }, backoff, 1), 10_000);
  assert.equal(delayMs({ attempt: 1, slow: true }, backoff, 0), 5_000);
  assert.equal(delayMs({ attempt: 1, slow: true }, backoff, 1), 10_000);
  assert.equal(longestMs(0, backoff), 100);
});

test("a page wakes its client when it is shown, thawed or online again, and not when it is hidden", () => {
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const scope = Object.assign(new EventTarget(), { document: document as unknown as Document });
  let wakes = 0;
  const end = onWake(() => wakes++, scope);
  for (const event of ["online", "pageshow", "offline"]) scope.dispatchEvent(new Event(event));
  for (const event of ["visibilitychange", "resume"]) document.dispatchEvent(new Event(event));
  document.visibilityState = "hidden";
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(wakes, 4);
  end();
  scope.dispatchEvent(new Event("online"));
  assert.equal(wakes, 4);
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
