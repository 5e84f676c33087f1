/**
 * One socket to the server: opened, spoken over, and let go of. What comes over it is all there and in order, or the link is no
 * good. Once dropped it says nothing more.
 */
import {
  type ClientMessage,
  decodeFrame,
  errorFromJson,
  type Frame,
  type ServerMessage,
  subprotocol,
  WalcastError,
} from "../engine/protocol.ts";
import { errorOfClose } from "./connection-errors.ts";
import { type Edge, syncUrl } from "./edge.ts";
import { parseMessage } from "./messages.ts";

export interface LinkHooks {
  opened(): void;
  /** Before what came is looked at. */
  heard(): void;
  message(message: ServerMessage): void;
  frame(frame: Frame): void;
  /** What came cannot be right. */
  damaged(error: WalcastError): void;
  closed(code: number, why: WalcastError): void;
}

export class Link {
  /** Resolves when the socket is gone, whoever closed it. */
  readonly gone: Promise<void>;
  /** The longest message that the server takes. */
  bytesMax = Infinity;
  private readonly socket: WebSocket;
  private readonly hooks: LinkHooks;
  private number = 0;
  private checksum = 0;
  /** The server says why before it closes; the close that follows has only a number. */
  private refusal: WalcastError | undefined;

  constructor(edge: Edge, url: string, hooks: LinkHooks) {
    this.hooks = hooks;
    const socket = (this.socket = edge.open(syncUrl(url), subprotocol));
    socket.binaryType = "arraybuffer";
    // From the start: where drop() finds a socket still connecting, Node's fires the event before close() returns.
    this.gone = new Promise((resolve) => socket.addEventListener("close", () => resolve(), { once: true }));
    socket.onopen = () => hooks.opened();
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => this.receive(data);
    socket.onclose = ({ code, reason }) => hooks.closed(code, this.refusal ?? errorOfClose(code, reason));
    // A close event always follows and says more.
    socket.onerror = () => {};
  }

  /** Throws `too_large` where the server would end the connection over it, again and again. */
  send(message: ClientMessage): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const text = JSON.stringify(message);
    if (isLonger(text, this.bytesMax))
      throw new WalcastError(
        "too_large",
        `send ${message.kind}: expected at most ${this.bytesMax} bytes, which is what the server takes, found more`,
        { hint: "ask for less, or raise limits.messageBytes of the engine" },
      );
    this.socket.send(text);
  }

  drop(): void {
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }

  private receive(data: string | ArrayBuffer): void {
    this.hooks.heard();
    try {
      if (typeof data === "string") this.text(parseMessage(data));
      else this.binary(new Uint8Array(data));
    } catch (error) {
      if (!(error instanceof WalcastError)) throw error;
      this.hooks.damaged(error);
    }
  }

  private text(message: ServerMessage): void {
    const expected = this.number + 1;
    if (message.frame !== expected)
      throw new WalcastError(
        "frame_out_of_order",
        `read a message: expected number ${expected}, found ${message.frame}`,
      );
    this.number = expected;
    if (message.kind === "error" && isOfAll(message)) this.refusal = errorFromJson(message.error);
    else this.hooks.message(message);
  }

  private binary(bytes: Uint8Array): void {
    const frame = decodeFrame(bytes, { number: this.number + 1, previousChecksum: this.checksum });
    this.number = frame.number;
    this.checksum = frame.checksum;
    this.hooks.frame(frame);
  }
}

/** Of UTF-8 has a UTF-16 code unit at most three bytes. */
function isLonger(text: string, bytesMax: number): boolean {
  return text.length * 3 > bytesMax && new TextEncoder().encode(text).length > bytesMax;
}

/** The connection is about to close. */
function isOfAll({ subscription, await: awaited, topic }: Extract<ServerMessage, { kind: "error" }>): boolean {
  return subscription === undefined && awaited === undefined && topic === undefined;
}
