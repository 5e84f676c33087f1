/** The protocol's code, held against its page, and against whatever a network may bring. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { crc32 as zlibCrc32 } from "node:zlib";
import fc from "fast-check";
import {
  closeCodes,
  type Commit,
  crc32,
  decodeCommits,
  decodeFrame,
  errorCodes,
  formatLsn,
  type Frame,
  type FrameKind,
  frameKinds,
  type Lsn,
  parseLsn,
  type Value,
} from "../engine/protocol.ts";
import { encodeFrame } from "./support/payload.ts";
import { parseClientMessage } from "../engine/sockets/messages.ts";

const page = readFileSync(new URL("../docs/protocol.md", import.meta.url), "utf8");

function blocks(language: string): string[] {
  return [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map((match) => match[1]!);
}

/** What stands to the left of the first two spaces in a row. */
function bytesOf(block: string): Buffer {
  const columns = block
    .trimEnd()
    .split("\n")
    .map((line) => line.slice(0, 48).trim());
  return Buffer.from(columns.join(" ").replaceAll(" ", ""), "hex");
}

test("the page's frames decode to what the page says", () => {
  const said = blocks("json decoded")[0]!
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
  const shown: unknown[] = [];
  let previousChecksum = 0;
  let number = 3;
  for (const block of blocks("frame")) {
    const frame = decodeFrame(bytesOf(block), { number: number++, previousChecksum });
    previousChecksum = frame.checksum;
    shown.push(asJson(frame));
  }
  assert.equal(shown.length, 5);
  assert.deepEqual(shown, said);
});

function asJson({ kind, boundary, number, position, sections }: Frame): unknown {
  const head = { kind, boundary, number, position: formatLsn(position) };
  const section = sections[0];
  if (!section) return head;
  const { subscription, payload } = section;
  if (kind === "copy") return { ...head, subscription, rows: copyRows(Buffer.from(payload).toString("utf8")) };
  return { ...head, subscription, transactions: decodeCommits(payload).map(transactionAsJson) };
}

function copyRows(text: string): (string | null)[][] {
  const value = (field: string): string | null => (field === "\\N" ? null : field.replaceAll("\\t", "\t"));
  return text
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t").map(value));
}

function transactionAsJson({ position, xid, operations }: Commit): unknown {
  const plain = JSON.stringify(operations, (_, value: unknown) =>
    Array.isArray(value) ? value.map((item: unknown) => (item === undefined ? "unchanged" : item)) : value,
  );
  return { position: formatLsn(position), xid: String(xid), operations: JSON.parse(plain) as unknown };
}

test("the page's client messages are accepted as they stand", () => {
  const messages = blocks("json client");
  assert.equal(messages.length, 15);
  for (const message of messages) assert.deepEqual(parseClientMessage(message, 4), JSON.parse(message));
});

test("the page's server messages count upwards and have codes of the list", () => {
  const messages = blocks("json server").map(
    (text) => JSON.parse(text) as { frame: number; error?: { code: string }; cause?: { code: string } },
  );
  const numbers = messages.map((message) => message.frame);
  assert.deepEqual(
    numbers,
    numbers.toSorted((a, b) => a - b),
  );
  for (const { error, cause } of messages)
    for (const found of [error, cause]) if (found) assert.ok((errorCodes as readonly string[]).includes(found.code));
});

test("the page lists every close code and every kind of frame", () => {
  for (const code of Object.values(closeCodes)) assert.match(page, new RegExp(`^\\| ${code} \\|`, "m"));
  const names: Record<FrameKind, string> = {
    commits: "commits",
    copy: "copy",
    catchUp: "catch-up",
    join: "join",
    position: "position",
  };
  assert.ok(
    page.includes(
      Object.entries(frameKinds)
        .map(([kind, code]) => `${code} ${names[kind as FrameKind]}`)
        .join(" · "),
    ),
  );
});

// ── Positions ────────────────────────────────────────────────────────────────────────────────────────────────────────

test("a position reads back from its text", () => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 64n - 1n), (value) => assert.equal(parseLsn(formatLsn(value as Lsn)), value)),
  );
});

test("what is no position is refused", () => {
  for (const text of ["", "0", "/", "0/", "/0", "0/0/0", "-1/0", "0/100000000", "0x1/2", " 0/1", "g/1"]) {
    assert.throws(() => parseLsn(text), { code: "malformed_message" }, text);
  }
});

// ── Frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const lsn = fc.bigInt(0n, 2n ** 64n - 1n) as fc.Arbitrary<Lsn>;
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const frames = fc.record(
  {
    kind: fc.constantFrom(...(Object.keys(frameKinds) as FrameKind[])),
    boundary: fc.boolean(),
    number: u32,
    position: lsn,
    sections: fc.array(
      fc.record({ subscription: u32, payload: fc.uint8Array({ maxLength: 40 }) }, { noNullPrototype: true }),
      { maxLength: 4 },
    ),
  },
  { noNullPrototype: true },
);

