/**
 * A client whose replica is elsewhere: in a worker, or in another page's worker. It has the public face of one that has its
 * replica here, and says everything to a host.
 */
import type { PGlite } from "@electric-sql/pglite";
import type { Kysely } from "kysely";

import { formatLsn, type Lsn, parseLsn, WalcastError } from "../../engine/protocol.ts";
import type { Channel } from "../channel.ts";
import type { Token } from "../renewal.ts";
import type { ChannelOptions, Client, ClientOptions, ClientStatus, Inspection, Queryable, Shapes } from "../index.ts";
import { Listeners } from "../listeners.ts";
import type { LiveOptions, LiveQuery } from "../live.ts";
import type { Row } from "../row.ts";
import { type Shape, type ShapeOptions, ttlOf } from "../shape.ts";
import { parsePlace } from "../storage/place.ts";
import { alwaysCurrent } from "../storage/storage.ts";
import { parseTableName } from "../table-name.ts";
import { checkKeys, type Revalidated } from "../revalidations.ts";
import { type EphemeralTopic, Meetings } from "../meetings.ts";
import { type EphemeralOptions, checkTopic, type Topic, type TopicListener, type TopicOptions } from "../topic.ts";
import { onWake } from "../wake.ts";
import { GuestChannel } from "./guest-channel.ts";
import { createGuestKysely } from "./guest-kysely.ts";
import { GuestLive } from "./guest-live.ts";
import { createGuestPglite } from "./guest-pglite.ts";
import { GuestShape } from "./guest-shape.ts";
import { GuestKeys } from "./guest-keys.ts";
import { GuestTopic } from "./guest-topic.ts";
import { Link } from "./link.ts";
import type { MeetingMessage } from "./meetings.ts";

const AWAIT_TIMEOUT_MS = 10_000;

/** What brings a guest and its hosts together. */
export interface Meeting {
  /** Calls `attach` for every host there is, one after the other, and `detach` when it is gone. */
  start(
    link: Pick<Link, "attach" | "detach" | "refuse" | "trouble" | "ping" | "heardMs" | "isWelcome">,
    token: () => Promise<string | undefined>,
  ): void;
  /** Resolves when it is settled whether the guest stays with its host. */
  tokenChanged(): Promise<void>;
  /** The guest has closed. Resolves when nothing of it is left. */
  close(): Promise<void>;
}

export type GuestOptions<Name extends string> = Pick<ClientOptions<Name>, "token" | "shapes"> & {
  readonly replica: string;
};

/** Who waits for something to be seen inspects at every turn. */
const LOOK_EVERY_MS = 250;

const nothingKnown: Omit<Inspection, "storage"> = {
  status: "connecting",
  position: "0/0",
  serverPosition: "0/0",
  epoch: undefined,
  connections: 0,
  authentications: 0,
  breaches: 0,
  resumes: 0,
  resyncs: 0,
  purges: 0,
  refetches: 0,
  transactions: 0,
  lastError: undefined,
  shapes: [],
  channels: [],
  live: [],
  lastTransactions: [],
  statusHistory: [],
};

export class GuestClient<DB, Name extends string> implements Client<DB, Name> {
  readonly shapes: Shapes<DB, Name>;
  readonly kysely: Kysely<DB>;
  readonly pglite: PGlite;
  position = "0/0";
  private currentStatus: ClientStatus = "connecting";
  private token: Token | undefined;
  private inspection: Inspection;
  private lookedMs = -Infinity;
  private readonly link: Link;
  private readonly meeting: Meeting;
  private readonly meetings: Meetings;
  private readonly statusListeners = new Listeners<[ClientStatus]>();
  private readonly handles = new Set<{ abandon(error: WalcastError): void }>();
  /** The host's position is not known to be what was shown. */
  private isBehind = false;
  private readonly sleep: () => void;
  private isClosed = false;
  private closing: Promise<void> | undefined;
  /** Why the last host went, where it had to: those that come after it do not know. */
  private trouble: WalcastError | undefined;
  /** Why there is no replica, for now or for ever. */
  private failure: WalcastError | undefined;

