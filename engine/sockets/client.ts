/**
 * What a connection has once it was welcomed: its subscriptions, what it waits for, whom it meets. Made when it is needed, as many who
 * come are refused.
 */
import type { Auth } from "../config.ts";
import {
  type ClientMessage,
  type Lsn,
  type MessagesRequest,
  parseLsn,
  type ServerMessage,
  type Told,
  WalcastError,
} from "../protocol.ts";
import type { MessageShape } from "../shapes/message-shape.ts";
import { type Asker, shapeFor } from "./access.ts";
import { Awaits } from "./awaits.ts";
import { Rate } from "./bounds.ts";
import { Budget } from "./budget.ts";
import { Feed } from "./feed.ts";
import type { Frames, Unnumbered } from "./frames.ts";
import { Lane, type LaneOptions } from "./lane.ts";
import { type MeetingMessage, OwnMeetings } from "./meetings.ts";
import type { MalformedSubscription } from "./messages.ts";
import type { SessionServices } from "./session.ts";
import { messagesFor } from "./topics.ts";

export type Refusal = Extract<Unnumbered<ServerMessage>, { kind: "error" }>;
type Subscribe = Extract<ClientMessage, { kind: "subscribe" }>;
type Listen = Extract<ClientMessage, { kind: "listen" }>;
type Await = Extract<ClientMessage, { kind: "await" }>;
type Audited = Extract<ClientMessage, { kind: "audited" }>;

export interface ClientOptions {
  readonly frames: Frames;
  readonly address: string;
  /** The rights that it has now. */
  readonly auth: () => Auth;
  /** It names what it has from an earlier connection. */
  readonly isResuming: () => boolean;
  readonly answer: (refusal: Refusal) => void;
}

export class Client {
  readonly feed: Feed;
  private readonly services: SessionServices;
  private readonly options: ClientOptions;
  /** Also those that are over, until nothing is under way for them: who subscribes and unsubscribes queues no more work than that. */
  private readonly lanes = new Map<number, Lane>();
  private readonly comparing: Promise<void>[] = [];
  private readonly subscribes: Rate;
  private readonly budget: Budget;
  private lastId = 0;
  private awaits: Awaits | undefined;
  private meetings: OwnMeetings | undefined;

  constructor(services: SessionServices, options: ClientOptions) {
    this.services = services;
    this.options = options;
    const { limits } = services.config;
    const { subscribesPerSecond: rate, shapesPerConnection } = limits;
    this.subscribes = new Rate(rate, Math.max(rate * 10, shapesPerConnection * 2));
    this.budget = new Budget(limits);
    this.feed = new Feed(options.frames);
  }

  drained(): void {
    this.meetings?.drained();
  }

  /** The connection is over. */
  end(): void {
    this.meetings?.close();
    for (const lane of this.lanes.values()) lane.end({ mayReturn: true });
    this.lanes.clear();
    this.services.hub.disconnected(this.feed);
  }

  /** It has nothing, and gets what comes from now on. */
  begin(): void {
    this.feed.frames.position = this.services.hub.position;
    this.services.hub.goLive(this.feed);
  }

  /** It says what it has, at this position. */
  beginAt(position: Lsn): void {
    this.feed.frames.position = this.feed.reached = position;
  }

  /** Everything that it has was named. Once all is compared, the connection goes on from its position. */
  async goOn(): Promise<void> {
    await Promise.all(this.comparing.splice(0));
    if (!this.feed.isOver) this.services.hub.catchUp.enter(this.feed);
  }

  subscribe({ id, shape: request, changes = false, identity, load, shown, after }: Subscribe): void {
    const { address } = this.options;
    const asker: Asker = { address };
    const lane = this.openLane(id, identity, {
      changes,
      shown,
      resolve: async (auth) => {
        const shape = await shapeFor(this.services, request, auth, changes, asker);
        this.budget.take(id, request, shape);
        return shape;
      },
      onOver: () => this.services.vetting.forget(asker),
    });
    if (!lane || identity !== undefined) return;
    if (changes && after) void this.follow(lane, after);
    else void lane.load({ part: load });
  }

  listen({ id, messages, identity }: Listen): void {
    const resolve = (auth: Auth): Promise<MessageShape> => messagesFor(this.services, messages, auth);
    const lane = this.openLane(id, identity, { changes: true, shown: undefined, resolve });
    if (lane && identity === undefined) void this.listenFrom(lane, messages);
  }

