/** A connection in COPY mode, taken apart: however its bytes are cut into reads, the same messages come out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CopyMessages } from "../../engine/changes/copy-messages.ts";

/** "d" is CopyData; "N", say, a notice. */
type Message = readonly [tag: string, body: string];

function encode([tag, body]: Message): Buffer {
  const bytes = Buffer.alloc(5 + Buffer.byteLength(body));
  bytes.write(tag);
  bytes.writeUInt32BE(bytes.length - 1, 1);
  bytes.write(body, 5);
  return bytes;
}

/** What comes out of reads of these sizes, again and again, all of them into one buffer, as a socket's are. */
function takenApart(bytes: Buffer, sizes: readonly number[]): Message[] {
  const found: Message[] = [];
  const others: Buffer[] = [];
  const messages = new CopyMessages({
    onData: (data, start, end) => void found.push(["d", data.toString("utf8", start, end)]),
    onOther: (message) => {
      others.push(message);
      found.push(["", ""]);
    },
  });
  const buffer = Buffer.alloc(Math.max(...sizes));
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = bytes.copy(buffer, 0, at, Math.min(bytes.length, at + sizes[i % sizes.length]!));
    messages.push(buffer, length);
    at += length;
  }
  // Only now: they are kept, and what was read over them since has changed nothing.
  return found.map((one) => (one[0] === "d" ? one : decode(others.shift()!)));
}

function decode(message: Buffer): Message {
  assert.equal(message.readUInt32BE(1), message.length - 1);
  return [message.toString("latin1", 0, 1), message.toString("utf8", 5)];
}

const messages = fc.array(fc.tuple(fc.constantFrom("d", "d", "N", "E"), fc.string({ maxLength: 40 })), {
  maxLength: 20,
});
const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 });

test("however the bytes are cut into reads, each message comes out once, in order, whole", () => {
  fc.assert(
    fc.property(messages, sizes, (sent, reads) => {
      assert.deepEqual(takenApart(Buffer.concat(sent.map(encode)), reads), sent);
    }),
  );
});

test("a message that is larger than many reads is collected", () => {
  const large: Message = ["d", "x".repeat(5_000_000)];
  const sent = [["d", "before"], large, ["N", "between"], large, ["d", ""]] satisfies Message[];
  assert.deepEqual(takenApart(Buffer.concat(sent.map(encode)), [65_536]), sent);
});

test("a length that none can have is refused, whole or cut", () => {
  const impossible = Buffer.from([0x64, 0, 0, 0, 3, 0x64, 0xff, 0xff, 0xff, 0xff]);
  for (const bytes of [impossible, impossible.subarray(5)])
    for (const size of [1, 3, 10]) assert.throws(() => takenApart(bytes, [size]), /expected a message of 4 to/);
});
