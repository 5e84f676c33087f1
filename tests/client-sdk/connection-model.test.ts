/**
 * A connection in a world that does anything, in any order: sleep, networks that die silently, servers that are gone for hours,
 * refuse for ever or hang up at once, token functions that throw, hang or give what has expired. What must always hold is
 * looked at after everything that happens.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import { longestMs } from "../../client-sdk/backoff.ts";
import type { ConnectionState } from "../../client-sdk/connection-state.ts";
import { Connection } from "../../client-sdk/connection.ts";
import { closeCodes } from "../../engine/protocol.ts";
import { type Server, tokenLastsMs, World } from "./connection-world.ts";

const backoff = { baseMs: 200, maxMs: 15_000 };
const openTimeoutMs = 10_000;

type TokenFunction = "fresh" | "expired" | "throws" | "hangs";

type Event =
  | { readonly kind: "pass" | "sleep" | "sleep uncounted"; readonly ms: number }
  | { readonly kind: "server"; readonly is: Server }
  | { readonly kind: "token function"; readonly is: TokenFunction }
  | { readonly kind: "set token"; readonly isValid: boolean }
  | { readonly kind: "wake" | "move" | "cut" | "close" };

class Subject {
  readonly world = new World();
  readonly connection: Connection;
  tokenFunction: TokenFunction = "fresh";
  welcomes = 0;
  downs = 0;
  attempts = 0;
  private tokens = 0;
  private before: ConnectionState = { kind: "idle" };
  private waitingSinceMs = 0;
  /** The application or the device has said that now is the time. */
  private isHurried = false;
  private wasClosed = false;

  constructor() {
    const options = { url: "ws://test", token: () => this.token(), backoff, openTimeoutMs };
    const nothing = (): void => {};
    this.connection = new Connection(
      options,
      {
        greeting: () => ({}),
        changed: () => this.changed(),
        welcomed: () => void this.welcomes++,
        authenticating: nothing,
        authenticated: nothing,
        message: nothing,
        frame: nothing,
        down: () => void this.downs++,
        failed: nothing,
      },
      this.world,
    );
  }

  async happens(event: Event): Promise<void> {
    const { world, connection } = this;
    if (event.kind === "pass") await world.pass(event.ms, () => this.check());
    if (event.kind === "sleep") world.sleep(event.ms, true);
    if (event.kind === "sleep uncounted") world.sleep(event.ms, false);
    if (event.kind === "server") world.server = event.is;
    if (event.kind === "token function") this.tokenFunction = event.is;
    if (event.kind === "set token") this.setToken(event.isValid);
    if (event.kind === "wake") this.hurry("wake", () => connection.wake());
    if (event.kind === "move") this.hurry("wake", () => connection.move());
    if (event.kind === "cut") world.cutSilently();
    if (event.kind === "close") await this.close();
    await world.pass(0, () => this.check());
    this.check();
  }

  /** All is well again, and time passes. */
  async mends(): Promise<void> {
    this.tokenFunction = "fresh";
    await this.happens({ kind: "server", is: "good" });
    await this.happens({ kind: "pass", ms: backoff.maxMs + 2 * openTimeoutMs });
  }

  check(): void {
    const { world, connection, wasClosed } = this;
    const { kind } = connection.state;
    const withSocket = ["opening", "greeting", "open", "doubted"].includes(kind);
    assert.equal(world.openSockets.length, withSocket ? 1 : 0, `sockets while ${kind}`);
    const timers = kind === "idle" || kind === "closed" ? [0] : kind === "open" || kind === "doubted" ? [1, 2] : [1];
    assert.ok(timers.includes(world.clientTimers), `${world.clientTimers} timers while ${kind}`);
    const isUp = kind === "open" || kind === "doubted";
    assert.equal(this.welcomes - this.downs, isUp ? 1 : 0, "each welcome has its end");
    if (wasClosed) assert.equal(kind, "closed");
  }

  /** How soon it may try again. */
  private changed(): void {
    const { before, world } = this;
    const { state } = this.connection;
    this.before = state;
    if (state.kind === "waiting") this.waitingSinceMs = world.now();
    if (state.kind === "waiting") this.isHurried = false;
    if (state.kind !== "asking") return;
    this.attempts++;
    if (before.kind !== "waiting" || this.isHurried) return;
    const waitedMs = world.now() - this.waitingSinceMs;
    const leastMs = before.slow ? backoff.maxMs / 2 : world.chance * longestMs(before.attempt, backoff);
    assert.ok(waitedMs >= leastMs - 0.01, `waited ${waitedMs} ms before attempt ${before.attempt}, not ${leastMs}`);
  }

  private setToken(isValid: boolean): void {
    const token = this.next(isValid);
    this.hurry("token", () => this.connection.setToken(token));
    this.connection.setToken(token);
    this.hurry("token", () => this.connection.setToken(() => this.token()));
  }

  /** A refusal is cured by another token, and not by being awake. */
  private hurry(why: "wake" | "token", work: () => void): void {
    const { state } = this.connection;
    const before = this.attempts;
    this.isHurried = why === "token" || (state.kind === "waiting" && !state.slow);
    work();
    assert.ok(this.attempts <= before + 1, `${why} makes one attempt at most`);
    this.isHurried = false;
  }

  private async close(): Promise<void> {
    const closing = this.connection.close();
    this.wasClosed = true;
    await closing;
  }

  private async token(): Promise<string> {
    if (this.tokenFunction === "throws") throw new Error("no token today");
    if (this.tokenFunction === "hangs") return new Promise(() => {});
    return this.tokenFunction === "expired" ? "expired" : this.next(true);
  }

  private next(isValid: boolean): string {
    const token = `token ${++this.tokens}`;
    if (isValid) this.world.issue(token);
    return token;
  }
}