  constructor({ token, shapes, replica }: GuestOptions<Name>, meeting: Meeting) {
    this.token = token;
    this.inspection = { ...nothingKnown, storage: alwaysCurrent(parsePlace(replica).kind) };
    this.meeting = meeting;
    this.link = this.createLink();
    this.meetings = new Meetings((message) => this.link.meet(message as MeetingMessage));
    this.kysely = createGuestKysely<DB>(this.link);
    this.pglite = createGuestPglite(this.link);
    const declared = Object.entries<ShapeOptions>(shapes ?? {}).map(
      ([name, shape]) => [name, this.sync(shape)] as const,
    );
    this.shapes = Object.fromEntries(declared) as unknown as Shapes<DB, Name>;
    this.sleep = onWake(() => this.wake());
    meeting.start(this.link, () => this.currentToken());
  }

  get status(): ClientStatus {
    return this.currentStatus;
  }

  onStatus(listener: (status: ClientStatus) => void): () => void {
    return this.statusListeners.add(listener);
  }

  sync(options: ShapeOptions): Shape {
    this.refuseIfClosed("sync a shape");
    parseTableName(options.table);
    ttlOf(options);
    const shape = new GuestShape(options, {
      describe: () => this.link.call("describe", opened.id),
      leave: async () => {
        this.handles.delete(shape);
        shape.abandon(new WalcastError("closed", "wait for a shape: it was unsubscribed"));
        await opened.close();
      },
    });
    this.handles.add(shape);
    const opened = this.link.open("shape", options, shape);
    if (this.failure) shape.failed(this.failure)();
    return shape;
  }

  async preload(): Promise<void> {
    await Promise.all(Object.values<Shape>(this.shapes).map(({ ready }) => ready));
  }

  async query<R extends object = Row>(sql: string, params: readonly unknown[] = []): Promise<R[]> {
    this.refuseIfClosed("run a query");
    return (await this.link.call("query", sql, params)) as R[];
  }

  live<R extends object = Row>(
    query: Queryable<DB, R>,
    params: readonly unknown[] = [],
    options: LiveOptions = {},
  ): LiveQuery<R> {
    this.refuseIfClosed("start a live query");
    if (typeof query !== "string") {
      const { sql, parameters } = query(this.kysely).compile();
      return this.live<R>(sql, parameters, options);
    }
    const isBehind = (): boolean => this.isBehind;
    const live: GuestLive = new GuestLive(isBehind, (live) => {
      const opened = this.link.open("live", { sql: query, params, ...options }, live);
      return () => {
        this.handles.delete(live);
        return opened.close();
      };
    });
    this.handles.add(live);
    if (this.failure) live.failed(this.failure)();
    return live as unknown as LiveQuery<R>;
  }

  channel<R extends object = Row>(table: string, options: ChannelOptions = {}): Channel<R> {
    this.refuseIfClosed("open a channel");
    parseTableName(table);
    const channel = new GuestChannel((channel) => {
      this.handles.add(channel);
      const opened = this.link.open("channel", { table, options }, channel);
      if (this.failure) channel.failed(this.failure)();
      return () => {
        this.handles.delete(channel);
        return opened.close();
      };
    });
    return channel as unknown as Channel<R>;
  }

  topic<P = unknown>(name: string, options: EphemeralOptions): EphemeralTopic<P>;
  topic<P = unknown>(name: string, options?: TopicOptions): Topic<P>;
  topic(name: string, options: TopicOptions | EphemeralOptions = {}): Topic | EphemeralTopic {
    this.refuseIfClosed("listen to a topic");
    if ("ephemeral" in options) return this.meetings.topic(name);
    checkTopic(name, options);
    return {
      name,
      subscribe: (listener: TopicListener) => {
        const request = { topic: name, options };
        const topic = new GuestTopic(request, listener);
        this.handles.add(topic);
        const opened = this.link.open("topic", request, topic);
        if (this.failure) topic.barred(this.failure)();
        return () => {
          topic.abandon();
          this.handles.delete(topic);
          void opened.close().catch(() => {});
        };
      },
    };
  }

  onRevalidate(
    keys: readonly string[],
    listener: (revalidated: Revalidated) => void,
    onError?: (error: WalcastError) => void,
  ): () => void {
    this.refuseIfClosed("listen to keys");
    checkKeys(keys);
    const handle = new GuestKeys(keys, listener, onError);
    this.handles.add(handle);
    const opened = this.link.open("keys", { keys }, handle);
    if (this.failure) handle.failed(this.failure)();
    return () => {
      handle.abandon();
      this.handles.delete(handle);
      void opened.close().catch(() => {});
    };
  }

