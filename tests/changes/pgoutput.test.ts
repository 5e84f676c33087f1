import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { inspect } from "node:util";
import fc from "fast-check";
import { decodeMessage } from "../../engine/changes/pgoutput.ts";
import {
  Message,
  messageTags,
  NO_OLD_TUPLE,
  OLD_KEY,
  OLD_ROW,
  type Relation,
  TRUNCATE_CASCADE,
  TRUNCATE_RESTART_IDENTITY,
} from "../../engine/changes/pgoutput-message.ts";
import { formatLsn } from "../../engine/protocol.ts";
import { type Tuple, UNCHANGED_TOAST } from "../../engine/changes/tuple.ts";
import { WalcastError } from "../../engine/errors.ts";
import { thorough } from "../support/thorough.ts";
import type { Capture, CapturedMessage, CapturedTable, Scenario } from "./capture-pgoutput.ts";

const capture = JSON.parse(readFileSync(join(import.meta.dirname, "pgoutput.json"), "utf8")) as Capture;

/** A message, and whether it lies in a block of a streamed transaction. */
interface Sent {
  readonly bytes: Buffer;
  readonly streamed: boolean;
}

const everyMessage: readonly Sent[] = capture.scenarios.flatMap((scenario) => [
  ...scenario.messages.map((message) => ({ bytes: bytesOf(message), streamed: false })),
  ...sentInBlocks(scenario),
]);

function sentInBlocks({ streamed }: Scenario): Sent[] {
  let inBlock = false;
  return streamed.map((text) => {
    const bytes = Buffer.from(text, "hex");
    if (bytes[0] === messageTags.streamStop) inBlock = false;
    const sent = { bytes, streamed: inBlock };
    if (bytes[0] === messageTags.streamStart) inBlock = true;
    return sent;
  });
}

// ── What Postgres said, read back ────────────────────────────────────────────────────────────────────────────────────

test("begin and commit carry the position, the time and the xid that Postgres has for the transaction", () => {
  const transactions = capture.scenarios.flatMap(({ messages }) =>
    messages.filter(({ commitTime }) => commitTime !== null),
  );
  assert.equal(transactions.length % 2, 0);
  for (let index = 0; index < transactions.length; index += 2) {
    const [captured, ended] = [transactions[index]!, transactions[index + 1]!];
    const [begin, commit] = [decode(captured), decode(ended)];
    assert.equal(begin.tag, messageTags.begin);
    assert.equal(begin.xid, captured.xid);
    assert.equal(begin.time, BigInt(captured.commitTime!));
    assert.equal(commit.tag, messageTags.commit);
    assert.equal(formatLsn(commit.endLsn), ended.lsn);
    assert.equal(commit.time, BigInt(ended.commitTime!));
    assert.equal(commit.lsn, begin.lsn);
    assert.ok(commit.lsn < commit.endLsn);
  }
});

test("a relation is described as the catalog describes it", () => {
  const relations = capture.scenarios
    .flatMap((scenario) => ofTag(scenario, messageTags.relation))
    .map((message) => message.relation());
  const names = new Set(relations.map(({ name }) => name));
  assert.deepEqual([...names].sort(), capture.tables.map(({ name }) => name).sort());
  for (const relation of relations) {
    const table = capture.tables.find(({ oid }) => oid === relation.oid);
    assert.deepEqual(asCatalog(relation), table);
    assert.equal(relation.schema, "public");
  }
});

test("a relation marks the columns of its replica identity", () => {
  const keys = (name: string): string[] =>
    relationNamed(name).columns.flatMap((column) => (column.isKey ? [column.name] : []));
  assert.deepEqual(keys("by_key"), ["id"]);
  assert.deepEqual(keys("by_index"), ["code"]);
  assert.deepEqual(keys("by_row"), ["id", "status", "amount", "note"]);
  assert.deepEqual(keys("by_nothing"), []);
});

const x2500 = "x".repeat(2500);
const O = "O";
const K = "K";

