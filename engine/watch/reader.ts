/**
 * A client inside the engine: a connection whose socket is here, with one subscription for each shape, and their rows in
 * memory. It reads what every client is sent, so all that holds for those holds for it: rows and changes spliced, commits
 * whole, all of its shapes at one position.
 */
import type { Auth } from "../authenticate.ts";
import { WalcastError } from "../errors.ts";
import { type Commit, decodeCommits, type Frame, type Lsn, type ServerMessage, zeroLsn } from "../protocol.ts";
import type { Shape } from "../shapes/shape.ts";
import { Feed } from "../sockets/feed.ts";
import { Frames } from "../sockets/frames.ts";
import type { Hub } from "../sockets/hub.ts";
import { Lane } from "../sockets/lane.ts";
import { Inlet } from "../sockets/inlet.ts";
import { parseCopyText } from "./copy-text.ts";
import { type RowChange, Rows } from "./rows.ts";

/** What one commit changed, shape by shape. */
export interface CommitChanges {
  readonly position: Lsn;
  readonly shapes: readonly { readonly index: number; readonly changes: readonly RowChange[] }[];
}

export interface ReaderHooks {
  /** Rows came that are not shown yet. */
  onLoading(): void;
  /** All shapes have their rows. */
  onReady(): void;
  onCommit(commit: CommitChanges): void;
  /** Rows have another form: what was said of them is to be said again. */
  onAltered(): void;
  /** It cannot go on: a table is another one, or cannot be read any more. Nothing follows. */
  onOver(reason: WalcastError): void;
}

interface Subscription {
  readonly lane: Lane;
  shown: Rows | undefined;
  loading: Rows | undefined;
}

type Altered = Extract<ServerMessage, { kind: "altered" }>;

export class Reader {
  private readonly feed: Feed;
  private readonly hub: Hub;
  private readonly hooks: ReaderHooks;
  private readonly subscriptions: Subscription[];
  private readonly inlet: Inlet;
  /** Since the last boundary, by position and subscription. */
  private staged = new Map<Lsn, Map<number, Commit[]>>();
  private altered: Altered[] = [];
  private isReady = false;
  private over = false;
  position: Lsn = zeroLsn;

  /** `resolve`: the shapes that it reads, each as it is now. */
  constructor(hub: Hub, resolve: readonly (() => Promise<Shape>)[], hooks: ReaderHooks) {
    this.hub = hub;
    this.hooks = hooks;
    this.inlet = new Inlet({
      control: (message) => this.control(message),
      frame: (frame) => this.frame(frame),
      ended: (reason) =>
        this.fail(new WalcastError("connection_lost", `watch: the engine ended the connection: ${reason}`)),
      failed: (error) => {
        hub.log.error({ err: error }, "reading what clients are sent failed: it is read again");
        this.fail(new WalcastError("invariant", "watch: what was sent could not be read", { cause: error }));
      },
    });
    this.feed = new Feed(new Frames(this.inlet, Number.MAX_SAFE_INTEGER, hub.counters));
    this.subscriptions = resolve.map((shape, i) => ({
      lane: new Lane(hub, this.feed, {
        id: i + 1,
        changes: false,
        shown: undefined,
        resolve: shape,
        auth: () => nobody,
        onEnded: () => {},
      }),
      shown: undefined,
      loading: undefined,
    }));
  }

  start(): void {
    this.feed.frames.position = this.hub.position;
    this.hub.goLive(this.feed);
    for (const { lane } of this.subscriptions) void lane.load();
  }

  close(): void {
    if (this.over) return;
    this.over = true;
    this.inlet.close();
    this.feed.frames.end();
    for (const { lane } of this.subscriptions) lane.end();
    this.hub.disconnected(this.feed);
  }

  /** Of the shape at this place, once it is ready. */
  rows(index: number): Rows {
    return this.subscriptions[index]!.shown!;
  }

  shape(index: number): Shape {
    return this.feed.joined.get(this.subscriptions[index]!.lane) as Shape;
  }

