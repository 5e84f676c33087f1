/** What a commit that is streamed before it is visible asks of the log. */
import assert from "node:assert/strict";
import { open, readdir, unlink } from "node:fs/promises";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { type PgSnapshot, sees as seesXid } from "../../engine/changes/pg-snapshot.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import type { DurableLog } from "../../engine/log/durable.ts";
import type { Pin } from "../../engine/log/log.ts";
import { Tail } from "../../engine/log/tail.ts";
import { Unseen } from "../../engine/log/unseen.ts";
import { type Lsn, type WalcastError, zeroLsn } from "../../engine/protocol.ts";
import { flushed, lsn, openLog, readAll, sees, transaction } from "./support.ts";

/**
 * A small Postgres: transactions begin, their commits are streamed in some order, become visible later, snapshots are
 * taken. Against it, whatever happens: a new snapshot finds in the log every commit that it does not see.
 */
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("stream" as const), bytes: fc.nat(1_500), pick: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("show" as const), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("learn" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("again" as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("quiet" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("pin" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("release" as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
);

test("no snapshot ever misses a commit that it does not see, also after restarts", async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), (steps) => run(t, steps)),
    { numRuns: 100 },
  );
});

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

const bytesMax = 12_000;

async function run(t: TestContext, steps: readonly Step[]): Promise<void> {
  const opened = await openLog(t, { segmentBytes: 3_000, tailBytes: 3_000, bytesMax });
  let { log } = opened;
  const open = Array.from({ length: 8 }, (_, i) => i + 1);
  let nextXid = open.length + 1;
  let position = 0;
  const streamed: Transaction[] = [];
  const invisible = new Set<number>();
  let grew = false;
  let pins: { pin: Pin; token: PgSnapshot }[] = [];
  const now = (): PgSnapshot => sees(nextXid, ...open, ...invisible);
  for (const step of steps) {
    if (step.kind === "stream") {
      const [xid] = open.splice(step.pick % open.length, 1) as [number];
      open.push(nextXid++);
      streamed.push(transaction(xid, (position += 10), { bytes: step.bytes }));
      invisible.add(xid);
      log.append([streamed.at(-1)!]);
    } else if (step.kind === "show") invisible.delete([...invisible][step.pick % Math.max(invisible.size, 1)] ?? 0);
    else if (step.kind === "again") assert.deepEqual(log.append(streamed.slice(step.pick % (streamed.length + 1))), []);
    else if (step.kind === "quiet") log.quiet(lsn((position += 10)));
    else if (step.kind === "pin") pins.push({ pin: log.pin(), token: now() });
    else if (step.kind === "release") pins.splice(step.pick % (pins.length + 1), 1).forEach(({ pin }) => pin.release());
    else if (step.kind === "learn") {
      log.learn(now());
      grew ||= log.bytes > 2 * bytesMax;
      log.checkpoint();
      await flushed(log);
    } else {
      pins = [];
      log = await opened.reopen();
    }
    for (const { pin, token } of pins) await findsAll(log, pin.from, token, streamed, grew);
  }
  await findsAll(log, log.pin().from, now(), streamed, false);
  await log.close();
}

/** Unless it may be lost: a pin that holds more than twice the log's bound. */
async function findsAll(
  log: DurableLog,
  from: Lsn,
  token: PgSnapshot,
  streamed: readonly Transaction[],
  lost: boolean,
): Promise<void> {
  const wanted = streamed.filter(({ xid }) => !seesXid(token, xid)).map(({ xid }) => xid);
  try {
    const found = new Set((await readAll(log, from)).map(({ xid }) => xid));
    assert.deepEqual(
      wanted.filter((xid) => !found.has(xid)),
      [],
    );
  } catch (error) {
    if ((error as WalcastError).code !== "position_too_old") throw error;
    assert.ok(lost, "a pin is lost only to twice the bound");
  }
}

test("a commit that waits for a standby is found by snapshots over restarts, until one sees it", async (t) => {
  const { log: first, reopen } = await openLog(t, {
    segmentBytes: 3_000,
    tailBytes: 1,
    bytesMax: 6_000,
    retentionMs: 0,
  });
  first.append([transaction(1, 10), transaction(2, 20), transaction(3, 30)]);
  first.learn(sees(4, 2));
  first.checkpoint();
  await flushed(first);
  for (let restarts = 1; restarts <= 3; restarts++) {
    const log = await reopen();
    assert.deepEqual([log.pin().from, log.recorded], [lsn(10), log.end]);
    assert.deepEqual((await readAll(log, log.pin().from)).map(({ xid }) => xid).slice(0, 2), [2n, 3n]);
    for (let i = 1; i <= 20; i++) log.append([transaction(restarts * 100 + i, restarts * 1_000 + i * 10)]);
    log.learn(sees(1_000, 2));
    log.checkpoint();
    await flushed(log);
  }
  const log = await reopen();
  log.learn(sees(1_000));
  assert.deepEqual(log.pin().from, log.end);
  log.checkpoint();
  await flushed(log);
  assert.ok((await reopen()).start > 20n, "and then it may go");
});