// Per scenario: what its row messages say. [old kind, old columns, new columns]; `unchanged` is a TOAST placeholder.
const unchanged = Symbol("unchanged");
type Row = readonly [string, readonly unknown[], readonly unknown[]];
const rows: Readonly<Record<string, readonly Row[]>> = {
  insert: [
    ["", [], ["1", "new", "12.50", null]],
    ["", [], ["2", "", "-0.01", "naïve ☃ 😀"]],
    ["", [], ["3", null, "NaN", x2500]],
  ],
  "insert into a table of no columns": [["", [], []]],
  "insert into a wide table": [
    ["", [], Array.from({ length: 40 }, (_, index) => ([0, 17, 39].includes(index) ? String(index) : null))],
  ],
  "insert under replica identity nothing": [["", [], ["1", "n"]]],
  "insert of user-defined types": [
    ["", [], ["00000000-0000-0000-0000-000000000001", "busy", "2024-02-29 12:00:00.123456+00", '{a,NULL,"b c"}']],
  ],
  "insert into a table with an awkward name": [["", [], ["1", "a", "b"]]],
  "update that leaves the key alone": [["", [], ["1", "paid", "12.50", null]]],
  "update of the key": [[K, ["1", null, null, null], ["10", "paid", "12.50", null]]],
  "update that leaves a toasted value alone": [["", [], ["3", "seen", "NaN", unchanged]]],
  "update under replica identity full": [
    ["", [], ["1", null, "1.00", x2500]],
    [O, ["1", null, "1.00", x2500], ["1", "paid", "1.00", unchanged]],
  ],
  "update of the identity index": [
    ["", [], ["1", "a", "n"]],
    [K, [null, "a", null], ["1", "b", "n"]],
  ],
  "delete by key": [[K, ["10", null, null, null], []]],
  "delete by index": [[K, [null, "b", null], []]],
  "delete under replica identity full": [[O, ["1", "paid", "1.00", x2500], []]],
};

for (const [name, expected] of Object.entries(rows)) {
  test(`${name}: the row is what was written`, () => {
    const found = scenarioNamed(name).messages.map(decode).filter(isRow).map(rowOf);
    assert.deepEqual(found, expected);
  });
}

test("a row names its table by oid", () => {
  for (const { messages } of capture.scenarios) {
    const decoded = messages.map(decode);
    const described = new Set(
      decoded.filter(({ tag }) => tag === messageTags.relation).map(({ relationOid }) => relationOid),
    );
    for (const row of decoded.filter(isRow)) assert.ok(described.has(row.relationOid));
  }
});

test("one message after another leaves nothing of the last", () => {
  const message = new Message();
  for (const { messages } of capture.scenarios) {
    for (const captured of messages) {
      const bytes = bytesOf(captured);
      assert.deepEqual(contents(decodeMessage(bytes, 0, bytes.length, message)), contents(decode(captured)));
    }
  }
});

test("a truncate names its tables and its options", () => {
  const [one] = ofTag(scenarioNamed("truncate"), messageTags.truncate);
  assert.deepEqual([one!.relationOids, one!.truncateOptions], [[relationNamed("by_key").oid], 0]);
  const [two] = ofTag(scenarioNamed("truncate of two tables with options"), messageTags.truncate);
  assert.deepEqual(two!.relationOids, [relationNamed("by_key").oid, relationNamed("by_row").oid]);
  assert.equal(two!.truncateOptions, TRUNCATE_CASCADE | TRUNCATE_RESTART_IDENTITY);
});

test("a logical message has a prefix, a content, and its own position", () => {
  const found = ofTag(scenarioNamed("logical message"), messageTags.message);
  assert.deepEqual(
    found.map((message) => [message.transactional, message.prefix(), message.content().toString("hex")]),
    [
      [true, "walcast", Buffer.from("hé").toString("hex")],
      [true, "", ""],
      [true, "bytes", "00ff00"],
    ],
  );
  const sent = scenarioNamed("logical message").messages.filter((_, index, all) => index > 0 && index < all.length - 1);
  assert.deepEqual(
    found.map((message) => formatLsn(message.lsn)),
    sent.map(({ lsn }) => lsn),
  );
});

test("a logical message that belongs to no transaction survives the rollback around it", () => {
  const { messages } = scenarioNamed("logical message outside its transaction");
  assert.equal(messages.length, 1);
  const message = decode(messages[0]!);
  assert.deepEqual(
    [message.transactional, message.prefix(), message.content().toString()],
    [false, "walcast", "at once"],
  );
});

test("an origin says where a transaction comes from", () => {
  const [origin] = ofTag(scenarioNamed("transaction from elsewhere"), messageTags.origin);
  assert.deepEqual([origin!.originName(), formatLsn(origin!.lsn)], ["elsewhere", "A/1234ABCD"]);
});

