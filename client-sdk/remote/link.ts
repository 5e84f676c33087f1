/**
 * A guest's side of the conversation, with whoever is the host now. Hosts come and go; what the guest listens to is asked for
 * again, calls that only read as well, and other calls fail: nobody knows whether they were done.
 */
import { errorFromJson, type ErrorJson, WalcastError } from "../../engine/protocol.ts";
import { Deferred } from "../listeners.ts";
import {
  type Calls,
  errorToJson,
  isAskedAgain,
  type Port,
  type Subscription,
  type Subscriptions,
  type ToGuest,
  type ToHost,
} from "./messages.ts";
import type { Meet, MeetingMessage } from "./meetings.ts";
import { Outbox } from "./outbox.ts";

export interface LinkHooks {
  /** A host is there, and listens. */
  welcomed(): void;
  /** It is gone. */
  lost(): void;
  /** The host does not want this guest. Another one may. */
  barred(error: WalcastError): void;
  /** There is no replica, and there will be none. */
  ended(): void;
  /** What concerns no call and no subscription. Returns what tells the application. */
  state(message: Extract<ToGuest, { kind: "state" | "inspection" }>): () => void;
  /** Of an ephemeral topic. */
  met(meet: Meet): void;
  unmet(topic: string, error: ErrorJson): void;
  /** Why there is no host for now, or another one soon. */
  troubled(error: WalcastError): void;
  token(): Promise<string | undefined>;
}

/** What is listened to. */
export interface Handle<Event, Request = unknown> {
  /** A host is there. What to ask it for, where that is something else than the first one was asked for. */
  again?(): Request | undefined;
  /** Takes what is new. Returns what tells the application: it is told when all of a message is taken. */
  apply(event: Event): () => void;
  /** Nothing will come. */
  failed(error: WalcastError): () => void;
  /** Nothing comes before `again`, where that is not the same. */
  barred?(error: WalcastError): () => void;
}

export interface Opened {
  /** What the host knows it by. */
  readonly id: number;
  close(): Promise<void>;
}

interface Pending {
  /** How many hosts went without having answered it. */
  lost: number;
  readonly message: Extract<ToHost, { kind: "call" | "close" }>;
  readonly done: Deferred<unknown>;
}

interface Listened {
  readonly message: Extract<ToHost, { kind: "open" }>;
  readonly handle: Handle<never>;
}

/** A call that so many hosts have not survived may be what ends them. */
const LOST_MAX = 3;
/** Without a host for so long, calls fail. */
const HOST_MS = 10_000;

export class Link {
  private readonly hooks: LinkHooks;
  private readonly pending = new Map<number, Pending>();
  private readonly listened = new Map<number, Listened>();
  private port: Port<ToHost, ToGuest> | undefined;
  private outbox: Outbox<ToHost> | undefined;
  private lastId = 0;
  private alone: ReturnType<typeof setTimeout> | undefined;
  private over: WalcastError | undefined;
  /** Why the last host did not want us, until another one does. */
  private bar: WalcastError | undefined;
  /** When the host was last heard. */
  heardMs = performance.now();

  constructor(hooks: LinkHooks) {
    this.hooks = hooks;
    this.wait();
  }

  /** A host is there, and has not refused us. */
  get isWelcome(): boolean {
    return this.outbox !== undefined;
  }

  /** Another host. */
  attach(port: Port<ToHost, ToGuest>): void {
    this.detach();
    if (this.over) return port.close();
    this.port = port;
    port.onMessages = (messages) => this.receive(messages);
  }

  /** There is no host any more, for now. */
  detach(): void {
    if (!this.port) return;
    this.port.onMessages = undefined;
    this.port.close();
    const wasWelcome = this.outbox !== undefined;
    this.port = this.outbox = undefined;
    const error = new WalcastError("connection_lost", "ask the replica: the page that had it went before it answered");
    for (const pending of [...this.pending.values()]) {
      const { message } = pending;
      if (wasWelcome) pending.lost++;
      // What a host held for the guest is gone with it.
      if (message.kind === "close") this.settle(message.id)?.resolve(undefined);
      else if (!isAskedAgain[message.name] || pending.lost >= LOST_MAX) this.settle(message.id)?.reject(error);
    }
    this.hooks.lost();
    this.wait();
  }

  call<Name extends keyof Calls>(name: Name, ...args: Parameters<Calls[Name]>): Promise<ReturnType<Calls[Name]>> {
    const message = { kind: "call", id: ++this.lastId, name, args } as Extract<ToHost, { kind: "call" }>;
    return this.request(message) as Promise<ReturnType<Calls[Name]>>;
  }

  /** `close` resolves when the host has let go of it. */
  open<Name extends keyof Subscriptions>(
    name: Name,
    request: Subscriptions[Name]["request"],
    handle: Handle<Subscriptions[Name]["event"], Subscriptions[Name]["request"]>,
  ): Opened {
    const id = ++this.lastId;
    const message = { kind: "open", id, ...({ name, request } as Subscription) } as const;
    this.listened.set(id, { message, handle });
    this.outbox?.add(message);
    const close = async (): Promise<void> => {
      if (this.listened.delete(id) && this.outbox && !this.over) await this.request({ kind: "close", id });
    };
    return { id, close };
  }

