/**
 * One client's connection to the server, for as long as the client lives: opens, greets, notices silence, and comes
 * back with full-jitter exponential backoff. It checks that every frame is the next one; what frames mean is the
 * lanes' business.
 *
 * A token that changes while the connection is open is told to the server on it; so is the next one of a function, before the
 * one in use expires.
 */
import {
  type ClientMessage,
  closeCodes,
  decodeFrame,
  type ErrorJson,
  type Frame,
  type ServerMessage,
  subprotocol,
  WalcastError,
} from "../engine/protocol.ts";
import { errorOfClose, slowCodes } from "./closings.ts";
import { type Backoff, type ConnectionEvent, type ConnectionState, delayMs, isSame, next } from "./connection-state.ts";
import { parseMessage } from "./messages.ts";

export type Token = string | (() => string | Promise<string>);

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
  /** For the socket to open, and for the welcome to come. */
  readonly openTimeoutMs: number;
}

// The server sends a position at least every positionEveryMs. Two may be late or lost with a packet; more is silence.
const SILENCE_FACTOR = 2.5;
const FRAMES_FIRST_MS = 100;
// A peer that answers does so in a round trip. One that does not answer must not keep a client from closing.
const CLOSE_TIMEOUT_MS = 1000;
// Time for a slow network to fetch a token, unless the token lives so shortly that this would be most of its life.
const RENEW_BEFORE_MS = 30_000;
const RENEW_BEFORE_SHARE = 0.2;
const RENEW_MS_MIN = 100;
/** A timer that is to run longer would fire at once. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

export class Connection {
  state: ConnectionState = { kind: "idle" };
  private readonly options: ConnectionOptions;
  private readonly hooks: ConnectionHooks;
  private token: Token | undefined;
  private socket: WebSocket | undefined;
  private socketsGone: Promise<unknown> = Promise.resolve();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private lastHeardMs = 0;
  private doubtedAtMs = -1;
  private lastBreachMs = -Infinity;
  private silenceMs = Infinity;
  private frameNumber = 0;
  private checksum = 0;
  private refusal: WalcastError | undefined;
  private messageBytesMax = Infinity;
  private renewal: ReturnType<typeof setTimeout> | undefined;
  /** What is to be done once the server has answered: nothing else, or ask it again with a token that is newer still. */
  private renewing: "no" | "once" | "again" = "no";

  constructor(options: ConnectionOptions, hooks: ConnectionHooks) {
    this.options = options;
    this.hooks = hooks;
    this.token = options.token;
  }

  start(): void {
    this.step({ kind: "start" });
  }

  /**
   * Sent if the connection is open, dropped if not: whoever needs it there sends it again after the next welcome. Throws
   * `too_large` where the server would end the connection over it, again and again.
   */
  send(message: ClientMessage): void {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const text = JSON.stringify(message);
    if (isLonger(text, this.messageBytesMax))
      throw new WalcastError(
        "too_large",
        `send ${message.kind}: expected at most ${this.messageBytesMax} bytes, which is what the server takes, found more`,
        { hint: "ask for less, or raise limits.messageBytes of the engine" },
      );
    this.socket.send(text);
  }

  setToken(token: Token): void {
    this.token = token;
    if (this.state.kind === "open") void this.renew("new");
    else this.step({ kind: "tokenChanged" });
  }

  /** What came cannot be right, or could not be applied. */
  breach(error: WalcastError): void {
    const now = performance.now();
    const isSoon = now - this.lastBreachMs < 2 * this.options.backoff.maxMs;
    const isRepeated = this.state.kind !== "open" || this.state.attempt > 0 || isSoon;
    this.lastBreachMs = now;
    this.lose(error, isRepeated);
  }

  /** Resolves when the sockets are gone as well, or when the other side takes too long to let go of one. */
  async close(): Promise<void> {
    this.step({ kind: "close" });
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tooLong = new Promise<void>((resolve) => (timer = setTimeout(resolve, CLOSE_TIMEOUT_MS)));
    await Promise.race([this.socketsGone, tooLong]);
    clearTimeout(timer);
  }

  // ── The state machine's hands ──────────────────────────────────────────────────────────────────────────────────────

  private step(event: ConnectionEvent): void {
    const before = this.state;
    const after = (this.state = next(before, event));
    if (after === before) return;
    if (!isSame(before, after)) this.leave(before);
    this.hooks.changed();
    // Whoever was told may have taken a step already, by setToken or close.
    if (this.state === after && !isSame(before, after)) this.enter(after);
  }

  private leave(state: ConnectionState): void {
    const keepsSocket = this.state.kind === "greeting" || this.state.kind === "open";
    clearTimeout(this.timer);
    if (!keepsSocket) this.dropSocket();
    clearTimeout(this.renewal);
    if (state.kind === "open") this.hooks.down();
  }

  private enter(state: ConnectionState): void {
    switch (state.kind) {
      case "opening":
        this.after(this.options.openTimeoutMs, () => this.lose(timedOut("open the connection"), false));
        return void this.open();
      case "greeting":
        return this.after(this.options.openTimeoutMs, () => this.lose(timedOut("wait for the welcome"), false));
      case "open":
        return this.watch();
      case "waiting":
        return this.after(delayMs(state, this.options.backoff, Math.random()), () => this.step({ kind: "elapsed" }));
      case "idle":
      case "closed":
    }
  }

  private async open(): Promise<void> {
    const opening = this.state;
    try {
      const token = await this.currentToken();
      if (this.state === opening) this.connect(token);
    } catch (error) {
      if (this.state === opening) this.lose(tokenFailed(error), false);
    }
  }

  private async currentToken(): Promise<string | undefined> {
    return typeof this.token === "function" ? this.token() : this.token;
  }

  /** The server answers one after the other. With a token of somebody else there is no going on as the one before. */
  private async renew(why: "new" | "expires"): Promise<void> {
    if (this.renewing !== "no") return void (this.renewing = "again");
    this.renewing = "once";
    const { socket } = this;
    try {
      const token = await this.currentToken();
      if (this.socket !== socket || token === undefined) return;
      this.hooks.authenticating();
      this.send({ kind: "authenticate", token });
    } catch (error) {
      if (this.socket !== socket) return;
      this.renewing = "no";
      if (why === "new") this.lose(tokenFailed(error), false);
    }
  }

  private authenticated(expiresInMs: number | undefined): void {
    const isNewest = this.renewing !== "again";
    this.renewing = "no";
    this.hooks.authenticated(isNewest);
    if (isNewest) this.expires(expiresInMs);
    else void this.renew("new");
  }

  private expires(inMs: number | undefined): void {
    clearTimeout(this.renewal);
    if (inMs === undefined || inMs < RENEW_MS_MIN || typeof this.token !== "function") return;
    const waitMs = Math.max(inMs - RENEW_BEFORE_MS, inMs * (1 - RENEW_BEFORE_SHARE));
    this.renewal = setTimeout(() => void this.renew("expires"), Math.min(waitMs, TIMER_MS_MAX));
  }

  private connect(token: string | undefined): void {
    const socket = new WebSocket(syncUrl(this.options.url), subprotocol);
    socket.binaryType = "arraybuffer";
    // From the start: where close() finds a socket still connecting, Node's fires the event before close() returns.
    const gone = new Promise<void>((resolve) => socket.addEventListener("close", () => resolve(), { once: true }));
    this.socketsGone = Promise.all([this.socketsGone, gone]);
    this.socket = socket;
    this.frameNumber = this.checksum = 0;
    this.refusal = undefined;
    this.renewing = "no";
    this.messageBytesMax = Infinity;
    socket.onopen = () => {
      this.step({ kind: "opened" });
      this.send({ kind: "hello", ...(token === undefined ? {} : { token }), ...this.hooks.greeting() });
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => this.receive(data);
    socket.onclose = ({ code, reason }) => this.ended(code, reason);
    // A close event always follows and says more.
    socket.onerror = () => {};
  }

  private dropSocket(): void {
    const socket = this.socket;
    this.socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  private ended(code: number, reason: string): void {
    const error = this.refusal ?? errorOfClose(code, reason);
    // A token that ran out in the middle may be renewed by asking for one; a token that was just refused may not.
    const renewable =
      code === closeCodes.unauthenticated && this.state.kind === "open" && typeof this.token === "function";
    this.lose(error, slowCodes.has(code) && !renewable);
  }

  private lose(error: WalcastError, slow: boolean): void {
    if (this.state.kind === "closed" || this.state.kind === "waiting") return;
    this.hooks.failed(error);
    this.step({ kind: "lost", slow });
  }

  // ── Messages ───────────────────────────────────────────────────────────────────────────────────────────────────────

  private receive(data: string | ArrayBuffer): void {
    this.lastHeardMs = performance.now();
    try {
      if (typeof data === "string") this.control(parseMessage(data));
      else this.binary(new Uint8Array(data));
    } catch (error) {
      if (!(error instanceof WalcastError)) throw error;
      this.breach(error);
    }
  }

  private control(message: ServerMessage): void {
    const expected = this.frameNumber + 1;
    if (message.frame !== expected)
      throw new WalcastError(
        "frame_out_of_order",
        `read a message: expected number ${expected}, found ${message.frame}`,
      );
    this.frameNumber = expected;
    if (message.kind === "welcome") return this.welcome(message);
    if (message.kind === "error" && message.subscription === undefined && message.await === undefined)
      return this.refused(message.error);
    if (this.state.kind !== "open")
      throw new WalcastError("malformed_message", `read a message: expected a welcome first, found ${message.kind}`);
    if (message.kind === "authenticated") return this.authenticated(message.expiresInMs);
    this.hooks.message(message);
  }

  private binary(bytes: Uint8Array): void {
    const frame = decodeFrame(bytes, { number: this.frameNumber + 1, previousChecksum: this.checksum });
    this.frameNumber = frame.number;
    this.checksum = frame.checksum;
    if (this.state.kind !== "open")
      throw new WalcastError("malformed_message", "read a message: expected a welcome first, found a frame");
    this.hooks.frame(frame);
    if (this.state.attempt > 0 && frame.kind !== "copy") this.step({ kind: "settled" });
  }

  private welcome(message: Extract<ServerMessage, { kind: "welcome" }>): void {
    if (this.state.kind !== "greeting")
      throw new WalcastError("malformed_message", "read a message: did not expect a second welcome");
    this.silenceMs = message.positionEveryMs * SILENCE_FACTOR;
    this.messageBytesMax = message.messageBytes ?? Infinity;
    this.step({ kind: "welcomed" });
    this.expires(message.expiresInMs);
    this.hooks.welcomed(message);
  }

  /** The server says why before it closes; the close that follows has only a number. */
  private refused({ code, message, position, hint }: ErrorJson): void {
    this.refusal = new WalcastError(code, message, { position, hint });
  }

  /** One timer that looks at the clock, instead of one per message. */
  private watch(): void {
    const quietMs = performance.now() - this.lastHeardMs;
    if (quietMs >= this.silenceMs && this.doubtedAtMs !== this.lastHeardMs) return this.doubt();
    if (quietMs >= this.silenceMs)
      return this.lose(
        new WalcastError(
          "connection_lost",
          `keep the connection open: heard nothing for ${Math.round(quietMs)} ms, expected a position in every ${this.silenceMs / SILENCE_FACTOR} ms`,
        ),
        false,
      );
    this.after(this.silenceMs - quietMs, () => this.watch());
  }

  /** After this thread slept or was busy for long, its timers are served before the frames that wait: let them come first. */
  private doubt(): void {
    this.doubtedAtMs = this.lastHeardMs;
    this.after(FRAMES_FIRST_MS, () => this.watch());
  }

  private after(ms: number, work: () => void): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(work, Math.min(ms, TIMER_MS_MAX));
  }
}

/** `ws://host:4437` → `ws://host:4437/v1/sync`; http and https work as well, a path of one's own (a proxy's) is kept. */
export function syncUrl(text: string): string {
  const url = new URL(text);
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  if (!url.pathname.endsWith("/v1/sync")) url.pathname = `${url.pathname.replace(/\/$/, "")}/v1/sync`;
  return url.href;
}

function timedOut(doing: string): WalcastError {
  return new WalcastError("connection_lost", `${doing}: timed out`);
}

function tokenFailed(cause: unknown): WalcastError {
  return new WalcastError("unauthenticated", "get a token: the token function failed", { cause });
}

/** Of UTF-8 has a UTF-16 code unit at most three bytes. */
function isLonger(text: string, bytesMax: number): boolean {
  return text.length * 3 > bytesMax && new TextEncoder().encode(text).length > bytesMax;
}
