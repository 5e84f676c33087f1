/**
 * One connection's outgoing side: numbers every message, chains the checksums, knows how much waits in the socket. Who
 * sends changes or rows asks for room first, so what waits here for a slow client is bounded by the budget; a single
 * frame that is larger than the budget is let out when nothing else waits. Nothing is dropped silently.
 */
import { must, noteBreach } from "../invariants.ts";
import {
  type AddedColumn,
  closeCodes,
  encodeFrameHeader,
  frameHeaderBytes,
  type FrameKind,
  type Lsn,
  type SectionOut,
  type ServerMessage,
  type TableDescription,
  zeroLsn,
} from "../protocol.ts";

/** What we need of uWebSockets.js' WebSocket. Its type leaves out the fragments that the library has. */
export interface Socket {
  send(message: string | Uint8Array, isBinary: boolean, compress: boolean): number;
  sendFirstFragment(message: Uint8Array, isBinary: boolean, compress: boolean): number;
  sendFragment(message: Uint8Array, compress: boolean): number;
  sendLastFragment(message: Uint8Array, compress: boolean): number;
  cork(write: () => void): unknown;
  getBufferedAmount(): number;
  end(code?: number, message?: string): void;
}

/** Below it a frame is put together in one piece; above it, it leaves in fragments, so that no payload is copied per client. */
const joinedBytesMax = 16 * 1024;

/** What is put together leaves, or is copied by the library, before the call that sends it returns: all connections share it. */
const outgoing = new Uint8Array(joinedBytesMax);
/** As much of it as the frame before had: whoever comes next mostly gets one of the same size, */
let whole = outgoing;
/** and the same payloads, which lie behind the header already. */
let lying: readonly SectionOut[] = [];

/** Bulk rows are sent only while less than this waits in the socket, so that live frames do not queue behind megabytes. */
const windowBytesMax = 512 * 1024;

/**
 * Answers are small, and owed whatever the budget says. Only a client that goes on asking without ever taking an answer
 * gets here.
 */
const unreadAnswerBytesMax = 1 << 20;

const answers: ReadonlySet<ServerMessage["kind"]> = new Set([
  "authenticated",
  "unsubscribed",
  "awaited",
  "error",
  "pong",
]);

/** A socket's buffer grows by doubling, so it takes up to twice the memory of what is in it. */
const memoryPerByte = 2;

const DROPPED = 2;

export type Unnumbered<T> = T extends unknown ? Omit<T, "frame"> : never;

export interface FrameCounters {
  sendsDropped: number;
}

export class Frames {
  private readonly socket: Socket;
  private readonly budgetBytes: number;
  private readonly windowBytes: number;
  private readonly counters: FrameCounters;
  private number = 0;
  private numberAtLastLook = 0;
  private checksum = 0;
  private answerBytes = 0;
  private draining: (() => void)[] = [];
  /** Bytes of all frames so far. */
  sentBytes = 0;
  /** The socket is gone, or about to be. */
  over = false;
  /** What the client shows once it has applied everything sent. */
  position: Lsn = zeroLsn;
  /** Commits were sent that no boundary has followed yet. */
  insideCommit = false;

  constructor(socket: Socket, budgetBytes: number, counters: FrameCounters) {
    this.socket = socket;
    this.budgetBytes = budgetBytes / memoryPerByte;
    this.windowBytes = Math.min(windowBytesMax, this.budgetBytes / 2);
    this.counters = counters;
  }

  control(message: Unnumbered<ServerMessage>): void {
    if (this.over) return;
    const text = JSON.stringify({ frame: ++this.number, ...message });
    if (this.buffered === 0) this.answerBytes = 0;
    if (answers.has(message.kind)) this.answerBytes += text.length;
    this.sent(this.socket.send(text, false, false));
    if (this.answerBytes > unreadAnswerBytesMax) this.close(closeCodes.tooMany, "slow_consumer");
  }

