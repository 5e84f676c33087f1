/**
 * One client's connection to the server, for as long as the client lives: opens, greets, notices silence, and comes
 * back with full-jitter exponential backoff. What happens when is decided in connection-state.ts; here it is done. What
 * messages mean is the lanes' business.
 */
import { type ClientMessage, closeCodes, type Frame, type ServerMessage, WalcastError } from "../engine/protocol.ts";
import { type Backoff, delayMs, longestMs } from "./backoff.ts";
import { notOpened, slowCodes, timedOut, tokenFailed } from "./connection-errors.ts";
import {
  type ConnectionEvent,
  type ConnectionState,
  type Effect,
  isOpen,
  next,
  type TimerKind,
} from "./connection-state.ts";
import { type Edge, realEdge } from "./edge.ts";
import { Link } from "./link.ts";
import { Renewal, type Token } from "./renewal.ts";
import { Silence } from "./silence.ts";

export interface ConnectionHooks {
  /** The place from which the client wants to go on, if it has one. */
  greeting(): { readonly epoch?: string; readonly position?: string };
  /** `state` is another one. */
  changed(): void;
  /** The first message of every connection. */
  welcomed(message: Extract<ServerMessage, { kind: "welcome" }>): void;
  /** Another token is sent on the open connection: the server says next what it does not allow. */
  authenticating(): void;
  /** It has said all of that. `isNewest`: there is no newer token to send. */
  authenticated(isNewest: boolean): void;
  message(message: ServerMessage): void;
  frame(frame: Frame): void;
  /** Only after `welcomed`. */
  down(): void;
  /** Why a connection or an attempt at one ended. `revoked`: the server knows us and says no. */
  failed(error: WalcastError): void;
}

export interface ConnectionOptions {
  readonly url: string;
  readonly token: Token | undefined;
  readonly backoff: Backoff;
  /** For the token function to answer, for the socket to open, and for the welcome to come. */
  readonly openTimeoutMs: number;
}

// A peer that answers does so in a round trip. One that does not answer must not keep a client from closing.
const CLOSE_TIMEOUT_MS = 1000;

export class Connection {
  state: ConnectionState = { kind: "idle" };
  private readonly options: ConnectionOptions;
  private readonly hooks: ConnectionHooks;
  private readonly edge: Edge;
  private readonly renewal: Renewal;
  private readonly silence: Silence;
  /** The one that this attempt greets with. */
  private greetingToken: string | undefined;
  private link: Link | undefined;
  private readonly linksGoing = new Set<Promise<void>>();
  private stopTimer: () => void = () => {};
  private openedMs = 0;
  private lastWakeMs = -Infinity;
  private lastBreachMs = -Infinity;

  constructor(options: ConnectionOptions, hooks: ConnectionHooks, edge: Edge = realEdge) {
    this.options = options;
    this.hooks = hooks;
    this.edge = edge;
    this.silence = new Silence(edge);
    this.renewal = new Renewal(options.token, edge, options.openTimeoutMs, {
      send: (token) => this.authenticate(token),
      renewed: (isNewest) => hooks.authenticated(isNewest),
      failed: (cause) => this.lose(tokenFailed(cause), false),
    });
  }

  start(): void {
    this.step({ kind: "start" });
  }

  /**
   * Sent if the connection is open, dropped if not: whoever needs it there sends it again after the next welcome. Throws
   * `too_large` where the server would end the connection over it, again and again.
   */
  send(message: ClientMessage): void {
    this.link?.send(message);
  }

  setToken(token: Token): void {
    const isAnother = this.renewal.set(token);
    if (isOpen(this.state)) this.renewal.exchange();
    // What was refused is not tried again in haste because it is said again.
    else if (isAnother) this.step({ kind: "tokenChanged" });
  }

  /** Connects at once where it waits to, and asks the server whether it is there where it seems to be. */
  wake(): void {
    const now = this.edge.now();
    // A page that comes back says so in several ways at once.
    if (this.state.kind === "waiting" && now - this.lastWakeMs < this.options.backoff.baseMs) return;
    this.lastWakeMs = now;
    this.step({ kind: "wake" });
  }

  /** The place to go on from is another one: what is connected, or greeted, ends, and the next greeting says so. */
  move(): void {
    this.step({ kind: "moved" });
  }

  /** What came cannot be right, or could not be applied. */
  breach(error: WalcastError): void {
    const now = this.edge.now();
    const isSoon = now - this.lastBreachMs < 2 * this.options.backoff.maxMs;
    const isRepeated = !isOpen(this.state) || (this.attempt > 0 && !this.hasWorked) || isSoon;
    this.lastBreachMs = now;
    this.lose(error, isRepeated);
  }

  /** Resolves when the sockets are gone as well, or when the other side takes too long to let go of one. */
  async close(): Promise<void> {
    this.step({ kind: "close" });
    const { promise: tooLong, resolve } = Promise.withResolvers<void>();
    const stop = this.edge.after(CLOSE_TIMEOUT_MS, resolve);
    await Promise.race([Promise.all(this.linksGoing), tooLong]);
    stop();
  }

  // ── The state machine's hands ──────────────────────────────────────────────────────────────────────────────────────

