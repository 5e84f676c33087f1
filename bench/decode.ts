/**
 * How fast pgoutput is taken apart. The stream is made of messages that a real Postgres sent for a table of four
 * columns under REPLICA IDENTITY FULL: per transaction a begin, inserts, updates with the whole old row, a delete, a commit.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PgoutputPlugin } from "pg-logical-replication";
import { decodeMessage } from "../engine/changes/pgoutput.ts";
import { Message, messageTags } from "../engine/changes/pgoutput-message.ts";
import type { Tuple } from "../engine/changes/tuple.ts";
import type { Capture } from "../tests/changes/capture-pgoutput.ts";
import type { Bench, Figure, Progress } from "./bench.ts";
import { figure } from "./bench.ts";
import { inTurn, median, secondsOf } from "./measure.ts";

interface Parameters {
  readonly changes: number;
  readonly rounds: number;
}

export const decode: Bench<Parameters> = {
  name: "decode",
  question: "How many row changes a second does the pgoutput decoder take apart on one core?",
  notMeasured:
    "Receiving the bytes, and making strings of columns: our decoder notes where values are, the peer makes objects of strings and numbers. The floor visits each message and reads its first and its last byte.",
  real: { changes: 400_000, rounds: 7 },
  small: { changes: 2_000, rounds: 1 },
  run,
};

async function run({ changes, rounds }: Parameters, progress: Progress): Promise<Figure[]> {
  const { postgres, messages } = captured();
  checkAgreement(messages);
  const stream = repeated(messages, changes);
  progress(`${stream.changes} changes in ${(stream.bytes.length / 1e6).toFixed(0)} MB, ${rounds} rounds`);
  const seconds = await inTurn(rounds, {
    ours: () => timed(stream, decodeAll),
    plugin: () => timed(stream, decodeByPlugin),
    floor: () => timed(stream, visitAll),
  });
  const perSecond = (name: keyof typeof seconds): number => stream.changes / median(seconds[name]);
  const conditions = {
    postgres,
    changes: stream.changes,
    bytes: stream.bytes.length,
    peer: "pg-logical-replication PgoutputPlugin",
  };
  return [
    figure("changes_per_s", "changes/s", perSecond("ours"), perSecond("floor"), {
      peer: perSecond("plugin"),
      conditions,
    }),
    { figure: "times_pgoutput_plugin", value: perSecond("ours") / perSecond("plugin"), unit: "×", conditions },
  ];
}

// ── The contenders: each gives the number of changes it saw ──────────────────────────────────────────────────────────

function decodeAll({ bytes, starts }: Stream): number {
  const message = new Message();
  let changes = 0;
  for (let index = 0; index + 1 < starts.length; index++) {
    const { tag } = decodeMessage(bytes, starts[index]!, starts[index + 1]!, message);
    if (isChange(tag)) changes++;
  }
  return changes;
}

function decodeByPlugin({ bytes, starts }: Stream): number {
  const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: ["captured"] });
  let changes = 0;
  for (let index = 0; index + 1 < starts.length; index++) {
    const { tag } = plugin.parse(bytes.subarray(starts[index], starts[index + 1]));
    if (tag === "insert" || tag === "update" || tag === "delete") changes++;
  }
  return changes;
}

let read = 0;

function visitAll({ bytes, starts }: Stream): number {
  let changes = 0;
  for (let index = 0; index + 1 < starts.length; index++) {
    if (isChange(bytes[starts[index]!]!)) changes++;
    read += bytes[starts[index + 1]! - 1]!;
  }
  return changes;
}

function timed(stream: Stream, contender: (stream: Stream) => number): number {
  let changes = 0;
  const seconds = secondsOf(() => void (changes = contender(stream)));
  assert.equal(changes, stream.changes);
  return seconds;
}

function isChange(tag: number): boolean {
  return tag === messageTags.insert || tag === messageTags.update || tag === messageTags.delete;
}

// ── The stream ───────────────────────────────────────────────────────────────────────────────────────────────────────

interface Stream {
  readonly bytes: Buffer;
  /** Message i is bytes[starts[i] … starts[i + 1]). */
  readonly starts: Int32Array;
  readonly changes: number;
}

function captured(): { postgres: string; messages: Buffer[] } {
  const file = join(import.meta.dirname, "..", "tests", "changes", "pgoutput.json");
  const { postgres, scenarios } = JSON.parse(readFileSync(file, "utf8")) as Capture;
  const orders = scenarios.find(({ name }) => name === "orders");
  assert.ok(orders, "the capture has a transaction over orders");
  return { postgres, messages: orders.messages.map(({ hex }) => Buffer.from(hex, "hex")) };
}

/** The transaction again and again, at least as many changes as asked for; the Relation message once, as on a connection. */
function repeated(messages: readonly Buffer[], atLeast: number): Stream {
  const relations = messages.filter(([tag]) => tag === messageTags.relation);
  const transaction = messages.filter(([tag]) => tag !== messageTags.relation);
  const each = transaction.filter(([tag]) => isChange(tag!)).length;
  const transactions = Math.ceil(atLeast / each);
  const all = [...relations, ...Array.from({ length: transactions }, () => transaction).flat()];
  const starts = new Int32Array(all.length + 1);
  all.forEach((message, index) => (starts[index + 1] = starts[index]! + message.length));
  return { bytes: Buffer.concat(all), starts, changes: transactions * each };
}

/** Both decoders must read the same values out of the same messages before their speed means anything. */
function checkAgreement(messages: readonly Buffer[]): void {
  const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: ["captured"] });
  for (const bytes of messages) {
    const theirs = plugin.parse(bytes);
    const ours = decodeMessage(bytes, 0, bytes.length, new Message());
    if (theirs.tag === "insert" || theirs.tag === "update")
      assert.deepEqual(texts(ours.new), Object.values(theirs.new).map(String));
    if (theirs.tag === "update" || theirs.tag === "delete")
      assert.deepEqual(texts(ours.old), Object.values(theirs.old ?? {}).map(String));
  }
}

function texts(tuple: Tuple): (string | null)[] {
  return Array.from({ length: tuple.count }, (_, column) => tuple.text(column));
}