test("a user-defined type is named", () => {
  const [type] = ofTag(scenarioNamed("insert of user-defined types"), messageTags.type);
  const feeling = capture.tables.find(({ name }) => name === "typed")!.columns.find(({ name }) => name === "feeling")!;
  assert.deepEqual(type!.type(), { oid: feeling.typeOid, schema: "public", name: "mood" });
});

test("every kind of message was captured", () => {
  assert.deepEqual(new Set(everyMessage.map(({ bytes }) => bytes[0])), new Set(Object.values(messageTags)));
});

test("within a block a message says the same as outside, and whose it is", () => {
  for (const scenario of capture.scenarios.filter(({ name }) => !name.includes("rolled back"))) {
    const whole = new Set(scenario.messages.map((captured) => inspect(contents(decode(captured)), { depth: null })));
    for (const { bytes } of sentInBlocks(scenario).filter(({ streamed }) => streamed)) {
      const message = decodeMessage(bytes, 0, bytes.length, new Message(), true);
      // Where it was committed at its origin is not known before.
      if (message.tag === messageTags.origin) continue;
      assert.ok(whole.has(inspect(contents(message), { depth: null })));
      assert.ok(message.xid > 0);
    }
  }
});

test("a streamed transaction's commit is that of the same transaction sent whole", () => {
  for (const scenario of capture.scenarios.filter(({ streamed }) => streamed.some((text) => text.startsWith("63")))) {
    const whole = scenario.messages.map(decode).filter(({ tag }) => tag === messageTags.commit);
    const ended = sentInBlocks(scenario)
      .map(({ bytes, streamed }) => decodeMessage(bytes, 0, bytes.length, new Message(), streamed))
      .filter(({ tag }) => tag === messageTags.streamCommit);
    const essence = ({ lsn, endLsn, time }: Message): unknown => [lsn, endLsn, time];
    assert.deepEqual(ended.map(essence), whole.map(essence));
  }
});

test("a rollback names the subtransaction, those within it too", () => {
  const scenario = scenarioNamed("savepoints rolled back");
  const messages = sentInBlocks(scenario).map(({ bytes, streamed }) =>
    decodeMessage(bytes, 0, bytes.length, new Message(), streamed),
  );
  const aborts = messages.filter(({ tag }) => tag === messageTags.streamAbort);
  const gone = messages.filter((message) => isRow(message) && rowOf(message)[2][1] === "gone").map(({ xid }) => xid);
  assert.equal(new Set(aborts.map(({ subxid }) => subxid)).size, 2);
  assert.ok(gone.length > 0 && gone.every((xid) => aborts.some(({ subxid }) => subxid === xid)));
  for (const { xid, subxid } of aborts) assert.notEqual(xid, subxid);
});

// ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────────────

test("every truncation of every message is refused", () => {
  for (const { bytes, streamed } of everyMessage) {
    for (let length = 0; length < bytes.length; length++) assertRefused(bytes, 0, length, streamed);
  }
});

test("a message with a byte left over is refused", () => {
  for (const { bytes, streamed } of everyMessage) {
    for (const extra of [0, 1, 0x4e, 0xff])
      assertRefused(Buffer.concat([bytes, Buffer.of(extra)]), 0, bytes.length + 1, streamed);
  }
});