  private step(event: ConnectionEvent): void {
    const { state, effects } = next(this.state, event);
    this.state = state;
    for (const effect of effects) {
      // Whoever was told may have taken a step already, by setToken or close.
      if (this.state !== state) return;
      this.carryOut(effect);
    }
  }

  private carryOut(effect: Effect): void {
    switch (effect.kind) {
      case "stopTimer":
        return this.stopTimer();
      case "closeSocket":
        return this.disconnect();
      case "goDown":
        return this.hooks.down();
      case "tell":
        return this.hooks.changed();
      case "startTimer":
        return this.startTimer(effect.timer);
      case "askToken":
        return void this.ask();
      case "openSocket":
        return this.connect();
      case "greet":
        return this.greet();
      case "ping":
        return this.send({ kind: "ping" });
    }
  }

  private startTimer(timer: TimerKind): void {
    this.stopTimer = this.edge.after(this.timerMs(timer), () => this.timeIsUp(timer));
  }

  private timerMs(timer: TimerKind): number {
    switch (timer) {
      case "attempt":
        return this.options.openTimeoutMs;
      case "silence":
        return this.silence.leftMs;
      case "answer":
        return this.silence.answerMs;
      case "backoff":
        return this.state.kind === "waiting" ? delayMs(this.state, this.options.backoff, this.edge.random()) : 0;
    }
  }

  private timeIsUp(timer: TimerKind): void {
    switch (timer) {
      case "attempt":
        return this.lose(timedOut(this.state), false);
      case "silence":
        // One timer that looks at the clock, instead of one per message.
        return this.silence.leftMs > 0 ? this.startTimer(timer) : this.step({ kind: "quiet" });
      case "answer":
        return this.lose(this.silence.error, false);
      case "backoff":
        return this.step({ kind: "elapsed" });
    }
  }

  private async ask(): Promise<void> {
    const asking = this.state;
    const token = await this.renewal.current().catch(tokenFailed);
    if (this.state !== asking) return;
    if (token instanceof WalcastError) return this.lose(token, false);
    this.greetingToken = token;
    this.step({ kind: "asked" });
  }

  private connect(): void {
    try {
      this.link = this.openLink();
    } catch (cause) {
      return this.lose(notOpened(cause), true);
    }
    const { gone } = this.link;
    this.linksGoing.add(gone);
    void gone.then(() => this.linksGoing.delete(gone));
  }

  private openLink(): Link {
    return new Link(this.edge, this.options.url, {
      opened: () => this.step({ kind: "opened" }),
      heard: () => this.heard(),
      message: (message) => this.receive(message),
      frame: (frame) => this.frame(frame),
      damaged: (error) => this.breach(error),
      closed: (code, error) => this.ended(code, error),
    });
  }

  private disconnect(): void {
    this.renewal.end();
    this.link?.drop();
    this.link = undefined;
  }

  private greet(): void {
    const token = this.greetingToken === undefined ? {} : { token: this.greetingToken };
    this.send({ kind: "hello", ...token, ...this.hooks.greeting() });
  }

  private authenticate(token: string): void {
    this.hooks.authenticating();
    this.send({ kind: "authenticate", token });
  }

  private ended(code: number, error: WalcastError): void {
    // A token that ran out in the middle may be renewed by asking for one; a token that was just refused may not.
    const isRenewable = code === closeCodes.unauthenticated && isOpen(this.state) && this.renewal.isRenewable;
    this.lose(error, slowCodes.has(code) && !isRenewable);
  }

  private lose(error: WalcastError, slow: boolean): void {
    if (this.state.kind === "closed" || this.state.kind === "waiting") return;
    const worked = this.hasWorked;
    this.hooks.failed(error);
    this.step({ kind: "lost", slow, worked });
  }

  private get attempt(): number {
    return "attempt" in this.state ? this.state.attempt : 0;
  }

  private get hasWorked(): boolean {
    const lastedMs = this.edge.now() - this.openedMs;
    return isOpen(this.state) && lastedMs >= longestMs(this.attempt, this.options.backoff);
  }

  // ── Messages ───────────────────────────────────────────────────────────────────────────────────────────────────────

  private heard(): void {
    this.silence.heard();
    this.step({ kind: "heard" });
  }

  private receive(message: ServerMessage): void {
    if (message.kind === "welcome") return this.welcome(message);
    this.expectWelcomeBefore(message.kind);
    if (message.kind === "authenticated") this.renewal.answered(message.expiresInMs);
    else this.hooks.message(message);
  }

  private frame(frame: Frame): void {
    this.expectWelcomeBefore("a frame");
    this.hooks.frame(frame);
  }

  private expectWelcomeBefore(what: string): void {
    if (!isOpen(this.state))
      throw new WalcastError("malformed_message", `read a message: expected a welcome first, found ${what}`);
  }

  private welcome(message: Extract<ServerMessage, { kind: "welcome" }>): void {
    if (this.state.kind !== "greeting")
      throw new WalcastError("malformed_message", "read a message: did not expect a second welcome");
    this.silence.expect(message.positionEveryMs);
    this.link!.bytesMax = message.messageBytes ?? Infinity;
    this.openedMs = this.edge.now();
    this.step({ kind: "welcomed" });
    // Whoever was told may have closed.
    if (!isOpen(this.state)) return;
    this.renewal.began(this.greetingToken, message.expiresInMs);
    this.hooks.welcomed(message);
  }
}