const hourMs = 3_600_000;
const ms = fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 20_000 }));
const refusals = [
  closeCodes.unauthenticated,
  closeCodes.forbidden,
  closeCodes.malformed,
  closeCodes.tooLarge,
  closeCodes.tooMany,
];
const servers: readonly Server[] = [
  "good",
  "gone",
  "swallows",
  "does not greet",
  "greets and hangs up",
  1001,
  1006,
  ...refusals,
];
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 8, arbitrary: ms.map((time) => ({ kind: "pass", ms: time }) as const) },
  { weight: 4, arbitrary: fc.constantFrom(...servers).map((is) => ({ kind: "server", is }) as const) },
  { weight: 2, arbitrary: fc.constantFrom("wake", "move", "cut").map((kind) => ({ kind }) as const) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom("sleep", "sleep uncounted"),
      ms: fc.integer({ min: 0, max: 5 * hourMs }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom<TokenFunction>("fresh", "expired", "throws", "hangs")
      .map((is) => ({ kind: "token function", is }) as const),
  },
  { weight: 1, arbitrary: fc.boolean().map((isValid) => ({ kind: "set token", isValid }) as const) },
);

test("whatever happens, in any order: one socket, one wait at a time, and open again once all is well", async () => {
  const script = fc.array(event, { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(script, fc.double({ min: 0.05, max: 1, noNaN: true }), async (events, chance) => {
      const subject = new Subject();
      subject.world.chance = chance;
      subject.connection.start();
      for (const each of events) await subject.happens(each);
      await subject.mends();
      assert.ok(["open", "doubted"].includes(subject.connection.state.kind), subject.connection.state.kind);
      await subject.happens({ kind: "close" });
      const { attempts } = subject;
      await subject.happens({ kind: "wake" });
      await subject.happens({ kind: "set token", isValid: true });
      await subject.happens({ kind: "pass", ms: hourMs });
      assert.equal(subject.attempts, attempts, "closed is the end");
    }),
    { numRuns: 150 },
  );
});

test("closed at any moment, it leaves no socket and no timer", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 15 }), async (events) => {
      const subject = new Subject();
      subject.connection.start();
      for (const each of events) await subject.happens(each);
      await subject.happens({ kind: "close" });
      await subject.happens({ kind: "pass", ms: 30_000 });
    }),
    { numRuns: 50 },
  );
});

