/** What is written for a shape reads back as it was, however it was cut. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { NULL_VALUE, TEXT_VALUE, Tuple, UNCHANGED_TOAST } from "../../engine/changes/tuple.ts";
import { type Commit, crc32, decodeCommits, type Lsn, type Operation, type Value } from "../../engine/protocol.ts";
import { beginPayloads, finishPayloads, PayloadWriter } from "../../engine/shapes/payload.ts";

function tupleOf(values: readonly Value[]): Tuple {
  const tuple = new Tuple();
  const bytes = Buffer.from(`..${values.map((value) => value ?? "").join("")}..`);
  tuple.reset(bytes, values.length);
  let at = 2;
  values.forEach((value, i) => {
    tuple.kinds[i] = value === null ? NULL_VALUE : value === undefined ? UNCHANGED_TOAST : TEXT_VALUE;
    tuple.starts[i] = at;
    tuple.ends[i] = at += Buffer.byteLength(value ?? "");
  });
  return tuple;
}

function transaction(n: number): Transaction {
  return {
    commitEnd: BigInt(n * 100) as Lsn,
    xid: 2n ** 33n + BigInt(n),
    commitTime: -BigInt(n),
    bytes: Buffer.alloc(0),
    starts: [0],
    relations: [],
    schemaChanges: [],
  };
}

// Rows of four columns, of which the shape has 0, 2 and 3, and the key 3 and 0.
const columns = [0, 2, 3];
const key = [3, 0];
const pick = (row: readonly Value[], positions: readonly number[]): Value[] =>
  positions.map((position) => row[position]);
const text = fc.oneof(fc.string({ unit: "grapheme", maxLength: 50 }), fc.constant("x".repeat(500)));
const whole = fc.array(fc.oneof({ weight: 4, arbitrary: text }, { weight: 1, arbitrary: fc.constant(null) }), {
  minLength: 4,
  maxLength: 4,
});
const updated = whole.chain((row) =>
  fc.boolean().map((unchanged): Value[] => (unchanged ? [row[0], row[1], undefined, row[3]] : row)),
);
const changes = fc.record(
  {
    kind: fc.constantFrom("insert", "update", "rekey", "updateWhole", "delete", "deleteWhole", "truncate"),
    old: whole,
    row: updated,
  },
  { noNullPrototype: true },
);

type Change = typeof changes extends fc.Arbitrary<infer T> ? T : never;

function write(writer: PayloadWriter, to: Transaction, { kind, old, row }: Change): Operation {
  const before = tupleOf(old);
  const after = tupleOf(row);
  switch (kind) {
    case "insert":
      writer.insert(to, before);
      return { kind: "insert", row: pick(old, columns) };
    case "update":
      writer.update(to, after, undefined);
      return { kind: "update", row: pick(row, columns) };
    case "rekey":
      writer.update(to, after, before);
      return { kind: "update", oldKey: pick(old, key), row: pick(row, columns) };
    case "updateWhole":
      writer.updateWhole(to, after, before);
      return { kind: "update", old: pick(old, columns), row: pick(row, columns) };
    case "delete":
      writer.delete(to, before);
      return { kind: "delete", key: pick(old, key) };
    case "deleteWhole":
      writer.deleteWhole(to, before);
      return { kind: "delete", old: pick(old, columns) };
    default:
      writer.truncate(to);
      return { kind: "truncate" };
  }
}

test("operations of any number of transactions read back in order, in payloads cut at any size, each with its CRC", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(changes, { minLength: 1, maxLength: 6 }), { maxLength: 5 }),
      fc.integer({ min: 1, max: 3_000 }),
      (transactions, bytesMax) => {
        const writer = new PayloadWriter(columns, key, bytesMax);
        const written = transactions.map((list, n) => ({
          n,
          operations: list.map((change) => write(writer, transaction(n), change)),
        }));
        const payloads = writer.finish();
        for (const { bytes, crc } of payloads) assert.equal(crc32(bytes), crc);
        const read = joined(payloads.flatMap(({ bytes }) => decodeCommits(bytes)));
        assert.deepEqual(
          read,
          written.map(({ n, operations }) => ({ ...headOf(n), operations })),
        );
        assert.deepEqual(writer.finish(), []);
        assert.equal(writer.isEmpty, true);
      },
    ),
  );
});

function headOf(n: number): Omit<Commit, "operations"> {
  const { commitEnd, commitTime, xid } = transaction(n);
  return { position: commitEnd, commitTime, xid };
}

/** A transaction that was cut goes on under the same position. */
function joined(commits: readonly Commit[]): Commit[] {
  const whole: Commit[] = [];
  for (const commit of commits) {
    const last = whole.at(-1);
    if (last?.position === commit.position)
      whole[whole.length - 1] = { ...last, operations: [...last.operations, ...commit.operations] };
    else whole.push(commit);
  }
  return whole;
}

test("a payload exceeds its size by one operation at most", () => {
  const writer = new PayloadWriter([0], [0], 1_000);
  for (let i = 0; i < 500; i++) writer.insert(transaction(i % 7), tupleOf(["x".repeat(40)]));
  const payloads = writer.finish();
  assert.ok(payloads.length > 20);
  for (const { bytes } of payloads) assert.ok(bytes.length <= 1_000 + 29 + 3 + 45, String(bytes.length));
});

test("writers that take turns, and are used again, write each its own", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ to: fc.nat({ max: 3 }), n: fc.nat({ max: 2 }), change: changes }), { maxLength: 40 }),
      fc.integer({ min: 1, max: 100_000 }),
      (turns, bytesMax) => {
        const lines = Array.from({ length: 4 }, () => ({
          writer: beginPayloads(columns, key, bytesMax),
          written: [] as Operation[],
        }));
        const transactions = [0, 1, 2].map(transaction);
        for (const { to, n, change } of turns) {
          const { writer, written } = lines[to]!;
          written.push(write(writer, transactions[n]!, change));
        }
        const finished = lines.map(({ writer, written }) => ({ payloads: finishPayloads(writer), written }));
        for (const { payloads, written } of finished) {
          for (const { bytes, crc } of payloads) assert.equal(crc32(bytes), crc);
          const commits = payloads.flatMap(({ bytes }) => decodeCommits(bytes));
          assert.deepEqual(
            commits.flatMap(({ operations }) => operations),
            written,
          );
        }
      },
    ),
  );
});