  /** About what its rows take in memory, and what is about to be among them. */
  get bytes(): number {
    let bytes = 0;
    for (const { shown, loading } of this.subscriptions) bytes += (shown?.bytes ?? 0) + (loading?.bytes ?? 0);
    return bytes;
  }

  // ── What came ───────────────────────────────────────────────────────────────────────────────────────────────────────

  private fail(reason: WalcastError): void {
    if (this.over) return;
    this.close();
    this.hooks.onOver(reason);
  }

  private control(message: ServerMessage): void {
    if (message.kind === "described") this.subscriptions[message.id - 1]!.loading = new Rows(message.table);
    else if (message.kind === "altered") this.altered.push(message);
    else if (message.kind === "rewind") this.forgetStaged();
    else if (message.kind === "resync") this.fail(errorOf(message.cause));
    else if (message.kind === "error") this.fail(errorOf(message.error));
  }

  private frame(frame: Frame): void {
    if (frame.kind === "copy") this.copy(frame);
    else if (frame.kind === "catchUp") this.catchUp(frame);
    else if (frame.kind === "join") this.join(frame);
    else this.commits(frame);
  }

  private copy({ sections }: Frame): void {
    for (const { subscription, payload } of sections)
      for (const row of parseCopyText(payload)) this.subscriptions[subscription - 1]!.loading!.put(row);
    this.hooks.onLoading();
  }

  private catchUp({ sections }: Frame): void {
    for (const { subscription, payload } of sections)
      this.subscriptions[subscription - 1]!.loading!.apply(decodeCommits(payload));
  }

  private join(frame: Frame): void {
    this.catchUp(frame);
    for (const { subscription } of frame.sections) {
      const one = this.subscriptions[subscription - 1]!;
      one.shown = one.loading;
      one.loading = undefined;
    }
    this.position = frame.position;
    if (this.isReady || !this.subscriptions.every(({ shown }) => shown)) return;
    this.isReady = true;
    this.hooks.onReady();
  }

  private commits({ sections, boundary, position }: Frame): void {
    for (const { subscription, payload } of sections)
      for (const commit of decodeCommits(payload)) this.stage(subscription, commit);
    if (boundary) this.apply(position);
  }

  private stage(subscription: number, commit: Commit): void {
    let parts = this.staged.get(commit.position);
    if (!parts) this.staged.set(commit.position, (parts = new Map()));
    const before = parts.get(subscription);
    if (before) before.push(commit);
    else parts.set(subscription, [commit]);
  }

  /** Each commit by itself, in their order. What was altered came before the first of them. */
  private apply(position: Lsn): void {
    const { altered, staged } = this;
    this.forgetStaged();
    for (const { id, table, added } of altered) this.subscriptions[id - 1]!.shown!.alter(table, added);
    for (const [at, parts] of [...staged].sort(([a], [b]) => (a < b ? -1 : 1))) this.applyCommit(at, parts);
    this.position = position;
    if (altered.length > 0) this.hooks.onAltered();
  }

  private applyCommit(position: Lsn, parts: ReadonlyMap<number, readonly Commit[]>): void {
    const shapes: CommitChanges["shapes"][number][] = [];
    for (const [subscription, commits] of parts) {
      const changes = this.rows(subscription - 1).apply(commits);
      if (changes.length > 0) shapes.push({ index: subscription - 1, changes });
    }
    this.position = position;
    if (this.isReady && shapes.length > 0) this.hooks.onCommit({ position, shapes });
  }

  private forgetStaged(): void {
    this.staged = new Map();
    this.altered = [];
  }
}

/** What it may read is decided before: its shapes are resolved by whoever asks for them. */
const nobody: Auth = { claims: {}, scopes: [] };

export function errorOf({
  code,
  message,
  position,
  hint,
}: Extract<ServerMessage, { kind: "error" }>["error"]): WalcastError {
  return new WalcastError(code, message, { position, hint });
}
