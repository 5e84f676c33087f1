/**
 * A connection whose socket is here, with one subscription to messages: what any client is sent, as it comes. How much waits for
 * its reader is what waits in the socket, so one that is slow falls behind and is caught up from the log like any other.
 */
import type { Auth } from "../authenticate.ts";
import { WalcastError } from "../errors.ts";
import { type Commit, decodeCommits, type ErrorJson, type Frame, type Lsn, type ServerMessage } from "../protocol.ts";
import type { MessageShape } from "../shapes/message-shape.ts";
import { Feed } from "../sockets/feed.ts";
import { Frames } from "../sockets/frames.ts";
import type { From } from "../sockets/history.ts";
import type { Hub } from "../sockets/hub.ts";
import { Lane } from "../sockets/lane.ts";
import { Inlet } from "../sockets/inlet.ts";

export interface MessageSink {
  /** What waits for the reader, in bytes, and when less does. */
  readonly stream: { readonly waiting: number; drained(): Promise<void> };
  listening(from: string, cause: ErrorJson | undefined): void;
  commit(commit: Commit): void;
  rewind(): void;
  boundary(): void;
  position(position: Lsn): void;
}

const nobody: Auth = { claims: {}, scopes: [] };
const budgetBytes = 1 << 20;

export class MessageReader {
  private readonly hub: Hub;
  private readonly sink: MessageSink;
  private readonly feed: Feed;
  private readonly lane: Lane;
  private readonly onOver: (reason: WalcastError) => void;
  private readonly inlet: Inlet;
  private isWaiting = false;

  constructor(hub: Hub, shape: MessageShape, sink: MessageSink, onOver: (reason: WalcastError) => void) {
    this.hub = hub;
    this.sink = sink;
    this.onOver = onOver;
    this.inlet = new Inlet({
      control: (message) => this.control(message),
      frame: (frame) => this.frame(frame),
      ended: (reason) =>
        this.fail(new WalcastError("connection_lost", `listen: the engine ended the connection: ${reason}`)),
      failed: (cause) => this.fail(new WalcastError("invariant", "listen: what was sent cannot be read", { cause })),
      waiting: () => this.waiting(),
      read: () => this.feed.frames.drained(),
    });
    this.feed = new Feed(new Frames(this.inlet, budgetBytes, hub.counters));
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
    this.inlet.close();
    this.feed.frames.end();
    this.lane.end();
    this.hub.disconnected(this.feed);
  }

  private fail(reason: WalcastError): void {
    this.close();
    this.onOver(reason);
  }

  private waiting(): number {
    const { waiting } = this.sink.stream;
    if (waiting > 0) void this.whenDrained();
    return waiting;
  }

  private async whenDrained(): Promise<void> {
    if (this.isWaiting) return;
    this.isWaiting = true;
    await this.sink.stream.drained();
    this.isWaiting = false;
    this.feed.frames.drained();
  }

  private control(message: ServerMessage): void {
    if (message.kind === "listening") this.sink.listening(message.from, message.cause);
    else if (message.kind === "rewind") this.sink.rewind();
    else if (message.kind === "error") {
      const { code, message: text, hint } = message.error;
      this.fail(new WalcastError(code, text, { hint }));
    }
  }

  private frame({ kind, boundary, position, sections }: Frame): void {
    for (const { payload } of sections) for (const commit of decodeCommits(payload)) this.sink.commit(commit);
    if (!boundary) return;
    this.sink.boundary();
    if (kind === "position" && this.feed.joined.size > 0) this.sink.position(position);
  }
}
