/** What is said within a replication connection's CopyData: whole or refused, whatever lies around it in the buffer. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readReplicationMessage } from "../../engine/changes/replication-protocol.ts";

function keepalive(walEnd: bigint, replyRequested: boolean): Buffer {
  const message = Buffer.alloc(18);
  message.write("k");
  message.writeBigUInt64BE(walEnd, 1);
  message[17] = replyRequested ? 1 : 0;
  return message;
}

/** With a Begin's tag in it, and what may be of one. */
const xLogData = Buffer.concat([Buffer.from("w"), Buffer.alloc(24), Buffer.from("B"), Buffer.alloc(20)]);

/** What is read of bytes[start … end). */
function read(bytes: Buffer, start: number, end: number): readonly unknown[] {
  const found: unknown[] = [];
  readReplicationMessage(bytes, start, end, {
    onXLogData: (_, from, until) => void found.push("data", from, until),
    onKeepalive: (walEnd, replyRequested) => void found.push("keepalive", walEnd, replyRequested),
  });
  return found;
}

test("a message is read where it lies", () => {
  const before = Buffer.from("wk");
  const bytes = Buffer.concat([before, xLogData, keepalive(0x1_0000_0005n, true), keepalive(7n, false)]);
  const first = before.length + xLogData.length;
  assert.deepEqual(read(bytes, before.length, first), ["data", before.length, first]);
  assert.deepEqual(read(bytes, first, first + 18), ["keepalive", 0x1_0000_0005n, true]);
  assert.deepEqual(read(bytes, first + 18, first + 36), ["keepalive", 7n, false]);
});

test("one that is cut is refused, though other messages follow it in the buffer", () => {
  const after = Buffer.concat([xLogData, xLogData]);
  for (const [message, wholeBytes] of [
    [xLogData, 26],
    [keepalive(1n, true), 18],
  ] as const)
    for (let length = 0; length < wholeBytes; length++) {
      const bytes = Buffer.concat([message.subarray(0, length), after]);
      assert.throws(() => read(bytes, 0, length), { code: "malformed_message" }, `cut at ${length}`);
    }
});

test("a keepalive with more than it has, and a kind that there is not, are refused", () => {
  const long = Buffer.concat([keepalive(1n, true), Buffer.alloc(1)]);
  assert.throws(() => read(long, 0, long.length), { code: "malformed_message" });
  assert.throws(() => read(Buffer.from("x".repeat(40)), 0, 40), { code: "malformed_message" });
});