async function started(server: Server = "good", chance = 0.5): Promise<Subject> {
  const subject = new Subject();
  subject.world.chance = chance;
  await subject.happens({ kind: "server", is: server });
  subject.connection.start();
  await subject.happens({ kind: "pass", ms: 100 });
  return subject;
}

for (const code of refusals)
  test(`a server that refuses with ${code} for ever is asked a few times in a minute, whatever wakes the page`, async () => {
    const subject = await started(code, 0);
    for (let second = 0; second < 600; second++) {
      await subject.happens({ kind: "wake" });
      await subject.happens({ kind: "pass", ms: 1000 });
    }
    const { attempts } = subject;
    assert.ok(attempts > 60 && attempts <= 81, `${attempts} attempts in ten minutes`);
  });

test("a server that is gone for hours is tried at the longest delay, and found as soon as the network is back", async () => {
  const subject = await started("gone", 1);
  await subject.happens({ kind: "pass", ms: 3 * hourMs });
  assert.ok(subject.attempts < 740, `${subject.attempts} attempts`);
  await subject.happens({ kind: "server", is: "good" });
  await subject.happens({ kind: "wake" });
  await subject.happens({ kind: "pass", ms: 50 });
  assert.equal(subject.connection.state.kind, "open");
});

test("a server that greets and hangs up is not a server that works", async () => {
  const subject = await started("greets and hangs up", 1);
  await subject.happens({ kind: "pass", ms: hourMs / 6 });
  assert.ok(subject.attempts < 50, `${subject.attempts} attempts in ten minutes`);
});

test("a dead connection is noticed by its silence, and at once when the page wakes", async () => {
  const subject = await started();
  await subject.happens({ kind: "cut" });
  await subject.happens({ kind: "pass", ms: 2600 });
  assert.equal(subject.downs, 1);
  await subject.happens({ kind: "pass", ms: 1000 });
  assert.equal(subject.welcomes, 2);
  await subject.happens({ kind: "cut" });
  await subject.happens({ kind: "sleep uncounted", ms: hourMs });
  await subject.happens({ kind: "wake" });
  await subject.happens({ kind: "pass", ms: 510 });
  assert.equal(subject.downs, 2);
});

test("a connection that is alive says so when it is asked, and outlives sleep and threads that were busy", async () => {
  const subject = await started();
  await subject.happens({ kind: "wake" });
  await subject.happens({ kind: "pass", ms: 600 });
  for (const kind of ["sleep", "sleep uncounted"] as const) {
    await subject.happens({ kind, ms: 20_000 });
    await subject.happens({ kind: "wake" });
    await subject.happens({ kind: "pass", ms: 5000 });
  }
  assert.deepEqual([subject.welcomes, subject.downs], [1, 0]);
});

test("a token is renewed on the open connection, for as long as there are new ones", async () => {
  const subject = await started();
  await subject.happens({ kind: "pass", ms: 20 * tokenLastsMs });
  assert.deepEqual([subject.welcomes, subject.downs], [1, 0]);
});

for (const is of ["expired", "throws", "hangs"] as const)
  test(`where the token function ${is === "expired" ? "gives the same expired token" : is}, the server is left alone`, async () => {
    const subject = await started("good", 0.5);
    subject.world.issue("expired");
    await subject.happens({ kind: "token function", is });
    await subject.happens({ kind: "pass", ms: tokenLastsMs - 500 });
    assert.equal(subject.downs, 0, "not before its token has expired");
    assert.equal(subject.world.authenticates, is === "expired" ? 1 : 0, "told once");
    await subject.happens({ kind: "pass", ms: 10 * 60_000 });
    assert.equal(subject.downs, 1);
    assert.ok(subject.attempts < 90, `${subject.attempts} attempts in ten minutes`);
    await subject.mends();
    assert.equal(subject.connection.state.kind, "open");
  });