  async awaitPosition(
    target: string | bigint | { readonly xid: string | number | bigint },
    { timeoutMs = AWAIT_TIMEOUT_MS }: { timeoutMs?: number } = {},
  ): Promise<void> {
    this.refuseIfClosed("wait for a position");
    await this.link.call("awaitPosition", textOf(target), timeoutMs);
  }

  wake(): void {
    this.link.call("wake").catch(() => {});
  }

  setToken(token: Token): void {
    this.refuseIfClosed("set a token");
    this.token = token;
    const tell = async (): Promise<void> => {
      await this.meeting.tokenChanged();
      await this.link.call("setToken");
    };
    tell().catch(() => {});
  }

  /** As of the host's last word, which is at most a tenth of a second old. */
  inspect(): Inspection {
    this.look();
    return { ...this.inspection, status: this.status, position: this.position };
  }

  private look(): void {
    if (this.closing || performance.now() - this.lookedMs < LOOK_EVERY_MS) return;
    this.lookedMs = performance.now();
    this.link.call("look").catch(() => {});
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  // ── What the host says ─────────────────────────────────────────────────────────────────────────────────────────────

  private createLink(): Link {
    return new Link({
      welcomed: () => {
        this.failure = undefined;
        this.meetings.online();
      },
      lost: () => {
        this.isBehind = true;
        this.meetings.offline();
        this.setStatus("connecting")();
      },
      barred: (error) => this.barred(error),
      ended: () => {
        this.meetings.close();
        void this.meeting.close();
      },
      state: (message) => {
        if (message.kind === "state") return this.setState(message.status, message.position);
        const { inspection } = message;
        this.inspection = { ...inspection, lastError: inspection.lastError ?? this.trouble?.toJSON() };
        return () => {};
      },
      met: (meet) => this.meetings.again(meet),
      unmet: (topic, error) => this.meetings.refused(topic, error),
      troubled: (error) => this.troubled(error),
      token: () => this.currentToken(),
    });
  }

  private async currentToken(): Promise<string | undefined> {
    return typeof this.token === "function" ? this.token() : this.token;
  }

  /** A host that took over may have less than was shown, until it has heard from the server. */
  private setState(status: ClientStatus, position: string): () => void {
    const wasBehind = this.isBehind;
    this.isBehind &&= status !== "live" && parseLsn(position) < parseLsn(this.position);
    if (!this.isBehind) this.position = position;
    const tell = [this.setStatus(status)];
    if (wasBehind && !this.isBehind)
      for (const handle of this.handles) if (handle instanceof GuestLive) tell.push(handle.caughtUp());
    return () => {
      for (const telling of tell) telling();
    };
  }

  private setStatus(status: ClientStatus): () => void {
    if (this.isClosed || status === this.currentStatus) return () => {};
    this.currentStatus = status;
    return () => this.statusListeners.emit(status);
  }

  private troubled(error: WalcastError): void {
    this.trouble = error;
    this.inspection = { ...this.inspection, lastError: error.toJSON() };
  }

  private barred(error: WalcastError): void {
    this.troubled(error);
    this.failure = error;
    this.setStatus("offline")();
  }

  private async shutDown(): Promise<void> {
    const error = new WalcastError("closed", "the client was closed");
    this.sleep();
    this.setStatus("closed")();
    this.isClosed = true;
    for (const handle of this.handles) handle.abandon(error);
    this.handles.clear();
    this.statusListeners.clear();
    this.meetings.close();
    this.link.close(error);
    await this.meeting.close();
  }

  private refuseIfClosed(doing: string): void {
    if (this.isClosed) throw new WalcastError("closed", `${doing}: the client is closed`);
  }
}

/** What can be sent, and means the same there. */
function textOf(
  target: string | bigint | { readonly xid: string | number | bigint },
): string | { readonly xid: string } {
  if (typeof target === "object") return { xid: String(target.xid) };
  return typeof target === "bigint" ? formatLsn(target as Lsn) : target;
}
