/**
 * One client's connection: greeted with a token, then any number of subscriptions, until either side ends it. A client
 * that was here before says where it left off; what it has is compared, and it goes on from there.
 *
 *     greeting ──hello──▶ verifying ──▶ open ──▶ over
 *                             │           ▲
 *                             └─resuming──┘
 */
import type { Auth, Config } from "../config.ts";
import type { Tables } from "../changes/tables.ts";
import {
  type ClientMessage,
  closeCodes,
  type ErrorJson,
  formatLsn,
  type Lsn,
  type MessagesRequest,
  parseLsn,
  type ServerMessage,
  type Told,
  WalcastError,
} from "../protocol.ts";
import type { MessageShape } from "../shapes/message-shape.ts";
import { type Asker, shapeFor } from "./access.ts";
import { Rate, type Tally } from "./bounds.ts";
import { Budget } from "./budget.ts";
import { Awaits } from "./awaits.ts";
import { Credentials } from "./credentials.ts";
import { Feed } from "./feed.ts";
import { Frames, type Socket, type Unnumbered } from "./frames.ts";
import type { Hub } from "./hub.ts";
import { Lane, type LaneOptions } from "./lane.ts";
import { type Meetings, OwnMeetings } from "./meetings.ts";
import { MalformedSubscription, parseClientMessage } from "./messages.ts";
import { messagesFor } from "./topics.ts";
import type { Vetting } from "./vetting.ts";
import type { Visitor } from "./visitor.ts";
import type { Xids } from "./xids.ts";

export interface SessionServices {
  readonly config: Config;
  readonly hub: Hub;
  readonly tables: Tables;
  readonly vetting: Vetting;
  readonly xids: Xids;
  readonly meetings: Meetings;
  /** Identifies this history of this database. */
  readonly epoch: () => string;
  /** Why a client that left off at this position of that epoch cannot go on from there; undefined where it can. */
  readonly continues: (epoch: string, position: Lsn) => Promise<ErrorJson | undefined>;
}

type State = "greeting" | "verifying" | "resuming" | "open" | "over";
type Hello = Extract<ClientMessage, { kind: "hello" }>;
type Refusal = Extract<Unnumbered<ServerMessage>, { kind: "error" }>;
type Subscribe = Extract<ClientMessage, { kind: "subscribe" }>;
type Listen = Extract<ClientMessage, { kind: "listen" }>;

export class Session {
  private readonly feed: Feed;
  private readonly services: SessionServices;
  /** Also those that are over, until nothing is under way for them: who subscribes and unsubscribes queues no more work than that. */
  private readonly lanes = new Map<number, Lane>();
  private readonly comparing: Promise<void>[] = [];
  private helloTimer: NodeJS.Timeout;
  private phase: State = "greeting";
  private readonly credentials: Credentials;
  private isAuthenticating = false;
  private readonly subscribes: Rate;
  private readonly budget: Budget;
  private readonly visitor: Visitor;
  private lastId = 0;
  private readonly awaits: Awaits;
  private readonly meetings: OwnMeetings;

  constructor(socket: Socket, services: SessionServices, users: Tally, visitor: Visitor) {
    this.services = services;
    this.visitor = visitor;
    const { limits } = services.config;
    const { subscribesPerSecond: rate, shapesPerConnection } = limits;
    this.subscribes = new Rate(rate, Math.max(rate * 10, shapesPerConnection * 2));
    this.budget = new Budget(limits);
    this.credentials = new Credentials({
      authenticator: services.config.auth,
      users,
      log: services.hub.log,
      refuse: (error, code) => this.refuse(error, code),
    });
    this.feed = new Feed(new Frames(socket, limits.backlogBytesPerConnection, services.hub.counters));
    this.meetings = new OwnMeetings(
      services,
      this.feed.frames,
      () => this.credentials.auth,
      (topic, error) => this.answer({ kind: "error", topic, error: error.toJSON() }),
    );
    this.awaits = new Awaits(services, this.feed, (message) => this.answer(message));
    this.helloTimer = this.expect("hello");
  }

  get state(): State | "live" | "catching_up" {
    return this.phase !== "open" ? this.phase : this.feed.isLive ? "live" : "catching_up";
  }