  frame(kind: FrameKind, boundary: boolean, position: Lsn, sections: readonly SectionOut[]): void {
    if (this.over) return;
    must(position >= this.position, "position_order", "a connection's position never goes back");
    must(
      kind === "commits" || !boundary || !this.insideCommit,
      "joined_whole",
      "a commit is shown whole or not at all",
    );
    if (kind === "commits") this.insideCommit = !boundary;
    this.position = position;
    const headerBytes = frameHeaderBytes(sections.length);
    const size = headerBytes + sectionBytes(sections);
    const bytes = size <= joinedBytesMax ? outgoing : new Uint8Array(headerBytes);
    this.checksum = encodeFrameHeader(
      bytes,
      { kind, boundary, number: ++this.number, position },
      sections,
      this.checksum,
    );
    this.sentBytes += size;
    if (bytes !== outgoing) return void this.socket.cork(() => this.writeFragments(bytes, sections));
    if (sections !== lying) join(outgoing, headerBytes, sections);
    lying = sections;
    if (whole.length !== size) whole = outgoing.subarray(0, size);
    this.sent(this.socket.send(whole, true, false));
  }

  /** Takes effect with the boundary of the transaction that it comes before. */
  alter(id: number, table: TableDescription, added: readonly AddedColumn[]): void {
    this.insideCommit = true;
    this.control({ kind: "altered", id, table, added });
  }

  /** Whatever was sent since the last boundary is to be forgotten: it comes again. */
  rewind(): void {
    if (!this.insideCommit) return;
    this.insideCommit = false;
    this.control({ kind: "rewind" });
  }

  /** Whether nothing was sent since this was last asked. */
  idle(): boolean {
    const idle = this.number === this.numberAtLastLook;
    this.numberAtLastLook = this.number;
    return idle && this.buffered === 0;
  }

  /** Whether a frame of this size keeps to the budget. */
  takes(bytes: number): boolean {
    const { buffered } = this;
    return buffered === 0 || buffered + bytes <= this.budgetBytes;
  }

  /** Whether bulk may be sent: first rows, and what a client that is behind has to catch up with. */
  takesBulk(bytes: number): boolean {
    return this.buffered <= this.windowBytes && this.takes(bytes);
  }

  /** Resolves when the socket has room for bulk, or is over. */
  async room(bytes = 0): Promise<void> {
    while (!this.over && !this.takesBulk(bytes)) await new Promise<void>((resolve) => this.draining.push(resolve));
  }

  /** The socket took something. */
  drained(): void {
    const waiting = this.draining;
    this.draining = [];
    for (const resolve of waiting) resolve();
  }

  /** The socket is gone, or about to be: nothing is sent from here on. */
  end(): void {
    this.over = true;
    this.drained();
  }

  close(code: number, reason: string): void {
    if (this.over) return;
    this.end();
    this.socket.end(code, reason);
  }

  /** Bytes that wait for the client in our memory. */
  get buffered(): number {
    return this.over ? 0 : this.socket.getBufferedAmount();
  }

  private writeFragments(header: Uint8Array, sections: readonly SectionOut[]): void {
    const last = sections.length - 1;
    let status = this.socket.sendFirstFragment(header, true, false);
    sections.forEach(({ payload }, i) => {
      if (status === DROPPED) return;
      status =
        i < last ? this.socket.sendFragment(payload.bytes, false) : this.socket.sendLastFragment(payload.bytes, false);
    });
    this.sent(status);
  }

  /** Nothing should ever be dropped, as the library has no limit of its own. If it is, this connection has a gap, and ends. */
  private sent(status: number): void {
    if (status !== DROPPED) return;
    this.counters.sendsDropped++;
    noteBreach("send_seen");
    this.close(closeCodes.goingAway, "invariant");
  }
}

export function sectionBytes(sections: readonly SectionOut[]): number {
  let size = 0;
  for (const { payload } of sections) size += payload.bytes.length;
  return size;
}

/** The payloads behind the header. */
function join(bytes: Uint8Array, headerBytes: number, sections: readonly SectionOut[]): void {
  let at = headerBytes;
  for (const { payload } of sections) {
    bytes.set(payload.bytes, at);
    at += payload.bytes.length;
  }
}
