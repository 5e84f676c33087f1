/** One port for everything: the socket at /v1/sync, health and metrics, static files, and the app's own routes. */
import { createServer } from "node:net";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { WalcastError } from "../errors.ts";
import { closeCodes, subprotocol } from "../protocol.ts";
import { Tally } from "./bounds.ts";
import { Deadlines } from "./deadlines.ts";
import { Shares } from "./shares.ts";
import type { Publisher } from "../topics/publisher.ts";
import { servePublish, serveRevalidate } from "../topics/serve-publish.ts";
import { serveTopic, type ServeTopicServices } from "../topics/serve-topic.ts";
import { serveStream } from "../watch/durable-stream.ts";
import { serveWatch } from "../watch/serve.ts";
import type { ToldKeys } from "../watch/told-keys.ts";
import type { Watches } from "../watch/watches.ts";
import { Guests } from "./guest.ts";
import { answer, answerText, type HttpServices, serveApp, serveHealth, serveMetrics } from "./http.ts";
import { type Door, Session, type SessionServices } from "./session.ts";
import { staticFiles } from "./static.ts";
import {
  type HttpRequest,
  type HttpResponse,
  type ListenSocket,
  type SocketContext,
  type TemplatedApp,
  uws,
  type WebSocket,
} from "./uws.ts";
import type { Socket } from "./frames.ts";
import { mayConnect, type Visitor, visitorOf } from "./visitor.ts";

interface SocketData {
  readonly visitor: Visitor;
  /** Its address has one connection less. */
  readonly release: () => void;
  session?: Session;
}

/** So many are named in the log, each once. */
const originsLoggedMax = 100;

// Of uSockets. Connections to an exclusive port keep it from the next engine for a minute after they were closed, so a
// port that was asked for is reusable. That would also let a second engine on it silently take half of the clients,
// which is why we look first whether somebody listens there. The library has this overload, its type does not.
const EXCLUSIVE_PORT = 1;
const REUSABLE_PORT = 0;
interface AppWithListenOptions {
  listen(host: string, port: number, options: number, onListen: (socket: ListenSocket | false) => void): void;
}

/** Above our own limit, so that a client that exceeds ours is told so instead of just cut off. */
const payloadSlack = 4;

export interface ServerOptions extends HttpServices {
  readonly config: Config;
  readonly log: Logger;
}

export interface ServerServices extends SessionServices {
  readonly watches: Watches;
  readonly toldKeys: ToldKeys;
  readonly publisher: Publisher;
}

export class Server {
  private readonly options: ServerOptions;
  private services: ServerServices | undefined;
  private readonly app: TemplatedApp;
  private readonly sessions = new Set<Session>();
  private readonly addresses: Tally;
  /** Of each address. */
  private readonly connects: Shares<string>;
  /** Made once: who comes too often must cost next to nothing. */
  private readonly connectsTooFast: WalcastError;
  private readonly door: Door;
  private readonly guests: Guests;
  private readonly originsLogged = new Set<string>();
  private listening: ListenSocket | undefined;
  port = 0;

  constructor(options: ServerOptions) {
    this.options = options;
    const { connectionsPerAddress, connectionsPerUser, connectsPerMinute, helloMs } = options.config.limits;
    this.addresses = new Tally(connectionsPerAddress);
    this.connects = new Shares(connectsPerMinute);
    this.connectsTooFast = connectsTooFast(connectsPerMinute);
    this.door = { users: new Tally(connectionsPerUser), greetings: new Deadlines(helloMs) };
    this.guests = new Guests({
      config: options.config,
      addresses: this.addresses,
      users: this.door.users,
      connections: () => this.connections,
      hub: () => this.services?.hub,
      refusedOrigin: (origin) => this.noteOrigin(origin),
    });
    this.app = uws.App();
    this.routes();
  }

