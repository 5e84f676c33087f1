/**
 * Requests that need rights: who asks, from which page, with which token, counted and bounded as connections of the WebSocket
 * are. A token comes in the `Authorization` header or in the cookie that the config names, never in the URL, which ends up
 * in logs.
 */
import type { Auth } from "../authenticate.ts";
import type { Config } from "../config.ts";
import { WalcastError } from "../errors.ts";
import type { Tally } from "./bounds.ts";
import { Credentials } from "./credentials.ts";
import { encodeEvent, EventStream } from "./event-stream.ts";
import { answer, answerJson, readBody, write } from "./http.ts";
import type { Hub } from "./hub.ts";
import { statusOf } from "./status.ts";
import type { HttpRequest, HttpResponse } from "./uws.ts";
import { isLocalPage, isOpen, mayConnect, type Visitor, visitorOf } from "./visitor.ts";

export interface GuestsOptions {
  readonly config: Config;
  readonly addresses: Tally;
  readonly users: Tally;
  /** Everybody who is connected, over WebSockets too. */
  readonly connections: () => number;
  /** Undefined until the engine streams. */
  readonly hub: () => Hub | undefined;
  readonly refusedOrigin: (origin: string) => void;
}

/** What is done for a guest. What it throws is the answer. */
export type Serve = (guest: Guest) => Promise<void>;

export type Method = "get" | "head" | "post";

export class Guests {
  private readonly options: GuestsOptions;
  private readonly guests = new Set<Guest>();

  constructor(options: GuestsOptions) {
    this.options = options;
  }

  get size(): number {
    return this.guests.size;
  }

  /** `prefix`: of the path; what follows it are the guest's parts. */
  receive(res: HttpResponse, req: HttpRequest, prefix: string, serve: Serve, ...methods: readonly Method[]): void {
    const asked = read(res, req, this.options.config, prefix);
    if (asked.method === "options") return answerPreflight(res, asked, this.options.config);
    try {
      const release = this.admit(asked, methods.length === 0 ? ["get"] : methods);
      const guest: Guest = new Guest(res, asked, this.options, () => {
        this.guests.delete(guest);
        release();
      });
      this.guests.add(guest);
      void guest.serve(serve);
    } catch (error) {
      refuse(res, asked, this.options.config, error);
    }
  }

  endAll(error: WalcastError): void {
    for (const guest of [...this.guests]) guest.end(error);
  }

  /** Gives what undoes it, or throws. */
  private admit({ method, visitor, isForeign }: Asked, expected: readonly string[]): () => void {
    const { config, addresses, connections, refusedOrigin } = this.options;
    if (!expected.includes(method))
      throw new WalcastError(
        "malformed_message",
        `read a request: expected ${expected.join(" or ").toUpperCase()}, found ${method.toUpperCase()}`,
      );
    if (isForeign || !mayConnect(visitor, config)) {
      if (visitor.origin !== undefined) refusedOrigin(visitor.origin);
      throw new WalcastError("forbidden", "connect: a page of this origin may not", {
        hint: "name it in `origins` of the config",
      });
    }
    if (!this.options.hub())
      throw new WalcastError("not_streaming", "connect: the engine does not stream yet", { hint: "/health says why" });
    const release = connections() < config.limits.connections ? addresses.take(visitor.address) : undefined;
    if (release) return release;
    throw new WalcastError("too_many", "connect: there are too many connections", {
      hint: "raise limits.connections or limits.connectionsPerAddress",
    });
  }
}

/** What a request says. The library takes it back when the handler returns. */
interface Asked {
  readonly method: string;
  readonly visitor: Visitor;
  /** Undefined where the path cannot be read. */
  readonly parts: readonly string[] | undefined;
  readonly query: URLSearchParams;
  readonly lastEventId: string | undefined;
  readonly ifNoneMatch: string | undefined;
  readonly wantsEvents: boolean;
  /** Of another site, by what the browser says, or of a name that only seems to be this machine's. */
  readonly isForeign: boolean;
}

