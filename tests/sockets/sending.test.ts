/** A connection that is behind, on a socket that takes one frame at a time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32, decodeFrame, type Frame, type Lsn } from "../../engine/protocol.ts";
import type { Shape } from "../../engine/shapes/shape.ts";
import { Feed } from "../../engine/sockets/feed.ts";
import { Frames, type Socket } from "../../engine/sockets/frames.ts";
import type { Lane } from "../../engine/sockets/lane.ts";
import { Sending } from "../../engine/sockets/sending.ts";

const payload = (text: string) => ({ bytes: Buffer.from(text), crc: crc32(Buffer.from(text)) });
const lane = (id: number): Lane => ({ id }) as Lane;
const shape = {} as Shape;

test("what is withdrawn from a subscription while its changes wait for room is not sent any more", async () => {
  const sent: Frame[] = [];
  let isFull = false;
  let checksum = 0;
  const socket = {
    send(bytes: Uint8Array) {
      const frame = decodeFrame(bytes, { number: sent.length + 1, previousChecksum: checksum });
      checksum = frame.checksum;
      sent.push(frame);
      isFull = true;
      return 1;
    },
    getBufferedAmount: () => (isFull ? 1 << 20 : 0),
  } as unknown as Socket;
  const feed = new Feed(new Frames(socket, 1 << 20, { sendsDropped: 0 }));
  const [first, second] = [lane(1), lane(2)];
  for (const one of [first, second]) feed.join(one, shape);
  const frame = (text: string) =>
    [first, second].map(({ id }) => ({ subscription: id, payload: payload(`${text} of ${id}`) }));
  const sending = new Sending(feed, [frame("one"), frame("two"), frame("three")], 16n as Lsn);
  const finished = sending.finish();
  const drain = (): void => {
    isFull = false;
    feed.frames.drained();
  };
  feed.leave(first);
  drain();
  await new Promise((resolve) => setImmediate(resolve));
  feed.leave(second);
  drain();
  await finished;
  assert.deepEqual(
    sent.map(({ boundary, sections }) => [boundary, ...sections.map((one) => Buffer.from(one.payload).toString())]),
    [[false, "one of 1", "one of 2"], [false, "two of 2"], [true]],
  );
});
