/**
 * A WebSocket client that costs next to nothing, so that a thousand of them do not outweigh the server they measure: no
 * payload is kept or copied, a message is looked at only as far as its first bytes, which for a data frame end in the
 * position. Talks as RFC 6455 wants a client to; is sent nothing but unfragmented or fragmented data messages and pings.
 * https://www.rfc-editor.org/rfc/rfc6455#section-5.2
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { frameKinds, subprotocol } from "../../engine/protocol.ts";

/** Kind, flags, sections, number, checksum, position: what a data frame begins with. */
const HEAD_BYTES = 20;
const POSITION_AT = 12;
const TEXT_BYTES_MAX = 4_096;

/** What is read is looked at before anything else is read, so all sockets read into one buffer, where a stream takes a new one each time. */
const readBuffer = Buffer.allocUnsafe(64 * 1024);
const nothing = Buffer.alloc(0);

const opcodes = { continuation: 0, text: 1, binary: 2, ping: 9, pong: 10 } as const;

export class RawSocket {
  readonly socket: Socket;
  /** Payload bytes of data messages so far. */
  bytes = 0;
  /** Data messages so far. */
  messages = 0;
  /** Of the last binary message. */
  position = 0n;
  onText: (text: string) => void = () => undefined;
  /** A binary message has begun; how long its first part is. */
  onBinary: (position: bigint, kind: number) => void = () => undefined;
  /** Is given what each read brought, which is gone after the call. */
  onChunk: (chunk: Buffer) => void = () => undefined;
  private readonly head = Buffer.alloc(Math.max(HEAD_BYTES, TEXT_BYTES_MAX));
  private headLength = 0;
  private header: Buffer = nothing;
  private left = 0;
  private opcode: number = opcodes.binary;
  private message: number = opcodes.binary;

  private constructor(port: number) {
    const callback = (length: number): boolean => {
      this.onChunk(readBuffer.subarray(0, length));
      return true;
    };
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true, onread: { buffer: readBuffer, callback } });
    this.socket.on("error", () => undefined);
  }

  static async open(port: number): Promise<RawSocket> {
    const raw = new RawSocket(port);
    const { socket } = raw;
    await once(socket, "connect");
    const answered = new Promise<void>((resolve, reject) => {
      socket.once("close", () => reject(new Error("the upgrade was not answered")));
      raw.onChunk = (answer) => {
        const end = answer.indexOf("\r\n\r\n");
        if (!answer.includes(" 101 ") || end < 0) {
          socket.destroy();
          return reject(new Error(`the upgrade was refused: ${answer.toString("latin1")}`));
        }
        raw.onChunk = (chunk) => raw.receive(chunk);
        raw.receive(answer.subarray(end + 4));
        resolve();
      };
    });
    socket.write(
      `GET /v1/sync HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ${subprotocol}\r\n\r\n`,
    );
    await answered;
    return raw;
  }

  /** One that is live with this table, or this shape. */
  static async subscribed(port: number, table: string | object): Promise<RawSocket> {
    const raw = await RawSocket.open(port);
    raw.send({ kind: "hello" });
    await raw.text(({ kind }) => kind === "welcome");
    raw.send({ kind: "subscribe", id: 1, shape: typeof table === "string" ? { table } : table });
    await new Promise<void>((resolve) => {
      raw.onBinary = (_position, kind) => {
        if (kind === frameKinds.join) resolve();
      };
    });
    return raw;
  }

  /** A masked text frame; the mask is zero, which is as good as any where nobody is between. */
  send(message: unknown): void {
    const payload = Buffer.from(JSON.stringify(message));
    const header = payload.length < 126 ? Buffer.alloc(6) : Buffer.alloc(8);
    header[0] = 0x80 | opcodes.text;
    header[1] = 0x80 | (payload.length < 126 ? payload.length : 126);
    if (payload.length >= 126) header.writeUInt16BE(payload.length, 2);
    this.socket.write(Buffer.concat([header, payload]));
  }

  /** The next text message that is accepted. */
  text(accept: (message: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
    const closed = (): void => reject(new Error("the socket was closed"));
    this.socket.once("close", closed);
    this.onText = (text) => {
      const message = JSON.parse(text) as Record<string, unknown>;
      if (message["kind"] === "error") reject(new Error(text));
      if (accept(message)) resolve(message);
    };
    return promise.finally(() => this.socket.off("close", closed));
  }

  private receive(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) at = this.left > 0 ? this.payload(chunk, at) : this.frame(chunk, at);
  }

  /** Takes a frame's header, or as much of it as has come. */
  private frame(chunk: Buffer, at: number): number {
    const kept = this.header.length;
    const next = chunk.subarray(at, at + 10);
    const bytes = kept === 0 ? next : Buffer.concat([this.header, next]);
    const short = bytes.length < 2 ? 2 : lengthBytes(bytes[1]!);
    if (bytes.length < short) {
      this.header = Buffer.from(bytes);
      return chunk.length;
    }
    this.header = nothing;
    this.begin(bytes, short);
    return at + short - kept;
  }

  private begin(bytes: Buffer, headerBytes: number): void {
    this.opcode = bytes[0]! & 0x0f;
    const short = bytes[1]! & 0x7f;
    this.left = short < 126 ? short : headerBytes === 4 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
    if (this.opcode === opcodes.text || this.opcode === opcodes.binary) {
      this.messages++;
      this.message = this.opcode;
      this.headLength = 0;
    }
    if (this.opcode === opcodes.ping) this.socket.write(Buffer.from([0x80 | opcodes.pong, 0x80, 0, 0, 0, 0]));
    if (this.left === 0) this.finish();
  }

  private payload(chunk: Buffer, at: number): number {
    const size = Math.min(this.left, chunk.length - at);
    this.left -= size;
    if (this.opcode > opcodes.binary) return at + size;
    this.bytes += size;
    this.note(chunk, at, size);
    if (this.left === 0) this.finish();
    return at + size;
  }

  private note(chunk: Buffer, at: number, size: number): void {
    const wanted = this.message === opcodes.text ? TEXT_BYTES_MAX : HEAD_BYTES;
    if (this.headLength >= wanted) return;
    const taken = Math.min(size, wanted - this.headLength);
    chunk.copy(this.head, this.headLength, at, at + taken);
    this.headLength += taken;
    if (this.message === opcodes.text || this.headLength < HEAD_BYTES) return;
    this.position = this.head.readBigUInt64BE(POSITION_AT);
    this.onBinary(this.position, this.head[0]!);
  }

  private finish(): void {
    if (this.opcode !== opcodes.text) return;
    this.onText(this.head.toString("utf8", 0, this.headLength));
  }
}

function lengthBytes(second: number): number {
  const short = second & 0x7f;
  return short < 126 ? 2 : short === 126 ? 4 : 10;
}