function encode(frame: Omit<Frame, "checksum">, previousChecksum: number): Buffer {
  const sections = frame.sections.map(({ subscription, payload }) => ({ subscription, bytes: payload }));
  return encodeFrame({ ...frame, sections }, frame.number, previousChecksum).bytes;
}

test("a frame reads back as it was written", () => {
  fc.assert(
    fc.property(frames, u32, (frame, previousChecksum) => {
      const { checksum: _, ...read } = decodeFrame(encode(frame, previousChecksum), {
        number: frame.number,
        previousChecksum,
      });
      assert.deepEqual(
        {
          ...read,
          sections: read.sections.map((section) => ({ ...section, payload: Uint8Array.from(section.payload) })),
        },
        frame,
      );
    }),
  );
});

test("a frame with any one bit changed, cut anywhere, or with bytes after it is refused", () => {
  fc.assert(
    fc.property(frames, fc.nat(), fc.nat(), (frame, bit, cut) => {
      const bytes = encode(frame, 7);
      const expected = { number: frame.number, previousChecksum: 7 };
      const flipped = Buffer.from(bytes);
      flipped[(bit >> 3) % bytes.length]! ^= 1 << (bit & 7);
      for (const broken of [flipped, bytes.subarray(0, cut % bytes.length), Buffer.concat([bytes, Buffer.alloc(1)])]) {
        assert.throws(() => decodeFrame(broken, expected), refusal);
      }
    }),
  );
});

test("a frame out of its turn, or after another frame than it was sent after, is refused", () => {
  const bytes = encode({ kind: "position", boundary: true, number: 5, position: 1n as Lsn, sections: [] }, 9);
  assert.throws(() => decodeFrame(bytes, { number: 4, previousChecksum: 9 }), { code: "frame_out_of_order" });
  assert.throws(() => decodeFrame(bytes, { number: 6, previousChecksum: 9 }), { code: "frame_out_of_order" });
  assert.throws(() => decodeFrame(bytes, { number: 5, previousChecksum: 8 }), { code: "checksum_mismatch" });
});

function refusal(error: unknown): boolean {
  return ["malformed_message", "frame_out_of_order", "checksum_mismatch"].includes((error as { code: string }).code);
}

// ── Transactions ─────────────────────────────────────────────────────────────────────────────────────────────────────

test("transactions cut anywhere are refused, never half read", () => {
  const payload = bytesOf(blocks("frame")[3]!).subarray(32);
  assert.equal(decodeCommits(payload).length, 1);
  for (let length = 1; length < payload.length; length++) {
    assert.throws(() => decodeCommits(payload.subarray(0, length)), { code: "malformed_message" }, `cut at ${length}`);
  }
});

test("random bytes for transactions are refused, or are transactions", () => {
  const start = Buffer.concat([Buffer.from("C"), Buffer.alloc(24), Buffer.from([0, 0, 0, 2])]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, begun) => {
      try {
        decodeCommits(begun ? Buffer.concat([start, bytes]) : bytes);
      } catch (error) {
        assert.equal((error as { code: string }).code, "malformed_message");
      }
    }),
  );
});

test("text keeps every character, short or long, a mark at its start too", () => {
  for (const text of ["", "a", "é", "\ufeffmark", "😀".repeat(30), "x".repeat(1000), "\u0001\u007f"]) {
    assert.deepEqual(oneRow(text), [text]);
  }
});

test("bytes that are not UTF-8 are refused", () => {
  assert.throws(() => decodeCommits(insertOf(Buffer.from([0xff, 0xfe]))), { code: "malformed_message" });
});

function oneRow(text: string): readonly Value[] {
  const operation = decodeCommits(insertOf(Buffer.from(text)))[0]!.operations[0]!;
  assert.equal(operation.kind, "insert");
  return operation.row;
}

function insertOf(value: Buffer): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(value.length);
  return Buffer.concat([
    Buffer.from("C"),
    Buffer.alloc(24),
    Buffer.from([0, 0, 0, 1]),
    Buffer.from("I"),
    Buffer.from([0, 1]),
    Buffer.from("t"),
    size,
    value,
  ]);
}

// ── CRC-32 ───────────────────────────────────────────────────────────────────────────────────────────────────────────

test("the checksum is zlib's, in one piece or in two", () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
      assert.equal(crc32(a), zlibCrc32(a));
      assert.equal(crc32(b, crc32(a)), zlibCrc32(Buffer.concat([a, b])));
    }),
  );
});
