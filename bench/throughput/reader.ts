/**
 * The one subscribed client, as cheap as can be: it keeps what its socket brings, and when, and looks into nothing while writers write.
 * Told a position, it waits a moment, as what may still be on its way would have to wait while it looks; then it says when each frame came
 * since it was told the last, and how many operations were in them, once the position is passed.
 */
import { decodeCommits, frameHeaderBytes, frameKinds } from "../../engine/protocol.ts";
import { RawSocket } from "../catch-up/raw-socket.ts";
import { say, whenDismissed } from "../processes.ts";

export interface Arrival {
  readonly position: bigint;
  readonly ns: number;
}

export interface Read {
  readonly arrivals: readonly Arrival[];
  readonly operations: number;
}

const momentMs = 50;

/** Where a data frame has it. */
const POSITION_AT = 12;
/** A WebSocket frame's first byte. https://www.rfc-editor.org/rfc/rfc6455#section-5.2 */
const final = 0x80;
const opcodes = { continuation: 0, binary: 2 } as const;

const [port = "", ...tables] = process.argv.slice(2);
let arrivals: Arrival[] = [];
let chunks: { readonly data: Buffer; readonly ns: number }[] = [];
let target: bigint | undefined;
let left: Buffer = Buffer.alloc(0);
let message: Buffer[] = [];
let operations = 0;

const raw = await RawSocket.open(Number(port));
raw.send({ kind: "hello" });
await raw.text(({ kind }) => kind === "welcome");
await joined();
raw.onChunk = (data) => {
  chunks.push({ data: Buffer.from(data), ns: Number(process.hrtime.bigint()) });
  answer();
};
process.on("message", (told: string) => {
  setTimeout(() => {
    target = BigInt(told);
    answer();
  }, momentMs);
});
whenDismissed(() => void raw.socket.destroy());
say("ready");

function joined(): Promise<void> {
  return new Promise((resolve, reject) => {
    let joins = 0;
    raw.onText = (text) => {
      if (text.includes('"kind":"error"')) reject(new Error(text));
    };
    raw.onBinary = (_position, kind) => {
      if (kind === frameKinds.join && ++joins === tables.length) resolve();
    };
    for (const [index, table] of tables.entries()) raw.send({ kind: "subscribe", id: index + 1, shape: { table } });
  });
}

function answer(): void {
  if (target === undefined) return;
  for (const { data, ns } of chunks) look(data, ns);
  chunks = [];
  if ((arrivals.at(-1)?.position ?? 0n) <= target) return;
  target = undefined;
  say({ arrivals, operations } satisfies Read);
  arrivals = [];
  operations = 0;
}

function look(data: Buffer, ns: number): void {
  const bytes = Buffer.concat([left, data]);
  let at = 0;
  for (;;) {
    const [start, end] = bounds(bytes, at);
    if (end > bytes.length) break;
    part(bytes[at]!, bytes.subarray(start, end), ns);
    at = end;
  }
  left = bytes.subarray(at);
}

/** A large message comes in parts. */
function part(first: number, payload: Buffer, ns: number): void {
  const opcode = first & 0x0f;
  if (opcode === opcodes.binary) message = [payload];
  else if (opcode === opcodes.continuation) message.push(payload);
  else return;
  if ((first & final) !== 0) take(Buffer.concat(message), ns);
}

/** Where the payload of the frame begins and ends; beyond the bytes, where there are too few. */
function bounds(bytes: Buffer, at: number): [start: number, end: number] {
  if (bytes.length < at + 10) return short(bytes, at);
  const length = bytes[at + 1]!;
  if (length < 126) return [at + 2, at + 2 + length];
  if (length === 126) return [at + 4, at + 4 + bytes.readUInt16BE(at + 2)];
  return [at + 10, at + 10 + Number(bytes.readBigUInt64BE(at + 2))];
}

/** The smallest frames have fewer bytes than the longest header. */
function short(bytes: Buffer, at: number): [start: number, end: number] {
  const length = bytes[at + 1] ?? 126;
  return length < 126 ? [at + 2, at + 2 + length] : [Infinity, Infinity];
}

function take(frame: Buffer, ns: number): void {
  if (frame[0] !== frameKinds.commits) return;
  arrivals.push({ position: frame.readBigUInt64BE(POSITION_AT), ns });
  const payloads = frame.subarray(frameHeaderBytes(frame.readUInt16BE(2)));
  for (const commit of decodeCommits(payloads)) operations += commit.operations.length;
}
