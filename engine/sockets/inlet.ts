/**
 * The receiving end of a connection inside the engine: a socket whose messages are read here, as a client reads them, and after
 * everybody else was served.
 */
import { decodeFrame, type Frame, type ServerMessage } from "../protocol.ts";
import type { Socket } from "./frames.ts";

export interface InletHooks {
  control(message: ServerMessage): void;
  frame(frame: Frame): void;
  /** The engine ended the connection. */
  ended(reason: string): void;
  /** What came cannot be. */
  failed(error: unknown): void;
  /** Where whoever takes it may be slow: the bytes that wait there. Less than that is told to the connection's frames. */
  waiting?(): number;
  /** What came has been read. */
  read?(): void;
}

export class Inlet implements Socket {
  private readonly hooks: InletHooks;
  private received: (Uint8Array | string)[] = [];
  private receivedBytes = 0;
  private fragments: Uint8Array[] = [];
  private number = 0;
  private checksum = 0;
  private over = false;

  constructor(hooks: InletHooks) {
    this.hooks = hooks;
  }

  /** Nothing more is read. */
  close(): void {
    this.over = true;
    this.received = [];
  }

  /** The bytes are only lent. */
  send(message: string | Uint8Array): number {
    return this.keep(typeof message === "string" ? message : Buffer.from(message));
  }

  private keep(message: string | Uint8Array): number {
    this.receivedBytes += message.length;
    if (this.received.push(message) === 1) queueMicrotask(() => this.read());
    return sent;
  }

  sendFirstFragment(message: Uint8Array): number {
    this.fragments = [message];
    return sent;
  }

  sendFragment(message: Uint8Array): number {
    this.fragments.push(message);
    return sent;
  }

  sendLastFragment(message: Uint8Array): number {
    return this.keep(Buffer.concat([...this.fragments, message]));
  }

  cork(write: () => void): void {
    write();
  }

  getBufferedAmount(): number {
    return this.hooks.waiting ? this.receivedBytes + this.hooks.waiting() : 0;
  }

  end(_code?: number, reason = "closed"): void {
    this.hooks.ended(reason);
  }

  private read(): void {
    const { received } = this;
    this.received = [];
    this.receivedBytes = 0;
    try {
      for (const message of received) if (!this.over) this.take(message);
    } catch (error) {
      this.hooks.failed(error);
    }
    this.hooks.read?.();
  }

  private take(message: Uint8Array | string): void {
    if (typeof message === "string") {
      const control = JSON.parse(message) as ServerMessage;
      this.number = control.frame;
      return this.hooks.control(control);
    }
    const frame = decodeFrame(message, { number: this.number + 1, previousChecksum: this.checksum });
    this.number = frame.number;
    this.checksum = frame.checksum;
    this.hooks.frame(frame);
  }
}

/** uWebSockets.js' word for it. */
const sent = 1;
