/** What the log promises about what it keeps, what it lets go of, and what Postgres may forget. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { type PgSnapshot, sees } from "../../engine/changes/pg-snapshot.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { MemoryLog, type Pin } from "../../engine/log/log.ts";
import { type Lsn, zeroLsn } from "../../engine/protocol.ts";

function transaction(xid: number, commitEnd: number, bytes = 100): Transaction {
  return {
    xid: BigInt(xid),
    commitEnd: BigInt(commitEnd) as Lsn,
    commitTime: 0n,
    bytes: Buffer.alloc(bytes),
    starts: [0, bytes],
    relations: [],
    schemaChanges: [],
  };
}

/** Sees everything below `xmax` but `xip`. */
function snapshot(xmax: number, ...xip: number[]): PgSnapshot {
  return { xmin: BigInt(Math.min(xmax, ...xip)), xmax: BigInt(xmax), xip: new Set(xip.map(BigInt)) };
}

const xids = (pin: Pin, after = zeroLsn): number[] => [...pin.read(after)].map(({ xid }) => Number(xid));

test("what is appended again is recognised, and only what is new is given back", () => {
  const log = new MemoryLog(1 << 20);
  assert.deepEqual(
    log.append([transaction(1, 10), transaction(2, 20)]).map(({ xid }) => xid),
    [1n, 2n],
  );
  assert.deepEqual(
    log.append([transaction(1, 10), transaction(2, 20), transaction(3, 30)]).map(({ xid }) => xid),
    [3n],
  );
  assert.deepEqual(log.append([transaction(3, 30)]), []);
  assert.equal(log.end, 30n);
});

test("positions that do not increase within one read are a bug that stops the process", () => {
  const log = new MemoryLog(1 << 20);
  assert.throws(() => log.append([transaction(1, 20), transaction(2, 10)]), { code: "ERR_ASSERTION" });
});

test("a commit that was streamed before it was visible is there for the snapshot that does not see it", () => {
  const log = new MemoryLog(1);
  log.append([transaction(5, 10), transaction(6, 20)]);
  log.learn(snapshot(7, 5));
  const pin = log.pin();
  assert.deepEqual(xids(pin), [5, 6]);
  assert.deepEqual(xids(pin, 10n as Lsn), [6]);
  assert.equal(log.acknowledgeable, 0n);
});

test("what a pin holds is held until it is released, and new ones begin where nothing is seen yet", () => {
  const log = new MemoryLog(1_000);
  log.append([transaction(1, 10)]);
  const pin = log.pin();
  log.learn(snapshot(2));
  log.append([transaction(2, 20)]);
  log.learn(snapshot(3));
  assert.deepEqual(xids(pin), [1, 2]);
  assert.deepEqual(xids(log.pin()), []);
  pin.release();
  assert.throws(() => xids(pin), { code: "snapshot_failed" });
});

test("a pin that holds the log at twice its bound is the one to start again", () => {
  const log = new MemoryLog(10_000);
  log.append([transaction(1, 10, 1_000)]);
  const slow = log.pin();
  for (let i = 2; i <= 60; i++) {
    log.append([transaction(i, i * 10, 1_000)]);
    log.learn(snapshot(i + 1));
  }
  assert.throws(() => xids(slow), { code: "snapshot_failed", hint: /tailBytes/ });
  assert.ok(log.bytes <= 10_000);
  assert.deepEqual(xids(log.pin()), []);
});

test("a transaction that is waited for is told to all who wait, before and after it came", async () => {
  const log = new MemoryLog(1 << 20);
  const early = [log.committed(7n), log.committed(7n)];
  log.append([transaction(7, 70)]);
  assert.deepEqual(await Promise.all([...early, log.committed(7n)]), [70n, 70n, 70n]);
  assert.equal(log.positionOf(7n), 70n);
  assert.equal(log.positionOf(8n), undefined);
});

test("when another history begins, those who wait for or read the one before are told", async () => {
  const log = new MemoryLog(1 << 20);
  log.append([transaction(1, 100)]);
  const pin = log.pin();
  const waiting = log.committed(9n);
  log.startAt(50n as Lsn);
  await assert.rejects(waiting, { code: "snapshot_failed" });
  assert.throws(() => xids(pin), { code: "snapshot_failed" });
  assert.deepEqual([log.end, log.bytes, log.positionOf(1n), log.acknowledgeable], [50n, 0, undefined, 50n]);
  assert.deepEqual(log.append([transaction(1, 60)]).length, 1);
});

test("on a quiet stream all that came by is acknowledged, but never past what is unseen", () => {
  const log = new MemoryLog(1 << 20);
  log.quiet(500n as Lsn);
  assert.equal(log.acknowledgeable, 500n);
  log.append([transaction(1, 600), transaction(2, 700)]);
  log.quiet(900n as Lsn);
  assert.equal(log.acknowledgeable, 500n);
  log.learn(snapshot(2));
  assert.equal(log.acknowledgeable, 600n);
  log.learn(snapshot(3));
  assert.equal(log.acknowledgeable, 900n);
  log.quiet(800n as Lsn);
  assert.equal(log.acknowledgeable, 900n);
});

