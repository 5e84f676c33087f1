/**
 * One connection's outgoing side: numbers every message, chains the checksums, watches the budget. Nothing is dropped
 * silently: a client that does not take what it is sent is closed with a code, and starts anew when it comes back.
 */
import assert from "node:assert/strict";
import {
  closeCodes,
  encodeFrameHeader,
  type FrameKind,
  type Lsn,
  type SectionOut,
  type ServerMessage,
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

/** Bulk rows are sent only while less than this waits in the socket, so that live frames do not queue behind megabytes. */
const windowBytes = 512 * 1024;

const DROPPED = 2;

type Unnumbered<T> = T extends unknown ? Omit<T, "frame"> : never;

export interface FrameCounters {
  sendsDropped: number;
  slowConsumers: number;
}

export class Frames {
  private readonly socket: Socket;
  private readonly budgetBytes: number;
  private readonly counters: FrameCounters;
  private number = 0;
  private numberAtLastLook = 0;
  private checksum = 0;
  private draining: (() => void)[] = [];
  private over = false;
  /** What the client shows once it has applied everything sent. */
  position: Lsn = zeroLsn;

  constructor(socket: Socket, budgetBytes: number, counters: FrameCounters) {
    this.socket = socket;
    this.budgetBytes = budgetBytes;
    this.counters = counters;
  }

  control(message: Unnumbered<ServerMessage>): void {
    if (this.over) return;
    const text = JSON.stringify({ frame: ++this.number, ...message });
    this.sent(this.socket.send(text, false, false));
  }

  frame(kind: FrameKind, boundary: boolean, position: Lsn, sections: readonly SectionOut[]): void {
    if (this.over) return;
    assert(position >= this.position, "a connection's position never goes back");
    this.position = position;
    const { bytes, checksum } = encodeFrameHeader(
      { kind, boundary, number: ++this.number, position },
      sections,
      this.checksum,
    );
    this.checksum = checksum;
    this.write(bytes, sections);
  }

  /** Whether nothing was sent since this was last asked. */
  idle(): boolean {
    const idle = this.number === this.numberAtLastLook;
    this.numberAtLastLook = this.number;
    return idle;
  }

  /** Resolves when the socket has room for bulk data, or is over. */
  async room(): Promise<void> {
    while (!this.over && this.socket.getBufferedAmount() > windowBytes) {
      await new Promise<void>((resolve) => this.draining.push(resolve));
    }
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

  private write(header: Uint8Array, sections: readonly SectionOut[]): void {
    let size = header.length;
    for (const { payload } of sections) size += payload.bytes.length;
    if (sections.length === 0 || size <= joinedBytesMax)
      this.sent(this.socket.send(join(header, sections, size), true, false));
    else this.socket.cork(() => this.writeFragments(header, sections));
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

  private sent(status: number): void {
    if (status === DROPPED) this.counters.sendsDropped++;
    // The library may have closed the socket within the call, and a closed one must not be touched.
    if (this.over) return;
    if (status !== DROPPED && this.socket.getBufferedAmount() <= this.budgetBytes) return;
    this.counters.slowConsumers++;
    this.end();
    this.socket.end(closeCodes.tooMany, "slow_consumer");
  }
}

function join(header: Uint8Array, sections: readonly SectionOut[], size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(header);
  let at = header.length;
  for (const { payload } of sections) {
    bytes.set(payload.bytes, at);
    at += payload.bytes.length;
  }
  return bytes;
}
