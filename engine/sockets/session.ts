/**
 * One client's connection: greeted with a token, then any number of subscriptions (client.ts), until either side ends it. A client
 * that was here before says where it left off; what it has is compared, and it goes on from there.
 *
 *     greeting ──hello──▶ verifying ──▶ open ──▶ over
 *                             │           ▲
 *                             └─resuming──┘
 */
import type { Config } from "../config.ts";
import type { Tables } from "../changes/tables.ts";
import {
  type ClientMessage,
  closeCodes,
  type ErrorJson,
  formatLsn,
  type Lsn,
  parseLsn,
  WalcastError,
} from "../protocol.ts";
import type { Tally } from "./bounds.ts";
import { Client, type Refusal } from "./client.ts";
import { Credentials } from "./credentials.ts";
import type { Deadlines } from "./deadlines.ts";
import { Frames, type Socket } from "./frames.ts";
import type { Hub } from "./hub.ts";
import type { Meetings } from "./meetings.ts";
import { MalformedSubscription, parseClientMessage } from "./messages.ts";
import { refusing } from "./refusing.ts";
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

/** What all connections share that come in by one door. */
export interface Door {
  /** Connections by user. */
  readonly users: Tally;
  /** By when each has to have greeted, and to have said what it has. */
  readonly greetings: Deadlines;
}

type State = "greeting" | "verifying" | "resuming" | "open" | "over";
type Hello = Extract<ClientMessage, { kind: "hello" }>;

export class Session {
  private readonly services: SessionServices;
  private readonly frames: Frames;
  private readonly greetings: Deadlines;
  private readonly visitor: Visitor;
  private readonly credentials: Credentials;
  private phase: State = "greeting";
  /** Once it was welcomed. */
  private client: Client | undefined;
  /** While its new token is looked at. */
  private isAuthenticating = false;
  private decision: NodeJS.Timeout | undefined;

  constructor(socket: Socket, services: SessionServices, { users, greetings }: Door, visitor: Visitor) {
    this.services = services;
    this.visitor = visitor;
    this.greetings = greetings;
    this.frames = new Frames(socket, services.config.limits.backlogBytesPerConnection, services.hub.counters);
    this.credentials = new Credentials({
      authenticator: services.config.auth,
      users,
      log: services.hub.log,
      refuse: (error, code) => this.refuse(error, code),
    });
    greetings.set(this.tooSlow);
  }

  get state(): State | "live" | "catching_up" {
    return this.phase !== "open" ? this.phase : this.client!.feed.isLive ? "live" : "catching_up";
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
      const text = bytes.toString("utf8");
      this.handle(refusing(() => parseClientMessage(text, this.services.config.limits.messageDepth)));
    } catch (error) {
      if (!(error instanceof WalcastError)) throw error;
      if (error instanceof MalformedSubscription && this.takesSubscriptions) this.client!.refuseSubscription(error);
      else this.refuse(error, closeCodes.malformed);
    }
  }

  drained(): void {
    this.frames.drained();
    this.client?.drained();
  }

  /** The socket is gone. */
  closed(): void {
    if (this.phase === "over") return;
    this.phase = "over";
    this.greetings.clear(this.tooSlow);
    clearTimeout(this.decision);
    this.credentials.end();
    this.frames.end();
    this.client?.end();
  }

  close(code: number, reason: string): void {
    if (this.phase === "over") return;
    this.frames.close(code, reason);
    this.closed();
  }

  /** What opens a connection has to come in time. */
  private readonly tooSlow = (): void => {
    const { helloMs } = this.services.config.limits;
    const what = this.phase === "resuming" ? "resume" : "hello";
    const error = new WalcastError("hello_timeout", `greet: expected ${what} within ${helloMs} ms`);
    this.refuse(error, closeCodes.tooSlowToGreet);
  };

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

  /** Every refusal is counted. */
  private answer(message: Refusal): void {
    this.services.hub.noteRefusal(message.error.code);
    this.frames.control(message);
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
    const client = this.client!;
    if (message.kind === "subscribe") client.subscribe(message);
    else if (message.kind === "listen") client.listen(message);
    else if (message.kind === "authenticate") this.authenticate(message.token, client);
    else if (message.kind === "unsubscribe") client.unsubscribe(message.id);
    else if (message.kind === "await") client.await(message);
    else if (message.kind === "resume") this.resume(client);
    else if (message.kind === "ping") this.frames.control({ kind: "pong" });
    else if (message.kind === "audited") client.audited(message);
    else client.meet(message);
  }

  private async greet(hello: Hello): Promise<void> {
    this.phase = "verifying";
    if (!(await this.credentials.take(hello.token ?? this.visitor.token))) return;
    this.greetings.clear(this.tooSlow);
    const { epoch, position } = hello;
    const from = epoch === undefined || position === undefined ? undefined : parseLsn(position);
    const cause = from === undefined ? undefined : await this.services.continues(epoch!, from);
    if ((this.phase as State) !== "over") this.welcome(from, cause);
  }

  private welcome(from: Lsn | undefined, cause: ErrorJson | undefined): void {
    const { hub, config } = this.services;
    if (from !== undefined) hub.noteReturn(cause?.code ?? "resumed");
    const client = (this.client = this.newClient());
    hub.connections.add(client.feed);
    this.frames.control({
      kind: "welcome",
      epoch: this.services.epoch(),
      position: formatLsn(hub.position),
      positionEveryMs: config.positionEveryMs,
      messageBytes: config.limits.messageBytes,
      ...this.credentials.expiry,
      ...(from === undefined ? {} : cause ? { cause } : { resumes: true }),
    });
    if (from === undefined || cause) this.begin(client);
    else this.beginAt(from, client);
  }

  private newClient(): Client {
    return new Client(this.services, {
      frames: this.frames,
      address: this.visitor.address,
      auth: () => this.credentials.auth,
      isResuming: () => this.phase === "resuming",
      answer: (refusal) => this.answer(refusal),
    });
  }

  private begin(client: Client): void {
    this.phase = "open";
    client.begin();
  }

  private beginAt(position: Lsn, client: Client): void {
    this.phase = "resuming";
    client.beginAt(position);
    this.greetings.set(this.tooSlow);
  }

  /** Everything that the client has was named. */
  private resume(client: Client): void {
    if (this.phase !== "resuming")
      throw new WalcastError("malformed_message", "resume: expected it once, after a welcome that says `resumes`");
    this.phase = "open";
    this.greetings.clear(this.tooSlow);
    void client.goOn();
  }

  private authenticate(token: string, client: Client): void {
    if (this.isAuthenticating)
      throw new WalcastError("malformed_message", "authenticate: expected the answer to be waited for before the next");
    const refusal = client.refusedReview();
    if (refusal) return this.refuse(refusal, closeCodes.tooMany);
    this.isAuthenticating = true;
    void this.renew(token, client);
  }

  /** What the new token does not allow is withdrawn from all subscriptions at once, and only then it is said that it holds. */
  private async renew(token: string, client: Client): Promise<void> {
    if (!(await this.credentials.take(token))) return;
    // Until then what it has goes on by the old one: not for long, should a rule not answer.
    this.decision = this.decideInTime();
    const verdicts = await client.review();
    clearTimeout(this.decision);
    if (this.phase === "over") return;
    for (const apply of verdicts) apply();
    this.isAuthenticating = false;
    this.frames.control({ kind: "authenticated", ...this.credentials.expiry });
  }
}