test("what the log let go of can be collected at once, although its array is shortened only now and then", async () => {
  const log = new MemoryLog(100_000);
  const first = new WeakRef(append(log, 1).bytes.buffer);
  for (let xid = 2; xid <= 20; xid++) append(log, xid);
  assert.ok(log.bytes <= 100_000);
  await new Promise((resolve) => setImmediate(resolve)); // A WeakRef holds on until the end of its turn.
  collectGarbage();
  assert.equal(first.deref(), undefined);
  assert.equal(log.end, 200n);
});

function append(log: MemoryLog, xid: number): Transaction {
  const appended = transaction(xid, xid * 10, 50_000);
  log.append([appended]);
  log.learn(snapshot(xid + 1));
  return appended;
}

/** https://nodejs.org/api/v8.html#v8setflagsfromstringflags */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

// ── Properties ───────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * A small Postgres: transactions begin, their commits are streamed in some order, become visible later, snapshots are
 * taken. Against it, whatever happens: a new snapshot finds in the log every commit that it does not see.
 */
const steps = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("stream" as const),
        bytes: fc.integer({ min: 0, max: 400 }),
        pick: fc.nat(),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("show" as const), pick: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("learn" as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("again" as const), pick: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("quiet" as const) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("pin" as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("release" as const), pick: fc.nat() }) },
  ),
  { maxLength: 80 },
);

test("no snapshot ever misses a commit that it does not see, and no acknowledgement passes one", () => {
  fc.assert(
    fc.property(steps, (run) => {
      const log = new MemoryLog(2_000);
      const open = Array.from({ length: 8 }, (_, i) => i + 1);
      let nextXid = open.length + 1;
      let position = 0;
      let acknowledged = zeroLsn;
      const streamed: Transaction[] = [];
      const invisible = new Set<number>();
      const pins: { pin: Pin; token: PgSnapshot }[] = [];
      const now = (): PgSnapshot => snapshot(nextXid, ...open, ...invisible);
      for (const step of run) {
        if (step.kind === "stream") {
          const [xid] = open.splice(step.pick % open.length, 1) as [number];
          open.push(nextXid++);
          streamed.push(transaction(xid, (position += 10), step.bytes));
          invisible.add(xid);
          log.append([streamed.at(-1)!]);
        } else if (step.kind === "show") invisible.delete([...invisible][step.pick % Math.max(invisible.size, 1)] ?? 0);
        else if (step.kind === "learn") log.learn(now());
        else if (step.kind === "again")
          assert.deepEqual(log.append(streamed.slice(step.pick % (streamed.length + 1))), []);
        else if (step.kind === "quiet") log.quiet(BigInt((position += 10)) as Lsn);
        else if (step.kind === "pin") pins.push({ pin: log.pin(), token: now() });
        else pins.splice(step.pick % (pins.length + 1), 1).forEach(({ pin }) => pin.release());

        assert.ok(log.acknowledgeable >= acknowledged, "an acknowledgement never goes back");
        acknowledged = log.acknowledgeable;
        const unseen = streamed.filter(({ xid }) => !sees(now(), xid));
        assert.ok(
          unseen.every(({ commitEnd }) => commitEnd > acknowledged),
          "nothing that a later snapshot may not see is acknowledged",
        );
        for (const { pin, token } of pins) {
          const wanted = streamed.filter(({ xid }) => !sees(token, xid)).map(({ xid }) => xid);
          const found = tryRead(pin);
          if (found)
            assert.deepEqual(
              wanted.filter((xid) => !found.includes(xid)),
              [],
              "a pinned snapshot finds what it does not see",
            );
          else assert.ok(log.bytes <= 4_000 + unseenBytes(streamed, now()), "a pin is lost only to the bound");
        }
        const fresh = log.pin();
        const found = tryRead(fresh)!;
        assert.deepEqual(
          unseen.map(({ xid }) => xid).filter((xid) => !found.includes(xid)),
          [],
        );
        fresh.release();
      }
    }),
    { numRuns: 500 },
  );
});

function tryRead(pin: Pin): bigint[] | undefined {
  try {
    return [...pin.read(zeroLsn)].map(({ xid }) => xid);
  } catch (error) {
    assert.equal((error as { code: string }).code, "snapshot_failed");
    return undefined;
  }
}

function unseenBytes(streamed: readonly Transaction[], now: PgSnapshot): number {
  const first = streamed.findIndex(({ xid }) => !sees(now, xid));
  return first < 0 ? 0 : streamed.slice(first).reduce((sum, { bytes }) => sum + bytes.length + 300, 0);
}

test("with everything seen and nothing pinned the log stays within its bound", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 5_000 }), { maxLength: 60 }), (sizes) => {
      const log = new MemoryLog(20_000);
      sizes.forEach((bytes, i) => {
        log.append([transaction(i + 1, (i + 1) * 10, bytes)]);
        log.learn(snapshot(i + 2));
        assert.ok(log.bytes <= 20_000);
      });
    }),
  );
});