  /** Throws `port_in_use`. Port 0 takes any free one. */
  async listen(host: string, port: number): Promise<void> {
    if (port === 0) this.listening = await this.tryListen(host, port, EXCLUSIVE_PORT);
    else if (await isFree(host, port)) this.listening = await this.tryListen(host, port, REUSABLE_PORT);
    if (!this.listening)
      throw new WalcastError("port_in_use", `listen on ${host}:${port}: the port is taken`, {
        hint: "stop what listens there, or choose another with --port or WALCAST_PORT",
      });
    this.port = uws.us_socket_local_port(this.listening);
  }

  /** Clients may connect from here on; until then only health, metrics, files and the app are served. */
  admit(services: ServerServices): void {
    this.services = services;
  }

  private tryListen(host: string, port: number, options: number): Promise<ListenSocket | undefined> {
    const app = this.app as unknown as AppWithListenOptions;
    return new Promise((resolve) => app.listen(host, port, options, (socket) => resolve(socket || undefined)));
  }

  get connections(): number {
    return this.sessions.size + this.guests.size;
  }

  /** Connections by what they are at. */
  get states(): ReadonlyMap<string, number> {
    const states = new Map(["greeting", "resuming", "catching_up", "live"].map((state) => [state, 0]));
    for (const { state } of this.sessions) states.set(state, (states.get(state) ?? 0) + 1);
    return states.set("streaming", this.guests.size);
  }

  /** Ends every connection; clients come back by themselves. */
  disconnectAll(reason: string): void {
    for (const session of [...this.sessions]) session.close(closeCodes.goingAway, reason);
  }

  close(): void {
    if (this.listening) uws.us_listen_socket_close(this.listening);
    this.listening = undefined;
    this.disconnectAll("going_away");
    this.guests.endAll(new WalcastError("going_away", "the engine stops"));
    this.app.close();
  }

  private routes(): void {
    const { limits, staticDir, app } = this.options.config;
    this.app.ws<SocketData>("/v1/sync", {
      compression: uws.DISABLED,
      maxPayloadLength: limits.messageBytes * payloadSlack,
      // None of the library's own: it would drop what is above it. Frames keeps to the budget, where a large row needs more than that.
      maxBackpressure: 0,
      closeOnBackpressureLimit: false,
      // In seconds; the library pings by itself before they are over.
      idleTimeout: Math.ceil(limits.idleMs / 1000),
      sendPingsAutomatically: true,
      upgrade: (res, req, context) => this.upgrade(res, req, context),
      open: (ws) => this.open(ws),
      message: (ws, message, isBinary) => ws.getUserData().session?.receive(Buffer.from(message), isBinary),
      drain: (ws) => ws.getUserData().session?.drained(),
      close: (ws) => this.closed(ws),
    });
    this.app.get("/health", (res) => serveHealth(res, this.options));
    this.app.get("/metrics", (res) => void serveMetrics(res, this.options));
    this.app.any("/v1/watch/*", (res, req) =>
      this.guests.receive(res, req, "/v1/watch/", (guest) => serveWatch(guest, this.services!.watches)),
    );
    this.app.any("/v1/stream/*", (res, req) =>
      this.guests.receive(res, req, "/v1/stream/", (guest) => serveStream(guest, this.services!), "get", "head"),
    );
    this.app.any("/v1/topics/*", (res, req) =>
      this.guests.receive(res, req, "/v1/topics/", (guest) => serveTopic(guest, this.topicServices())),
    );
    this.app.any("/v1/publish", (res, req) =>
      this.guests.receive(res, req, "/v1/publish", (guest) => servePublish(guest, this.services!), "post"),
    );
    this.app.any("/v1/revalidate", (res, req) =>
      this.guests.receive(res, req, "/v1/revalidate", (guest) => serveRevalidate(guest, this.services!), "post"),
    );
    const files = staticDir === undefined ? undefined : staticFiles(staticDir);
    this.app.any("/*", (res, req) => {
      if (files && req.getMethod() === "get" && files.serve(res, req.getUrl())) return;
      if (app) serveApp(res, req, app, { bytesMax: limits.messageBytes, log: this.options.log });
      else answerText(res, "404 Not Found", "not found\n");
    });
  }