// One row per refusal: the message, and what it says about it.
const refusals: readonly (readonly [name: string, bytes: Buffer, says: RegExp])[] = [
  ["nothing", Buffer.of(), /a pgoutput message: expected a message's tag, found the end at byte 0$/],
  ["an unknown tag", Buffer.from("Z"), /expected a message's tag, found 0x5a at byte 0$/],
  [
    "a block with another flag",
    hex("53 00000001 02"),
    /decode streamStart: expected a block's flag, 0 or 1, found 0x02/,
  ],
  [
    "a prepared transaction, which we do not ask for",
    hex("62 00000001"),
    /expected a message's tag, found 0x62 at byte 0$/,
  ],
  [
    "a streamed transaction's commit with flags",
    Buffer.concat([hex("63 00000001 01"), Buffer.alloc(24)]),
    /decode streamCommit: expected a commit's flags, 0, found 0x01 at byte 5$/,
  ],
  [
    "a binary value",
    hex("49 00000001 4e 0001 62 00000001 00"),
    /decode insert: expected the kind of a column \('n', 'u' or 't'\), found 0x62 at byte 8$/,
  ],
  [
    "more columns than bytes",
    hex("49 00000001 4e ffff 6e"),
    /expected at most 1 columns, found a count of 65535 at byte 6$/,
  ],
  [
    "a value longer than the message",
    hex("49 00000001 4e 0001 74 00000002 61"),
    /expected a value of at most 1 bytes, found a length of 2 at byte 9$/,
  ],
  [
    "a value of negative length",
    hex("49 00000001 4e 0001 74 ffffffff"),
    /expected a value of at most 0 bytes, found a length of -1/,
  ],
  ["an insert of an old tuple", hex("49 00000001 4f 0001 6e"), /expected a new tuple \('N'\), found 0x4f at byte 5$/],
  [
    "an update of two old tuples",
    hex("55 00000001 4b 0001 6e 4f 0001 6e"),
    /decode update: expected a new tuple \('N'\), found 0x4f at byte 9$/,
  ],
  [
    "a delete of a new tuple",
    hex("44 00000001 4e 0001 6e"),
    /decode delete: expected an old tuple \('K' or 'O'\), found 0x4e at byte 5$/,
  ],
  [
    "a truncate of more tables than bytes",
    hex("54 40000000 00 00000001"),
    /decode truncate: expected the tables' oids \(4294967296 bytes\), found 4 bytes at byte 6$/,
  ],
  [
    "a commit with flags",
    Buffer.concat([hex("43 01"), Buffer.alloc(24)]),
    /decode commit: expected a commit's flags, 0, found 0x01 at byte 1$/,
  ],
  [
    "a logical message with other flags",
    hex("4d 02 0000000000000001 00 00000000"),
    /decode message: expected a logical message's flags/,
  ],
  [
    "a content longer than the message",
    hex("4d 01 0000000000000001 00 ffffffff"),
    /expected the content \(4294967295 bytes\), found 0 bytes at byte 15$/,
  ],
  [
    "a prefix without an end",
    hex("4d 01 0000000000000001 61 62"),
    /expected a zero byte after a prefix, found the end at byte 12$/,
  ],
  [
    "an unknown replica identity",
    hex("52 00000001 00 6100 78 0000"),
    /decode relation: expected a replica identity \('d', 'n', 'f' or 'i'\), found 0x78 at byte 8$/,
  ],
  [
    "a relation of more columns than bytes",
    hex("52 00000001 00 6100 64 ffff"),
    /expected a column's flags, found the end at byte 11$/,
  ],
  [
    "a column with other flags",
    hex("52 00000001 00 6100 64 0001 02 6100 00000017 ffffffff"),
    /expected a column's flags, 0 or 1, found 0x02 at byte 11$/,
  ],
];

for (const [name, bytes, says] of refusals) {
  test(`${name} is refused`, () => {
    assert.throws(() => decodeMessage(bytes, 0, bytes.length, new Message()), {
      code: "malformed_message",
      message: says,
    });
  });
}

test("a message that lies outside its buffer is our own bug", () => {
  assert.throws(() => decodeMessage(Buffer.alloc(21), 0, 22, new Message()), { code: "ERR_ASSERTION" });
});

// ── What nobody thought of ───────────────────────────────────────────────────────────────────────────────────────────

const tag = fc.constantFrom(...Object.values(messageTags));

test("random bytes are decoded or refused, the same whatever lies around them", () => {
  const bytes = fc.tuple(tag, fc.uint8Array({ maxLength: 60 })).map(([first, rest]) => Buffer.from([first, ...rest]));
  fc.assert(fc.property(bytes, fc.boolean(), assertAlone), { numRuns: thorough(20_000, 5_000) });
});

test("captured messages with bytes changed, cut out or put in are decoded or refused, the same whatever lies around them", () => {
  const mutation = fc.record({ at: fc.nat(200), cut: fc.nat(4), put: fc.uint8Array({ maxLength: 4 }) });
  const mutated = fc.tuple(fc.constantFrom(...everyMessage), fc.array(mutation, { minLength: 1, maxLength: 3 }));
  fc.assert(
    fc.property(mutated, ([{ bytes, streamed }, mutations]) => assertAlone(mutations.reduce(mutate, bytes), streamed)),
    { numRuns: thorough(20_000, 5_000) },
  );
});

function mutate(bytes: Buffer, { at, cut, put }: { at: number; cut: number; put: Uint8Array }): Buffer {
  const from = at % (bytes.length + 1);
  return Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + cut)]);
}

/** Surroundings that a decoder which reads past the end would take for more of the message. */
const surroundings = [0x00, 0xff, 0x6e, 0x74, 0x01].map((byte) => Buffer.alloc(70, byte));