for (const [how, spoil] of [
  ["gone", unlink],
  ["damaged", (file: string) => overwrite(file, 300, "damage")],
] as const)
  test(`while a commit may be invisible whose segment is ${how}, nobody who loads is told that nothing is missing`, async (t) => {
    const { directory, log, reopen } = await openLog(t, { segmentBytes: 1_000, tailBytes: 1 });
    log.append([transaction(1, 10)]);
    log.learn(sees(2));
    log.checkpoint();
    await flushed(log);
    for (let xid = 2; xid <= 20; xid++) log.append([transaction(xid, xid * 10)]);
    log.learn(sees(21, 6));
    log.checkpoint();
    await flushed(log);
    await log.close();
    const files = (await readdir(directory)).filter((name) => name.endsWith(".segment")).sort();
    await spoil(
      path.join(
        directory,
        files.findLast((name) => BigInt(`0x${name.slice(0, 16)}`) < 60n)!,
      ),
    );
    let again = await reopen();
    for (const restart of [true, false]) {
      assert.ok(again.start >= 60n, "the commit with xid 6 is lost");
      again.append([transaction(30, 300)]);
      for (const snapshot of [sees(25, 6), sees(31, 6, 25), sees(31, 24)]) {
        again.learn(snapshot);
        again.checkpoint();
        await assert.rejects(readAll(again, again.pin().from), { code: "position_too_old" });
      }
      if (restart) again = await reopen();
    }
    again.learn(sees(31, 30));
    assert.deepEqual((await readAll(again, again.pin().from)).at(-1)?.xid, 30n);
    again.learn(sees(31));
    assert.equal(again.pin().from, 300n);
  });

async function overwrite(file: string, at: number, text: string): Promise<void> {
  const handle = await open(file, "r+");
  await handle.write(text, at);
  await handle.close();
}

test("a million unseen transactions cost sixteen bytes each, and are seen in order", () => {
  const unseen = new Unseen(zeroLsn);
  for (let i = 1; i <= 1_000_000; i++) unseen.push(BigInt(i), lsn(i * 10));
  unseen.learn(sees(1_000_001, 400_000));
  assert.deepEqual([unseen.end, unseen.isEmpty], [lsn(3_999_990), false]);
  for (let i = 1_000_001; i <= 1_300_000; i++) unseen.push(BigInt(i), lsn(i * 10));
  unseen.learn(sees(1_300_001));
  assert.deepEqual([unseen.end, unseen.isEmpty], [lsn(13_000_000), true]);
});

// ── The tail ─────────────────────────────────────────────────────────────────────────────────────────────────────────

test("the tail finds its transactions by position and by xid, as far back as it goes", () => {
  const tail = new Tail(10_000, zeroLsn);
  const all = Array.from({ length: 2_000 }, (_, i) => transaction(10_000 - i, (i + 1) * 10, { bytes: i % 300 }));
  for (const one of all) {
    tail.push(one);
    tail.trim(one.commitEnd);
    assert.ok(tail.bytes <= 10_000);
  }
  const from = all.findIndex(({ commitEnd }) => commitEnd > tail.start);
  for (let i = from - 1; i < all.length; i++)
    assert.deepEqual(tail.after(lsn((i + 1) * 10)), i + 1 < from ? undefined : all.slice(i + 1));
  assert.equal(tail.after(lsn(Number(tail.start) - 1)), undefined);
  assert.deepEqual([tail.positionOf(8_001n), tail.positionOf(10_000n)], [lsn(20_000), undefined]);
});

test("what the tail let go of can be collected at once, although its list is shortened only now and then", async () => {
  const tail = new Tail(100_000, zeroLsn);
  const push = (xid: number): Transaction => {
    const one = transaction(xid, xid * 10, { bytes: 50_000 });
    tail.push(one);
    tail.trim(one.commitEnd);
    return one;
  };
  const first = new WeakRef(push(1).bytes.buffer);
  for (let xid = 2; xid <= 20; xid++) push(xid);
  await new Promise((resolve) => setImmediate(resolve)); // A WeakRef holds on until the end of its turn.
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  assert.equal(first.deref(), undefined);
});