  private topicServices(): ServeTopicServices {
    const services = this.services!;
    return { ...services, continues: (position) => services.continues(services.epoch(), position) };
  }

  private upgrade(res: HttpResponse, req: HttpRequest, context: SocketContext): void {
    const offered = req.getHeader("sec-websocket-protocol");
    const known = offered === subprotocol || offered.split(",").some((name) => name.trim() === subprotocol);
    if (offered !== "" && !known)
      return answer(
        res,
        "400 Bad Request",
        new WalcastError(
          "unsupported_protocol",
          `connect: expected the subprotocol ${subprotocol}, found ${offered.slice(0, 80)}`,
        ),
      );
    if (!this.services)
      return answer(
        res,
        "503 Service Unavailable",
        new WalcastError("not_streaming", "connect: the engine does not stream yet", { hint: "/health says why" }),
      );
    const visitor = visitorOf(res, req, this.options.config);
    if (!mayConnect(visitor, this.options.config)) return this.refuseOrigin(res, visitor.origin!);
    const now = performance.now();
    if (this.connects.nextAt(visitor.address) >= now)
      return this.refuse(res, "429 Too Many Requests", this.connectsTooFast);
    this.connects.charge(visitor.address, 1, now);
    const { connections } = this.options.config.limits;
    if (this.connections >= connections) return this.tooMany(res, "connections");
    const release = this.addresses.take(visitor.address);
    if (!release) return this.tooMany(res, "connectionsPerAddress");
    res.upgrade<SocketData>(
      { visitor, release },
      req.getHeader("sec-websocket-key"),
      known ? subprotocol : "",
      // We speak none.
      "",
      context,
    );
  }

  private refuseOrigin(res: HttpResponse, origin: string): void {
    const hint = "name it in `origins` of the config";
    const error = new WalcastError("forbidden", `connect: a page of ${origin.slice(0, 80)} may not`, { hint });
    this.refuse(res, "403 Forbidden", error);
    this.noteOrigin(origin);
  }

  private noteOrigin(origin: string): void {
    const hint = "name it in `origins` of the config";
    if (this.originsLogged.size >= originsLoggedMax || this.originsLogged.has(origin)) return;
    this.originsLogged.add(origin);
    this.options.log.warn(
      { origin: origin.slice(0, 80) },
      `a page of another origin was refused; ${hint} if it may connect`,
    );
  }

  private tooMany(res: HttpResponse, limit: "connections" | "connectionsPerAddress"): void {
    const max = this.options.config.limits[limit];
    const hint = `raise limits.${limit}`;
    const error = new WalcastError("too_many", `connect: expected at most ${max} connections`, { hint });
    this.refuse(res, "503 Service Unavailable", error);
  }

  private refuse(res: HttpResponse, status: string, error: WalcastError): void {
    this.services?.hub.noteRefusal(error.code);
    answer(res, status, error);
  }

  private open(ws: WebSocket<SocketData>): void {
    const data = ws.getUserData();
    const session = new Session(ws as unknown as Socket, this.services!, this.door, data.visitor);
    data.session = session;
    this.sessions.add(session);
  }

  private closed(ws: WebSocket<SocketData>): void {
    const { session, release } = ws.getUserData();
    release();
    if (!session) return;
    session.closed();
    this.sessions.delete(session);
  }
}

function connectsTooFast(perMinute: number): WalcastError {
  const found = `expected at most ${perMinute} connections a minute from one address`;
  return new WalcastError("too_fast", `connect: ${found}`, { hint: "raise limits.connectsPerMinute" });
}

/** Whether nobody listens there: Node reuses addresses in TIME_WAIT, and never shares one that is listened on. */
function isFree(host: string, port: number): Promise<boolean> {
  const probe = createServer();
  return new Promise((resolve) => {
    probe.once("error", () => resolve(false));
    probe.listen(port, host, () => probe.close(() => resolve(true)));
  });
}