/** Decodes the same bytes amid different others: the outcome may not differ, and nothing may lie outside. */
function assertAlone(bytes: Buffer, streamed: boolean): void {
  const alone = outcome(bytes, 0, bytes.length, streamed);
  for (const around of surroundings) {
    const buffer = Buffer.concat([around, bytes, around]);
    assert.deepEqual(outcome(buffer, around.length, around.length + bytes.length, streamed), alone);
  }
}

function outcome(bytes: Buffer, start: number, end: number, streamed: boolean): unknown {
  const message = new Message();
  try {
    decodeMessage(bytes, start, end, message, streamed);
  } catch (error) {
    assert.ok(error instanceof WalcastError && error.code === "malformed_message", String(error));
    return error.message;
  }
  for (const tuple of [message.old, message.new]) assertWithin(tuple, start, end);
  return contents(message);
}

function assertWithin(tuple: Tuple, start: number, end: number): void {
  let last = start;
  for (let column = 0; column < tuple.count; column++) {
    assert.ok(
      last <= tuple.starts[column]! && tuple.starts[column]! <= tuple.ends[column]! && tuple.ends[column]! <= end,
    );
    last = tuple.ends[column]!;
  }
}

function assertRefused(bytes: Buffer, start: number, end: number, streamed: boolean): void {
  assert.throws(
    () => decodeMessage(bytes, start, end, new Message(), streamed),
    { code: "malformed_message" },
    bytes.toString("latin1", start, end),
  );
}

// ── Reading a message ────────────────────────────────────────────────────────────────────────────────────────────────

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(" ", ""), "hex");
}

function bytesOf(captured: CapturedMessage): Buffer {
  return hex(captured.hex);
}

function decode(captured: CapturedMessage): Message {
  const bytes = bytesOf(captured);
  return decodeMessage(bytes, 0, bytes.length, new Message());
}

function scenarioNamed(name: string): Scenario {
  const scenario = capture.scenarios.find((candidate) => candidate.name === name);
  assert.ok(scenario, `${name} was captured`);
  return scenario;
}

function ofTag(scenario: Scenario, tag: number): Message[] {
  return scenario.messages.map(decode).filter((message) => message.tag === tag);
}

function relationNamed(name: string): Relation {
  const relations = capture.scenarios
    .flatMap((scenario) => ofTag(scenario, messageTags.relation))
    .map((message) => message.relation());
  return relations.find((relation) => relation.name === name)!;
}

function asCatalog({ oid, name, replicaIdentity, columns }: Relation): CapturedTable {
  return {
    oid,
    name,
    replicaIdentity,
    columns: columns.map(({ name, typeOid, typmod }) => ({ name, typeOid, typmod })),
  };
}

function isRow({ tag }: Message): boolean {
  return tag === messageTags.insert || tag === messageTags.update || tag === messageTags.delete;
}

function rowOf(message: Message): Row {
  const kind = { [NO_OLD_TUPLE]: "", [OLD_KEY]: K, [OLD_ROW]: O }[message.oldKind]!;
  return [kind, columnsOf(message.old), columnsOf(message.new)];
}

function columnsOf(tuple: Tuple): unknown[] {
  return Array.from({ length: tuple.count }, (_, column) =>
    tuple.kinds[column] === UNCHANGED_TOAST ? unchanged : tuple.text(column),
  );
}

/** Everything a message of its tag may be asked for. */
function contents(message: Message): unknown {
  const { begin, commit, origin, relation, type, truncate, streamStart, streamStop, streamCommit, streamAbort } =
    messageTags;
  if (isRow(message)) return [message.tag, message.relationOid, rowOf(message)];
  if (message.tag === begin) return [message.tag, message.lsn, message.time, message.xid];
  if (message.tag === commit) return [message.tag, message.lsn, message.endLsn, message.time];
  if (message.tag === streamCommit) return [message.tag, message.xid, message.lsn, message.endLsn, message.time];
  if (message.tag === streamStart) return [message.tag, message.xid, message.isFirstBlock];
  if (message.tag === streamAbort) return [message.tag, message.xid, message.subxid];
  if (message.tag === streamStop) return [message.tag];
  if (message.tag === origin) return [message.tag, message.lsn, message.originName()];
  if (message.tag === relation) return [message.tag, message.relationOid, message.relation()];
  if (message.tag === type) return [message.tag, message.type()];
  if (message.tag === truncate) return [message.tag, message.relationOids, message.truncateOptions];
  return [message.tag, message.transactional, message.lsn, message.prefix(), message.content().toString("hex")];
}