  receive(bytes: Buffer, isBinary: boolean): void {
    if (this.phase === "over") return;
    const { messageBytes } = this.services.config.limits;
    if (bytes.length > messageBytes)
      return this.refuse(
        new WalcastError(
          "too_large",
          `read a client's message: expected at most ${messageBytes} bytes, found ${bytes.length}`,
        ),
        closeCodes.tooLarge,
      );
    try {
      if (isBinary) throw new WalcastError("malformed_message", "read a client's message: expected text, found binary");
      this.handle(parseClientMessage(bytes.toString("utf8"), this.services.config.limits.messageDepth));
    } catch (error) {
      if (!(error instanceof WalcastError)) throw error;
      if (error instanceof MalformedSubscription && this.takesSubscriptions) this.refuseSubscription(error);
      else this.refuse(error, closeCodes.malformed);
    }
  }

  drained(): void {
    this.feed.frames.drained();
    this.meetings.drained();
  }

  /** The socket is gone. */
  closed(): void {
    this.phase = "over";
    clearTimeout(this.helloTimer);
    this.credentials.end();
    this.feed.frames.end();
    this.meetings.close();
    for (const lane of this.lanes.values()) lane.end({ mayReturn: true });
    this.lanes.clear();
    this.services.hub.disconnected(this.feed);
  }

  close(code: number, reason: string): void {
    if (this.phase === "over") return;
    this.feed.frames.close(code, reason);
    this.closed();
  }

  /** What opens a connection has to come in time. */
  private expect(what: "hello" | "resume"): NodeJS.Timeout {
    const { helloMs } = this.services.config.limits;
    return setTimeout(() => {
      // Not before it is needed: what an error notes of where it was made takes half of the time in which a connection is opened.
      const error = new WalcastError("hello_timeout", `greet: expected ${what} within ${helloMs} ms`);
      this.refuse(error, closeCodes.tooSlowToGreet);
    }, helloMs);
  }

  private decideInTime(): NodeJS.Timeout {
    const { helloMs } = this.services.config.limits;
    return setTimeout(() => {
      const expected = `expected every rule to answer within ${helloMs} ms`;
      this.refuse(new WalcastError("auth_unavailable", `authenticate: ${expected}`), closeCodes.goingAway);
    }, helloMs);
  }

  private get takesSubscriptions(): boolean {
    return this.phase === "open" || this.phase === "resuming";
  }

  private refuseSubscription(error: MalformedSubscription): void {
    const { subscription } = error;
    this.lastId = Math.max(this.lastId, subscription);
    this.answer({ kind: "error", subscription, error: error.toJSON() });
  }

  /** Every refusal is counted. */
  private answer(message: Refusal): void {
    this.services.hub.noteRefusal(message.error.code);
    this.feed.frames.control(message);
  }

  private refuse(error: WalcastError, code: number): void {
    this.answer({ kind: "error", error: error.toJSON() });
    this.close(code, error.code);
  }

  private handle(message: ClientMessage): void {
    if (message.kind === "hello") {
      if (this.phase !== "greeting")
        throw new WalcastError("malformed_message", "greet: expected one hello, found another");
      return void this.greet(message);
    }
    if (!this.takesSubscriptions)
      throw new WalcastError(
        "hello_expected",
        `expected hello, and welcome before anything else, found ${message.kind}`,
      );
    if (message.kind === "subscribe") this.subscribe(message);
    else if (message.kind === "listen") this.listen(message);
    else if (message.kind === "authenticate") this.authenticate(message.token);
    else if (message.kind === "unsubscribe") this.unsubscribe(message.id);
    else if (message.kind === "await") void this.awaits.take(message);
    else if (message.kind === "resume") this.resume();
    else if (message.kind === "ping") this.feed.frames.control({ kind: "pong" });
    else if (message.kind === "meet" || message.kind === "say" || message.kind === "track" || message.kind === "part")
      void this.meetings.take(message);
    else if (message.kind === "audited") this.lanes.get(message.id)?.answered(message.matches);
  }

  private async greet(hello: Hello): Promise<void> {
    this.phase = "verifying";
    if (!(await this.credentials.take(hello.token ?? this.visitor.token))) return;
    clearTimeout(this.helloTimer);
    const { epoch, position } = hello;
    const from = epoch === undefined || position === undefined ? undefined : parseLsn(position);
    const cause = from === undefined ? undefined : await this.services.continues(epoch!, from);
    if ((this.phase as State) !== "over") this.welcome(from, cause);
  }

