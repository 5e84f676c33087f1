/** The log against a list: whatever is appended, read, sealed, let go of and opened again, in whatever order. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import type { Transaction } from "../../engine/changes/transaction.ts";
import type { DurableLog } from "../../engine/log/durable.ts";
import { type Lsn, type WalcastError, zeroLsn } from "../../engine/protocol.ts";
import { flushed, openLog, transaction } from "./support.ts";

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("append" as const), sizes: fc.array(fc.nat(3_000), { maxLength: 12 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("append" as const), sizes: fc.constant([90_000]) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("again" as const), pick: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("flush" as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("seen" as const), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("quiet" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("read" as const), pick: fc.nat(), table: fc.nat(3) }) },
);

test("whoever reads finds every transaction once and in order, or is told that it is too late", async (t) => {
  let reads = 0;
  let tooLate = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      const readers = await run(t, steps);
      reads += readers.length;
      tooLate += readers.filter(({ end }) => end === "too late").length;
    }),
    { numRuns: 60 },
  );
  assert.ok(tooLate > 0 && tooLate < reads, "both were tried");
});

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

interface Read {
  readonly end: Lsn | "too late";
}

async function run(t: TestContext, steps: readonly Step[]): Promise<Read[]> {
  const opened = await openLog(t, { bytesMax: 60_000 });
  const { reopen } = opened;
  let { log } = opened;
  const model: Transaction[] = [];
  let position = 0;
  let readers: Promise<Read>[] = [];
  const done: Read[] = [];
  const settle = async (): Promise<void> => {
    done.push(...(await Promise.all(readers)));
    readers = [];
  };
  for (const step of steps) {
    if (step.kind === "append") {
      const fresh = step.sizes.map((bytes) => {
        position += 10;
        return transaction(position / 10, position, {
          bytes,
          tables: [Math.floor(position / 300) % 4],
          messages: 1 + (bytes % 4),
        });
      });
      assert.deepEqual(log.append(fresh), fresh);
      model.push(...fresh);
    } else if (step.kind === "again") assert.deepEqual(log.append(model.slice(step.pick % (model.length + 1))), []);
    else if (step.kind === "flush") await flushed(log);
    else if (step.kind === "quiet") log.quiet(BigInt((position += 10)) as Lsn);
    else if (step.kind === "seen") {
      log.learn({ xmin: BigInt(position / 10 - (step.pick % 5)), xmax: BigInt(position / 10 + 1), xip: new Set() });
      log.checkpoint();
    } else if (step.kind === "read") {
      const after = model[step.pick % (model.length + 1)]?.commitEnd ?? zeroLsn;
      readers.push(readBeside(log, after, model, step.table === 0 ? undefined : new Set([step.table])));
    } else {
      await settle();
      log = await reopen();
      assert.equal(log.end, model.at(-1)?.commitEnd ?? zeroLsn);
      assert.ok(log.recorded >= log.end);
    }
  }
  await settle();
  assert.deepEqual((await readBeside(log, log.start, model)).end, log.end);
  await log.close();
  return done;
}

/** Checks each batch against the model as it is by then. */
async function readBeside(
  log: DurableLog,
  after: Lsn,
  model: readonly Transaction[],
  tables?: ReadonlySet<number>,
): Promise<Read> {
  let from = after;
  try {
    for await (const { transactions, end } of log.read(after, tables)) {
      const expected = model.filter(({ commitEnd }) => commitEnd > from && commitEnd <= end);
      const wanted = new Set(expected.filter(({ relations }) => !tables || tables.has(relations[0]!.oid)));
      const found = new Set(transactions.map(({ commitEnd }) => commitEnd));
      assert.deepEqual(
        transactions,
        expected.filter((one) => wanted.has(one) || found.has(one.commitEnd)),
      );
      from = end;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { end: from };
  } catch (error) {
    if ((error as WalcastError).code !== "position_too_old") throw error;
    return { end: "too late" };
  }
}