function read(res: HttpResponse, req: HttpRequest, config: Config, prefix: string): Asked {
  const visitor = visitorOf(res, req, config);
  return {
    method: req.getMethod(),
    visitor,
    parts: partsOf(req.getUrl().slice(prefix.length)),
    query: new URLSearchParams(req.getQuery() ?? ""),
    lastEventId: req.getHeader("last-event-id") || undefined,
    ifNoneMatch: req.getHeader("if-none-match") || undefined,
    wantsEvents: req.getHeader("accept").includes("text/event-stream"),
    isForeign: visitor.origin === undefined && (isCrossSite(req) || (isOpen(config) && isRebound(req))),
  };
}

/** A page can have a browser ask without telling its origin, for an image say, and with the cookies of whom it asks. */
function isCrossSite(req: HttpRequest): boolean {
  return req.getHeader("sec-fetch-site") === "cross-site";
}

/** Where everybody on this machine may read everything, a page's own name can be made to point here. https://en.wikipedia.org/wiki/DNS_rebinding */
function isRebound(req: HttpRequest): boolean {
  return !isLocalPage(`http://${req.getHeader("host")}`);
}

/** Nothing is decoded before it is taken apart: a slash in a name is `%2F`. */
function partsOf(path: string): readonly string[] | undefined {
  try {
    return path.split("/").map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

export class Guest {
  readonly query: URLSearchParams;
  /** Where the reader of a stream left off. */
  readonly lastEventId: string | undefined;
  private readonly res: HttpResponse;
  private readonly asked: Asked;
  private readonly options: GuestsOptions;
  private readonly credentials: Credentials;
  private readonly leaving = new AbortController();
  private readonly onOver: () => void;
  private readonly posted: Promise<Buffer | undefined> | undefined;
  private stream: EventStream | undefined;

  constructor(res: HttpResponse, asked: Asked, options: GuestsOptions, onOver: () => void) {
    this.res = res;
    this.asked = asked;
    this.options = options;
    this.onOver = onOver;
    this.query = asked.query;
    this.lastEventId = asked.lastEventId;
    const { config, users, hub } = options;
    this.credentials = new Credentials({
      authenticator: config.auth,
      users,
      log: hub()!.log,
      refuse: (error) => this.end(error),
    });
    res.onAborted(() => {
      this.stream?.aborted();
      this.leave();
    });
    // Whoever does not ask at once gets none of it.
    if (asked.method === "post")
      this.posted = new Promise((resolve) => readBody(res, config.limits.messageBytes, resolve));
  }

  /** What was posted, as text. Never resolves for one that is gone. */
  async body(): Promise<string> {
    const body = await this.posted;
    if (body) return body.toString("utf8");
    const { messageBytes } = this.options.config.limits;
    throw new WalcastError("too_large", `read a request: expected at most ${messageBytes} bytes`);
  }

  /** All of the answer. */
  answer(value: unknown): void {
    if (this.signal.aborted) return;
    this.leave();
    answerJson(this.res, "200 OK", value, crossOriginHeaders(this.asked, this.options.config));
  }

  /** As its token says. */
  get auth(): Auth {
    return this.credentials.auth;
  }

  get address(): string {
    return this.asked.visitor.address;
  }

  /** Aborted when the guest is gone. */
  get signal(): AbortSignal {
    return this.leaving.signal;
  }

  /** What follows the prefix in the path, decoded. */
  get parts(): readonly string[] {
    if (this.asked.parts) return this.asked.parts;
    throw new WalcastError("malformed_message", "read a path: expected percent-encoded UTF-8");
  }

  async serve(serve: Serve): Promise<void> {
    try {
      if (!(await this.credentials.take(this.asked.visitor.token))) return;
      await serve(this);
    } catch (error) {
      this.end(error);
    }
  }

  /** Begins the answer: from here on what goes wrong is told by an event. */
  events(): EventStream {
    const { config } = this.options;
    return (this.stream ??= new EventStream(this.res, {
      headers: crossOriginHeaders(this.asked, config),
      heartbeatMs: config.heartbeatMs,
      idleMs: config.limits.idleMs,
      budgetBytes: config.limits.backlogBytesPerConnection,
      onOver: () => this.leave(),
    }));
  }

  /** Only what is said of an answer is wanted. */
  get isHead(): boolean {
    return this.asked.method === "head";
  }

  /** What the reader has of this answer already. */
  get ifNoneMatch(): string | undefined {
    return this.asked.ifNoneMatch;
  }

  /** All of the answer. */
  reply(status: string, headers: readonly (readonly [string, string])[], body: string): void {
    if (this.signal.aborted) return;
    this.leave();
    write(
      this.res,
      status,
      [...headers, ...crossOriginHeaders(this.asked, this.options.config)],
      this.isHead ? "" : body,
    );
  }

  /** Ends the answer with why; where it has not begun, that is all of it. */
  end(reason: unknown): void {
    if (this.signal.aborted) return;
    const error = this.explained(reason);
    if (this.stream) return this.stream.end(Buffer.from(closedEvent(error)));
    this.leave();
    refuse(this.res, this.asked, this.options.config, error);
  }

  private explained(reason: unknown): WalcastError {
    const hub = this.options.hub();
    const error = reason instanceof WalcastError ? reason : unexpected;
    if (error !== reason) hub?.log.error({ err: reason }, "serving a request failed");
    hub?.noteRefusal(error.code);
    return error;
  }

  private leave(): void {
    if (this.signal.aborted) return;
    this.leaving.abort();
    this.credentials.end();
    this.onOver();
  }
}

const unexpected = new WalcastError(
  "snapshot_failed",
  "serve a request: an unexpected error, which the engine's log tells",
);

/** Why a stream ends. It is not called `error`: that is what EventSource calls its own. */
function closedEvent(error: WalcastError): string {
  return encodeEvent({ event: "closed", data: JSON.stringify(error) });
}

/**
 * EventSource gives up for good at any other status than 200, and comes back after a stream that ended. So what will pass
 * ends a stream.
 */
function refuse(res: HttpResponse, asked: Asked, config: Config, reason: unknown): void {
  const error = reason instanceof WalcastError ? reason : unexpected;
  const headers = crossOriginHeaders(asked, config);
  if (!asked.wantsEvents || !passing.has(error.code)) return answer(res, statusOf(error), error, headers);
  const stream = new EventStream(res, { headers, heartbeatMs: 60_000, idleMs: 0, budgetBytes: 0, onOver: () => {} });
  stream.end(Buffer.from(closedEvent(error)));
}

const passing: ReadonlySet<string> = new Set(["not_streaming", "auth_unavailable", "going_away", "snapshot_failed"]);

/** Who asked may read the answer, whatever it says, if it may connect at all. https://fetch.spec.whatwg.org/#http-cors-protocol */
function crossOriginHeaders({ visitor }: Asked, config: Config): [string, string][] {
  const { origin } = visitor;
  if (origin === undefined || !mayConnect(visitor, config)) return [];
  const allowed: [string, string][] = [
    ["Access-Control-Allow-Origin", origin],
    ["Vary", "Origin"],
  ];
  // Cookies are for those pages alone that the config names.
  if (config.origins?.includes(origin)) allowed.push(["Access-Control-Allow-Credentials", "true"]);
  return allowed;
}

function answerPreflight(res: HttpResponse, asked: Asked, config: Config): void {
  res.cork(() => {
    res.writeStatus("204 No Content");
    for (const [name, value] of crossOriginHeaders(asked, config)) res.writeHeader(name, value);
    res.writeHeader("Access-Control-Allow-Methods", "GET, HEAD, POST");
    res.writeHeader(
      "Access-Control-Allow-Headers",
      "Authorization, Content-Type, Last-Event-ID, Cache-Control, If-None-Match",
    );
    res.writeHeader("Access-Control-Max-Age", "600");
    res.endWithoutBody();
  });
}
