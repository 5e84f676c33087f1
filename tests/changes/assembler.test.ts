/** pgoutput's messages → whole transactions, from bytes that are only lent, sent whole or while they ran. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { formatLsn } from "../../engine/protocol.ts";
import { TransactionAssembler } from "../../engine/changes/assembler.ts";
import { Staging } from "../../engine/changes/staging.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { stagingDirectory } from "../support/staging.ts";
import type { Capture, CapturedMessage } from "./capture-pgoutput.ts";

const capture = JSON.parse(readFileSync(new URL("pgoutput.json", import.meta.url), "utf8")) as Capture;
const messages = capture.scenarios.flatMap((scenario) => scenario.messages);
const tagOf = ({ hex }: CapturedMessage): string => String.fromCharCode(Number.parseInt(hex.slice(0, 2), 16));

function assemblerFor(recentXid: bigint): TransactionAssembler {
  const staging = new Staging(stagingDirectory(), (error) => assert.fail(String(error)));
  return new TransactionAssembler(recentXid, staging, Infinity);
}

/** As they come off a socket: in one buffer that is used again for the next read. */
function assemble(
  captured: readonly CapturedMessage[],
  recentXid = 700n,
  assembler = assemblerFor(recentXid),
): Transaction[] {
  return assembleHex(
    captured.map(({ hex }) => hex),
    assembler,
  );
}

function assembleHex(captured: readonly string[], assembler: TransactionAssembler): Transaction[] {
  const lent = Buffer.alloc(1 << 20);
  const transactions: Transaction[] = [];
  for (const hex of captured) {
    lent.fill(0xee);
    const start = 25;
    const length = lent.write(hex, start, "hex");
    const transaction = assembler.receive(lent, start, start + length);
    // Of these none is so large that it would have to wait for a file.
    assert(!(transaction instanceof Promise));
    if (transaction) transactions.push(transaction);
  }
  lent.fill(0xee);
  return transactions;
}

test("every transaction comes out once, with its commit's end, its time and its xid", () => {
  const commits = messages.filter((message) => tagOf(message) === "C");
  const found = assemble(messages).map(({ commitEnd, xid, commitTime }) => [
    formatLsn(commitEnd),
    Number(xid),
    String(commitTime),
  ]);
  assert.ok(found.length > 5);
  assert.deepEqual(
    found,
    commits.map(({ lsn, xid, commitTime }) => [lsn, xid, commitTime]),
  );
});

test("a transaction keeps the bytes of its rows although the buffer is used again", () => {
  const kept = "IUDT";
  const expected = new Map<number, string[]>();
  for (const message of messages)
    if (kept.includes(tagOf(message))) expected.set(message.xid, [...(expected.get(message.xid) ?? []), message.hex]);
  for (const { xid, bytes, starts } of assemble(messages)) {
    const found = starts.slice(0, -1).map((start, i) => bytes.toString("hex", start, starts[i + 1]));
    assert.deepEqual(found, expected.get(Number(xid)) ?? []);
  }
});

test("a transaction names every description that held for one of its rows", () => {
  for (const { starts, relations, bytes } of assemble(messages)) {
    const oids = new Set(
      starts
        .slice(0, -1)
        .filter((start) => bytes[start] !== 0x54)
        .map((start) => bytes.readUInt32BE(start + 1)),
    );
    for (const oid of oids) assert.ok(relations.some((relation) => relation.oid === oid));
    assert.equal(new Set(relations).size, relations.length);
  }
});

test("32-bit xids are widened from one transaction to the next", () => {
  const begins = messages.filter((message) => tagOf(message) === "B");
  assert.deepEqual(
    assemble(messages, 2n ** 32n + 700n).map(({ xid }) => xid),
    begins.map(({ xid }) => 2n ** 32n + BigInt(xid)),
  );
});

test("between Begin and Commit, and only there, it is in a transaction", () => {
  const assembler = assemblerFor(700n);
  for (const message of messages) {
    const bytes = Buffer.from(message.hex, "hex");
    void assembler.receive(bytes, 0, bytes.length);
    if (tagOf(message) === "B") assert.equal(assembler.inTransaction, true);
    if (tagOf(message) === "C") assert.equal(assembler.inTransaction, false);
  }
});

test("transactions sent while they run come out as those sent whole", () => {
  const whole = assemblerFor(700n);
  const streamed = assemblerFor(700n);
  for (const scenario of capture.scenarios)
    assert.deepEqual(
      assembleHex(scenario.streamed, streamed),
      assemble(scenario.messages, 700n, whole),
      `in "${scenario.name}"`,
    );
});

const begin = messages.find((message) => tagOf(message) === "B")!;
const insert = messages.find((message) => tagOf(message) === "I")!;
const commit = messages.find((message) => tagOf(message) === "C")!;
const streamed = capture.scenarios.find(({ name }) => name === "delete by key")!.streamed;
const [blockStart, , blockRow, blockStop, streamCommit] = streamed.map((hex) => ({ ...begin, hex }));
const breaches: readonly (readonly [string, readonly CapturedMessage[]])[] = [
  ["a block within a transaction", [begin, blockStart!]],
  ["a block within a block", [blockStart!, blockStart!]],
  ["a first block twice", [blockStart!, blockStop!, blockStart!]],
  ["a block's end without its start", [blockStop!]],
  ["a transaction within a block", [blockStart!, begin]],
  ["a commit of what was never sent", [streamCommit!]],
  ["a streamed row of a table that was not described to its transaction", [blockStart!, blockRow!]],
  ["a row outside a transaction", [insert]],
  ["a commit without a begin", [commit]],
  ["a begin within a transaction", [begin, begin]],
  ["a row of a table that was not described", [begin, insert]],
];
for (const [what, sequence] of breaches) {
  test(`${what} is a breach`, () => {
    assert.throws(
      () => assemble(sequence),
      ({ code }: { code: string }) => code === "ERR_ASSERTION" || code === "invariant",
    );
  });
}

test("what is no message is refused", () => {
  const assembler = assemblerFor(700n);
  for (const hex of ["42", "43ff", "5200", "53", "63ff", "41000000"]) {
    const bytes = Buffer.from(hex, "hex");
    assert.throws(() => assembler.receive(bytes, 0, bytes.length), hex);
  }
});
