/**
 * A connection whose socket is here, with one subscription to messages: what any client is sent, as it comes. How much waits for
 * its reader is what waits in the socket, so one that is slow falls behind and is caught up from the log like any other.
 */
import type { Auth } from "../authenticate.ts";
import { WalcastError } from "../errors.ts";
import { type Commit, decodeCommits, decodeFrame, type ErrorJson, type Lsn, type ServerMessage } from "../protocol.ts";
import type { MessageShape } from "../shapes/message-shape.ts";
import { Feed } from "../sockets/feed.ts";
import { Frames, type Socket } from "../sockets/frames.ts";
import type { From } from "../sockets/history.ts";
import type { Hub } from "../sockets/hub.ts";
import { Lane } from "../sockets/lane.ts";

export interface MessageSink {
  /** What waits for the reader, in bytes, and when less does. */
  readonly stream: { readonly waiting: number; drained(): Promise<void> };
  listening(from: string, cause: ErrorJson | undefined): void;
  commit(commit: Commit): void;
  rewind(): void;
  boundary(): void;
  position(position: Lsn): void;
}

/** uWebSockets.js' word for it. */
const sent = 1;

const nobody: Auth = { claims: {}, scopes: [] };
const budgetBytes = 1 << 20;

export class MessageReader implements Socket {
  private readonly hub: Hub;
  private readonly sink: MessageSink;
  private readonly feed: Feed;
  private readonly lane: Lane;
  private readonly onOver: (reason: WalcastError) => void;
  private fragments: Uint8Array[] = [];
  private number = 0;
  private checksum = 0;
  private isWaiting = false;

  constructor(hub: Hub, shape: MessageShape, sink: MessageSink, onOver: (reason: WalcastError) => void) {
    this.hub = hub;
    this.sink = sink;
    this.onOver = onOver;
    this.feed = new Feed(new Frames(this, budgetBytes, hub.counters));
    this.lane = new Lane(hub, this.feed, {
      id: 1,
      changes: true,
      shown: undefined,
      resolve: async () => shape,
      auth: () => nobody,
      onEnded: () => {},
    });
  }

  start(from: From): void {
    this.feed.frames.position = this.hub.position;
    this.hub.connections.add(this.feed);
    this.hub.goLive(this.feed);
    this.lane.loadFrom(from);
  }

  close(): void {
    this.feed.frames.end();
    this.lane.end();
    this.hub.disconnected(this.feed);
  }

  send(message: string | Uint8Array): number {
    if (typeof message === "string") this.control(JSON.parse(message) as ServerMessage);
    else this.frame(message);
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
    return this.send(Buffer.concat([...this.fragments, message]));
  }

  cork(write: () => void): void {
    write();
  }

  getBufferedAmount(): number {
    const { waiting } = this.sink.stream;
    if (waiting > 0) void this.whenDrained();
    return waiting;
  }

  end(_code?: number, reason = "closed"): void {
    this.close();
    this.onOver(new WalcastError("connection_lost", `listen: the engine ended the connection: ${reason}`));
  }

  private async whenDrained(): Promise<void> {
    if (this.isWaiting) return;
    this.isWaiting = true;
    await this.sink.stream.drained();
    this.isWaiting = false;
    this.feed.frames.drained();
  }

  private control(message: ServerMessage): void {
    this.number = message.frame;
    if (message.kind === "listening") this.sink.listening(message.from, message.cause);
    else if (message.kind === "rewind") this.sink.rewind();
    else if (message.kind === "error") {
      const { code, message: text, hint } = message.error;
      this.close();
      this.onOver(new WalcastError(code, text, { hint }));
    }
  }

  private frame(bytes: Uint8Array): void {
    const frame = decodeFrame(bytes, { number: this.number + 1, previousChecksum: this.checksum });
    this.number = frame.number;
    this.checksum = frame.checksum;
    for (const { payload } of frame.sections) for (const commit of decodeCommits(payload)) this.sink.commit(commit);
    if (!frame.boundary) return;
    this.sink.boundary();
    if (frame.kind === "position" && this.feed.joined.size > 0) this.sink.position(frame.position);
  }
}