  unsubscribe(id: number): void {
    this.lanes.get(id)?.end();
    this.feed.frames.control({ kind: "unsubscribed", id });
  }

  await(message: Await): void {
    const { answer } = this.options;
    this.awaits ??= new Awaits(this.services, this.feed, answer);
    void this.awaits.take(message);
  }

  meet(message: MeetingMessage): void {
    const { frames, auth, answer } = this.options;
    this.meetings ??= new OwnMeetings(this.services, frames, auth, (topic, error) =>
      answer({ kind: "error", topic, error: error.toJSON() }),
    );
    void this.meetings.take(message);
  }

  audited({ id, matches }: Audited): void {
    this.lanes.get(id)?.answered(matches);
  }

  refuseSubscription(error: MalformedSubscription): void {
    const { subscription } = error;
    this.lastId = Math.max(this.lastId, subscription);
    this.options.answer({ kind: "error", subscription, error: error.toJSON() });
  }

  /** Why its rights may not change just now: each subscription is resolved anew. */
  refusedReview(): WalcastError | undefined {
    return this.subscribes.take(performance.now(), this.lanes.size + 1) ? undefined : this.tooFast();
  }

  /** Its rights are others. Gives what to do at once: what they do not allow is withdrawn. */
  async review(): Promise<readonly (() => void)[]> {
    const [verdicts] = await Promise.all([
      Promise.all([...this.lanes.values()].map((lane) => lane.review())),
      this.meetings?.review(),
    ]);
    return verdicts;
  }

  /** Where the log does not reach back to what the client was told, changes come from now on. */
  private async follow(lane: Lane, { identity, epoch, position }: Told): Promise<void> {
    const after = parseLsn(position);
    const cause = await this.services.continues(epoch, after);
    void lane.load(cause ? {} : { told: { identity, after } });
  }

  private async listenFrom(lane: Lane, { since, epoch, limit }: MessagesRequest): Promise<void> {
    const position = since === undefined ? undefined : parseLsn(since);
    const cause =
      position === undefined ? undefined : await this.services.continues(epoch ?? this.services.epoch(), position);
    const isOther = cause?.code === "history_changed";
    lane.loadFrom({
      ...(position === undefined || isOther ? {} : { since: position }),
      ...(limit === undefined || isOther ? {} : { limit }),
      ...(cause ? { cause } : {}),
    });
  }

  /** Undefined where it was refused. One with an identity is compared with what the client has. */
  private openLane(
    id: number,
    identity: string | undefined,
    options: Pick<LaneOptions, "changes" | "shown" | "resolve" | "onOver">,
  ): Lane | undefined {
    if (id <= this.lastId)
      throw new WalcastError(
        "malformed_message",
        `subscribe: expected an id above ${this.lastId}, found ${id}: ids are never used again`,
      );
    if (identity !== undefined && !this.options.isResuming())
      throw new WalcastError(
        "malformed_message",
        "subscribe: expected an identity only between a welcome that says `resumes` and resume",
      );
    this.lastId = id;
    const refusal = this.beyondLimits();
    if (refusal) {
      this.options.answer({ kind: "error", subscription: id, error: refusal.toJSON() });
      return undefined;
    }
    const lane = new Lane(this.services.hub, this.feed, {
      ...options,
      id,
      auth: this.options.auth,
      onEnded: () => {
        this.lanes.delete(id);
        this.budget.release(id);
      },
    });
    this.lanes.set(id, lane);
    if (identity !== undefined) this.comparing.push(lane.resume(identity));
    return lane;
  }

  private tooFast(): WalcastError {
    const { subscribesPerSecond } = this.services.config.limits;
    return new WalcastError("too_fast", `subscribe: expected at most ${subscribesPerSecond} in a second`, {
      hint: "keep shapes that are needed again, or raise limits.subscribesPerSecond",
    });
  }

  private beyondLimits(): WalcastError | undefined {
    const { shapesPerConnection } = this.services.config.limits;
    if (!this.subscribes.take(performance.now())) return this.tooFast();
    if (this.lanes.size < shapesPerConnection) return undefined;
    return new WalcastError(
      "too_many",
      `subscribe: expected at most ${shapesPerConnection} subscriptions on a connection`,
      { hint: "unsubscribe from some, wait for what is still being loaded, or raise limits.shapesPerConnection" },
    );
  }
}
