/**
 * What happened to a shape since a position, and what happens from there on: a connection inside the engine that goes on there, with
 * nothing in memory but what is told. Where the log does not reach, or the table is another one, it says so.
 */
import type { Auth } from "../authenticate.ts";
import { WalcastError } from "../errors.ts";
import { type Commit, decodeCommits, type Frame, type Lsn, type ServerMessage } from "../protocol.ts";
import type { Shape } from "../shapes/shape.ts";
import { Feed } from "../sockets/feed.ts";
import { Frames } from "../sockets/frames.ts";
import type { Hub } from "../sockets/hub.ts";
import { Lane } from "../sockets/lane.ts";
import { Inlet } from "../sockets/inlet.ts";

export interface ReplayHooks {
  /** Whole commits, in their order. */
  onCommits(commits: readonly Commit[], position: Lsn): void;
  /** Everything up to now was told. */
  onLive(position: Lsn): void;
  onOver(reason: WalcastError): void;
}

export class Replay {
  private readonly hub: Hub;
  private readonly feed: Feed;
  private readonly lane: Lane;
  private readonly inlet: Inlet;
  private readonly hooks: ReplayHooks;
  private staged: Commit[] = [];
  private over = false;

  /** `shape`: with whole old rows. */
  constructor(hub: Hub, shape: Shape, hooks: ReplayHooks) {
    this.hub = hub;
    this.hooks = hooks;
    this.inlet = new Inlet({
      control: (message) => this.control(message),
      frame: (frame) => this.frame(frame),
      ended: (reason) => this.fail(new WalcastError("connection_lost", `replay: the engine ended it: ${reason}`)),
      failed: (error) =>
        this.fail(new WalcastError("invariant", "replay: what was sent could not be read", { cause: error })),
    });
    this.feed = new Feed(new Frames(this.inlet, Number.MAX_SAFE_INTEGER, hub.counters));
    this.lane = new Lane(hub, this.feed, {
      id: 1,
      changes: true,
      shown: undefined,
      resolve: () => Promise.resolve(shape),
      auth: () => nobody,
      onEnded: () => {},
    });
  }

  async start(identity: string, position: Lsn): Promise<void> {
    this.feed.frames.position = this.feed.reached = position;
    await this.lane.resume(identity);
    if (this.over) return;
    this.hub.catchUp.enter(this.feed);
    await this.feed.live();
    // What was sent before is read before.
    queueMicrotask(() => this.over || this.hooks.onLive(this.hub.position));
  }

  close(): void {
    if (this.over) return;
    this.over = true;
    this.inlet.close();
    this.feed.frames.end();
    this.lane.end();
    this.hub.disconnected(this.feed);
  }

  private fail(reason: WalcastError): void {
    if (this.over) return;
    this.close();
    this.hooks.onOver(reason);
  }

  private control(message: ServerMessage): void {
    if (message.kind === "rewind") this.staged = [];
    else if (message.kind === "resync") this.fail(new WalcastError(message.cause.code, message.cause.message));
    else if (message.kind === "altered")
      this.fail(new WalcastError("schema_changed", "replay: the table has another form"));
    else if (message.kind === "error") this.fail(new WalcastError(message.error.code, message.error.message));
  }

  private frame({ kind, sections, boundary, position }: Frame): void {
    if (kind !== "commits") return;
    for (const { payload } of sections) this.staged.push(...decodeCommits(payload));
    if (!boundary || this.staged.length === 0) return;
    const { staged } = this;
    this.staged = [];
    this.hooks.onCommits(staged, position);
  }
}

/** Its shape is resolved before. */
const nobody: Auth = { claims: {}, scopes: [] };
