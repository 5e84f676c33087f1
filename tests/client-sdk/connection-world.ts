/** A world for a connection: a clock that tests move, and a network with a server on it that does as it is told. */
import type { Edge } from "../../client-sdk/edge.ts";
import { type ClientMessage, closeCodes } from "../../engine/protocol.ts";

export type Server =
  /** Nobody listens. */
  | "gone"
  /** What is sent there is never heard of again. */
  | "swallows"
  | "does not greet"
  | "greets and hangs up"
  | "good"
  /** The code with which it answers every hello. */
  | number;

export const positionEveryMs = 1000;
export const tokenLastsMs = 60_000;
const latencyMs = 5;

interface Timer {
  atMs: number;
  readonly work: () => void;
  readonly isClients: boolean;
}

export class World implements Edge {
  server: Server = "good";
  /** Until when it takes which tokens. */
  readonly validUntilMs = new Map<string, number>();
  authenticates = 0;
  /** By which the client's next wait is shortened: the last that was drawn. */
  chance = 0.5;
  readonly sockets: Socket[] = [];
  private readonly timers = new Set<Timer>();
  private nowMs = 1000;

  now(): number {
    return this.nowMs;
  }

  random(): number {
    return this.chance;
  }

  after(ms: number, work: () => void): () => void {
    return this.at(ms, work, true);
  }

  open(): WebSocket {
    const socket = new Socket(this);
    this.sockets.push(socket);
    return socket as unknown as WebSocket;
  }

  issue(token: string): void {
    this.validUntilMs.set(token, this.nowMs + tokenLastsMs);
  }

  /** How long a token lasts, if it does at all. */
  lastsMs(token: string | undefined): number {
    return (this.validUntilMs.get(token ?? "") ?? 0) - this.nowMs;
  }

  /** Something that the network or the server does. */
  later(ms: number, work: () => void): void {
    this.at(ms, work, false);
  }

  get clientTimers(): number {
    return this.timers.values().reduce((count, { isClients }) => count + (isClients ? 1 : 0), 0);
  }

  get openSockets(): readonly Socket[] {
    return this.sockets.filter(({ readyState }) => readyState <= WebSocket.OPEN);
  }

  /** Time passes, and everything comes when it is due. */
  async pass(ms: number, check: () => void): Promise<void> {
    const endMs = this.nowMs + ms;
    await settled();
    for (let timer = this.due(endMs); timer; timer = this.due(endMs)) {
      this.nowMs = Math.max(this.nowMs, timer.atMs);
      this.timers.delete(timer);
      timer.work();
      await settled();
      check();
    }
    this.nowMs = endMs;
  }

  /** The client does not run, the others do; whether its clock counts the time is its system's choice. */
  sleep(ms: number, counts: boolean): void {
    if (counts) this.nowMs += ms;
    else for (const timer of this.timers) if (!timer.isClients) timer.atMs -= ms;
  }

  /** Nobody hears anything any more, and nobody is told. */
  cutSilently(): void {
    for (const socket of this.openSockets) socket.isCut = true;
  }

  private at(ms: number, work: () => void, isClients: boolean): () => void {
    const timer: Timer = { atMs: this.nowMs + Math.max(Math.ceil(ms), 1), work, isClients };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  private due(endMs: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.timers) if (timer.atMs <= endMs && (!first || timer.atMs < first.atMs)) first = timer;
    return first;
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

class Socket {
  readyState: number = WebSocket.CONNECTING;
  binaryType = "";
  isCut = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  private readonly world: World;
  private readonly closed: (() => void)[] = [];
  private frame = 0;
  private expiry = 0;

  constructor(world: World) {
    this.world = world;
    const { server } = world;
    if (server === "gone") this.arrives(() => this.hangUp(1006));
    else if (server !== "swallows") this.arrives(() => this.opened());
  }

  addEventListener(_event: "close", listener: () => void): void {
    this.closed.push(listener);
  }

  send(text: string): void {
    const message = JSON.parse(text) as ClientMessage;
    this.arrives(() => this.answer(message));
  }

  close(): void {
    this.readyState = WebSocket.CLOSED;
    for (const listener of this.closed) listener();
  }

  private opened(): void {
    this.readyState = WebSocket.OPEN;
    this.onopen?.();
  }

  private answer(message: ClientMessage): void {
    if (message.kind === "hello") this.greet(message.token);
    if (message.kind === "ping") this.say({ kind: "pong" });
    if (message.kind === "authenticate") this.authenticate(message.token);
  }

  private greet(token: string | undefined): void {
    const { server } = this.world;
    if (server === "does not greet") return;
    if (typeof server === "number") return this.hangUp(server);
    const expiresInMs = this.expire(token);
    if (expiresInMs === undefined) return;
    this.say({ kind: "welcome", epoch: "epoch", position: "0/1", positionEveryMs, expiresInMs });
    if (server === "greets and hangs up") this.arrives(() => this.hangUp(1006));
    else this.beat();
  }

  private authenticate(token: string): void {
    this.world.authenticates++;
    const expiresInMs = this.expire(token);
    if (expiresInMs !== undefined) this.say({ kind: "authenticated", expiresInMs });
  }

  private expire(token: string | undefined): number | undefined {
    const lastsMs = this.world.lastsMs(token);
    if (lastsMs <= 0) {
      this.hangUp(closeCodes.unauthenticated);
      return undefined;
    }
    const expiry = ++this.expiry;
    this.world.later(lastsMs, () => {
      if (expiry === this.expiry && !this.isCut) this.hangUp(closeCodes.unauthenticated);
    });
    return lastsMs;
  }

  private beat(): void {
    this.world.later(positionEveryMs, () => {
      if (this.readyState !== WebSocket.OPEN) return;
      this.say({ kind: "unsubscribed", id: 1 });
      this.beat();
    });
  }

  private say(message: object): void {
    const data = JSON.stringify({ ...message, frame: ++this.frame });
    this.arrives(() => this.onmessage?.({ data }));
  }

  private arrives(work: () => void): void {
    this.world.later(latencyMs, () => {
      if (!this.isCut && this.readyState <= WebSocket.OPEN) work();
    });
  }

  private hangUp(code: number): void {
    if (this.readyState === WebSocket.CLOSED) return;
    this.close();
    this.onclose?.({ code, reason: "" });
  }
}