  private authenticate(token: string): void {
    if (this.isAuthenticating)
      throw new WalcastError("malformed_message", "authenticate: expected the answer to be waited for before the next");
    // Each subscription is resolved anew.
    if (!this.subscribes.take(performance.now(), this.lanes.size + 1))
      return this.refuse(this.tooFast(), closeCodes.tooMany);
    this.isAuthenticating = true;
    void this.renew(token);
  }

  /** What the new token does not allow is withdrawn from all subscriptions at once, and only then it is said that it holds. */
  private async renew(token: string): Promise<void> {
    if (!(await this.credentials.take(token))) return;
    // Until then what it has goes on by the old one: not for long, should a rule not answer.
    this.helloTimer = this.decideInTime();
    const [verdicts] = await Promise.all([
      Promise.all([...this.lanes.values()].map((lane) => lane.review())),
      this.meetings.review(),
    ]);
    clearTimeout(this.helloTimer);
    if (this.phase === "over") return;
    for (const apply of verdicts) apply();
    this.isAuthenticating = false;
    this.feed.frames.control({ kind: "authenticated", ...this.credentials.expiry });
  }

  private welcome(from: Lsn | undefined, cause: ErrorJson | undefined): void {
    const { hub, config } = this.services;
    if (from !== undefined) hub.noteReturn(cause?.code ?? "resumed");
    hub.connections.add(this.feed);
    this.feed.frames.control({
      kind: "welcome",
      epoch: this.services.epoch(),
      position: formatLsn(hub.position),
      positionEveryMs: config.positionEveryMs,
      messageBytes: config.limits.messageBytes,
      ...this.credentials.expiry,
      ...(from === undefined ? {} : cause ? { cause } : { resumes: true }),
    });
    if (from === undefined || cause) this.begin();
    else this.beginAt(from);
  }

  private begin(): void {
    this.phase = "open";
    this.feed.frames.position = this.services.hub.position;
    this.services.hub.goLive(this.feed);
  }

  private beginAt(position: Lsn): void {
    this.phase = "resuming";
    this.feed.frames.position = this.feed.reached = position;
    this.helloTimer = this.expect("resume");
  }

  /** Everything that the client has was named. */
  private resume(): void {
    if (this.phase !== "resuming")
      throw new WalcastError("malformed_message", "resume: expected it once, after a welcome that says `resumes`");
    this.phase = "open";
    clearTimeout(this.helloTimer);
    void this.goOn();
  }

  /** Once all is compared, the connection goes on from its position. */
  private async goOn(): Promise<void> {
    await Promise.all(this.comparing.splice(0));
    if (this.phase !== "over") this.services.hub.catchUp.enter(this.feed);
  }

  private subscribe({ id, shape: request, changes = false, identity, load, shown, after }: Subscribe): void {
    const { address } = this.visitor;
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

  /** Where the log does not reach back to what the client was told, changes come from now on. */
  private async follow(lane: Lane, { identity, epoch, position }: Told): Promise<void> {
    const after = parseLsn(position);
    const cause = await this.services.continues(epoch, after);
    void lane.load(cause ? {} : { told: { identity, after } });
  }

  private listen({ id, messages, identity }: Listen): void {
    const resolve = (auth: Auth): Promise<MessageShape> => messagesFor(this.services, messages, auth);
    const lane = this.openLane(id, identity, { changes: true, shown: undefined, resolve });
    if (lane && identity === undefined) void this.listenFrom(lane, messages);
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
    if (identity !== undefined && this.phase !== "resuming")
      throw new WalcastError(
        "malformed_message",
        "subscribe: expected an identity only between a welcome that says `resumes` and resume",
      );
    this.lastId = id;
    const refusal = this.beyondLimits();
    if (refusal) {
      this.answer({ kind: "error", subscription: id, error: refusal.toJSON() });
      return undefined;
    }
    const lane = new Lane(this.services.hub, this.feed, {
      ...options,
      id,
      auth: () => this.credentials.auth,
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

  private unsubscribe(id: number): void {
    this.lanes.get(id)?.end();
    this.feed.frames.control({ kind: "unsubscribed", id });
  }
}