  /** There is no replica, and there will be none. */
  refuse(error: WalcastError): void {
    this.barred(error)();
    this.close(error);
    this.hooks.ended();
  }

  /** There is none for now. */
  trouble(error: WalcastError): void {
    this.hooks.troubled(error);
  }

  /** To an ephemeral topic: dropped where there is no host. */
  meet(message: MeetingMessage): void {
    this.outbox?.add({ kind: "meeting", message });
  }

  /** Asks for a sign of life. */
  ping(): void {
    this.outbox?.add({ kind: "ping" });
  }

  close(error: WalcastError): void {
    this.over = error;
    clearTimeout(this.alone);
    this.outbox?.add({ kind: "bye" });
    this.outbox?.flush();
    for (const id of [...this.pending.keys()]) this.settle(id)?.reject(error);
    this.listened.clear();
    if (this.port) this.port.onMessages = undefined;
    this.port?.close();
    this.port = this.outbox = undefined;
  }

  private request(message: Pending["message"]): Promise<unknown> {
    const refused = this.over ?? this.bar;
    if (refused) return Promise.reject(refused);
    const done = new Deferred<unknown>();
    this.pending.set(message.id, { message, done, lost: 0 });
    if (this.outbox) this.outbox.add(message);
    else this.wait();
    return done.promise;
  }

  private settle(id: number): Deferred<unknown> | undefined {
    const done = this.pending.get(id)?.done;
    this.pending.delete(id);
    return done;
  }

  // ── What the host says ─────────────────────────────────────────────────────────────────────────────────────────────

  private receive(messages: readonly ToGuest[]): void {
    this.heardMs = performance.now();
    const tell = messages.map((message) => this.take(message));
    for (const telling of tell) telling?.();
  }

  private take(message: ToGuest): (() => void) | undefined {
    switch (message.kind) {
      case "welcome":
        this.welcomed();
        return undefined;
      case "refused":
        return this.barred(errorFromJson(message.error));
      case "result":
        this.settle(message.id)?.resolve(message.value);
        return undefined;
      case "failed":
        return this.failed(message.id, errorFromJson(message.error));
      case "event":
        return this.listened.get(message.id)?.handle.apply(message.event as never);
      case "state":
      case "inspection":
        return this.hooks.state(message);
      case "meeting":
        return () => this.hooks.met(message.meet);
      case "unmet":
        return () => this.hooks.unmet(message.topic, message.error);
      case "gone":
        return () => this.gone(errorFromJson(message.error));
      case "ask":
        return void this.answer(message.id);
      case "pong":
        return undefined;
    }
  }

  private barred(error: WalcastError): () => void {
    this.detach();
    this.bar = error;
    for (const id of [...this.pending.keys()]) this.settle(id)?.reject(error);
    const tell = Array.from(this.listened.values(), ({ handle }) => handle.barred?.(error) ?? handle.failed(error));
    return () => {
      this.hooks.barred(error);
      for (const telling of tell) telling();
    };
  }

  private gone(error: WalcastError): void {
    this.hooks.troubled(error);
    this.detach();
  }

  private welcomed(): void {
    const { port } = this;
    if (!port || this.outbox) return;
    clearTimeout(this.alone);
    this.alone = this.bar = undefined;
    const refused = (message: ToHost, error: unknown): void => this.uncloneable(message, error);
    this.outbox = new Outbox(port, { refused });
    for (const { message, handle } of this.listened.values())
      this.outbox.add({ ...message, request: handle.again?.() ?? message.request } as typeof message);
    for (const { message } of this.pending.values()) this.outbox.add(message);
    this.hooks.welcomed();
  }

  private failed(id: number, error: WalcastError): (() => void) | undefined {
    const done = this.settle(id);
    done?.reject(error);
    const handle = this.listened.get(id)?.handle;
    this.listened.delete(id);
    return handle?.failed(error);
  }

  private uncloneable(message: ToHost, cause: unknown): void {
    if (message.kind !== "call" && message.kind !== "open") return;
    const error = new WalcastError("query_failed", "ask the replica: a parameter is nothing that can be sent to it", {
      cause,
    });
    this.failed(message.id, error)?.();
  }

  private async answer(id: number): Promise<void> {
    const { outbox } = this;
    try {
      outbox?.add({ kind: "answer", id, token: await this.hooks.token() });
    } catch (error) {
      outbox?.add({ kind: "answer", id, error: errorToJson(error) });
    }
  }

  /** Only once: not every call begins to wait anew. */
  private wait(): void {
    if (this.over || this.outbox) return;
    this.alone ??= setTimeout(() => {
      this.alone = undefined;
      const error = new WalcastError("replica_failed", `ask the replica: no page has had it open for ${HOST_MS} ms`);
      for (const [id, { message }] of [...this.pending]) if (message.kind === "call") this.settle(id)?.reject(error);
    }, HOST_MS);
  }
}
