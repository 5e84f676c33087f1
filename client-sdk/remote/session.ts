/** One guest, as the host sees it: does what it asks, tells it what it listens to. */
import { errorFromJson, WalcastError } from "../../engine/protocol.ts";
import type { ShapeDescription } from "../description.ts";
import type { Inspection } from "../index.ts";
import {
  type Call,
  type Calls,
  errorToJson,
  type Port,
  type Subscription,
  type ToGuest,
  type ToHost,
} from "./messages.ts";
import { Deferred } from "../listeners.ts";
import { PageMeetings } from "./meetings.ts";
import { Outbox } from "./outbox.ts";
import type { Core, Listening, Sources } from "./sources.ts";
import { Transactions } from "./transactions.ts";

export interface SessionHooks {
  /** It says something: the last one to do so is the page that somebody is using. */
  heard(session: Session): void;
  /** Its page has another token. */
  tokenChanged(session: Session): void;
  /** It has said good-bye. */
  left(session: Session): void;
  /** How long it may hold a transaction open without a word. */
  readonly silenceMs?: number | undefined;
}

type Handlers = {
  readonly [Name in keyof Calls]: (
    session: Session,
    ...args: Parameters<Calls[Name]>
  ) => Promise<ReturnType<Calls[Name]>> | ReturnType<Calls[Name]>;
};

const handlers: Handlers = {
  query: ({ core }, sql, params) => core.query(sql, params),
  awaitPosition: ({ core }, target, timeoutMs) => core.awaitPosition(target, { timeoutMs }),
  setToken: (session) => session.hooks.tokenChanged(session),
  begin: ({ transactions }, how) => transactions.begin(how),
  step: ({ transactions }, number, sql, params) => transactions.step(number, sql, params),
  stepAll: ({ transactions }, number, sql) => transactions.stepAll(number, sql),
  end: ({ transactions }, number, how) => transactions.end(number, how),
  wake: ({ core }) => core.wake(),
  look: ({ core }) => core.look(),
  describe: (session, opened) => session.describe(opened),
  pgliteQuery: ({ core }, sql, params) => core.pglite.query(sql, params && [...params]),
  pgliteExec: ({ core }, sql) => core.pglite.exec(sql),
};

export class Session {
  readonly core: Core;
  readonly hooks: SessionHooks;
  readonly transactions: Transactions;
  private readonly meetings: PageMeetings;
  private readonly sources: Sources;
  private readonly port: Port<ToGuest, ToHost>;
  private readonly outbox: Outbox<ToGuest>;
  private readonly listenings = new Map<number, Listening>();
  private readonly asked = new Map<number, Deferred<string | undefined>>();
  private lastAsked = 0;
  private said: { status: string; position: string } | undefined;
  private isOver = false;

  constructor(port: Port<ToGuest, ToHost>, core: Core, sources: Sources, hooks: SessionHooks) {
    this.core = core;
    this.hooks = hooks;
    this.sources = sources;
    this.transactions = new Transactions(core, hooks.silenceMs);
    this.meetings = new PageMeetings(core, (message) => this.say(message));
    this.port = port;
    this.outbox = new Outbox(port, {
      last: () => this.newState(),
      refused: (message, error) => this.refused(message, error),
    });
    port.onMessages = (messages) => this.receive(messages);
    this.outbox.add({ kind: "welcome" });
  }

  /** The status or the position may be another. */
  changed(): void {
    this.outbox.add();
  }

  inspected(inspection: Inspection): void {
    this.outbox.add({ kind: "inspection", inspection });
  }

  /** The page's token. Rejects with what the page's function rejects with, or `closed`. */
  askToken(): Promise<string | undefined> {
    const id = ++this.lastAsked;
    const answer = new Deferred<string | undefined>();
    this.asked.set(id, answer);
    this.outbox.add({ kind: "ask", id, what: "token" });
    return answer.promise;
  }

  async describe(opened: number): Promise<ShapeDescription> {
    const described = this.listenings.get(opened)?.describe();
    if (!described) throw new WalcastError("closed", "describe a shape: it was unsubscribed");
    return described;
  }

  /** The replica has failed: what comes of that is not the guest's business, as another host will come. */
  fail(error: WalcastError): void {
    this.say({ kind: "gone", error: error.toJSON() });
    this.close();
  }

  /** The guest is gone, or the host goes. */
  close(): void {
    if (this.isOver) return;
    this.outbox.flush();
    this.isOver = true;
    this.transactions.close();
    for (const listening of this.listenings.values()) listening.leave();
    this.listenings.clear();
    this.meetings.close();
    for (const answer of this.asked.values()) answer.reject(new WalcastError("closed", "ask a page: it is gone"));
    this.port.onMessages = undefined;
    this.port.close();
  }

  private receive(messages: readonly ToHost[]): void {
    this.hooks.heard(this);
    for (const message of messages) if (!this.isOver) this.act(message);
  }

  private act(message: ToHost): void {
    switch (message.kind) {
      case "call":
        return this.answer(message.id, async () => this.run(message));
      case "open":
        return this.open(message.id, message);
      case "close":
        return this.answer(message.id, async () => this.listenings.get(message.id)?.close());
      case "answer":
        return this.answered(message);
      case "meeting":
        return this.meetings.take(message.message);
      case "ping":
        return this.outbox.add({ kind: "pong" });
      case "bye":
        return this.hooks.left(this);
    }
  }

  private answer(id: number, work: () => Promise<unknown>): void {
    work().then(
      (value) => this.say({ kind: "result", id, value }),
      (error: unknown) => this.say({ kind: "failed", id, error: errorToJson(error) }),
    );
  }

  /** The compiler cannot see that the name that chooses the function chooses the arguments as well. */
  private run({ name, args }: Call): unknown {
    return (handlers[name] as (session: Session, ...args: readonly unknown[]) => unknown)(this, ...args);
  }

  private open(id: number, subscription: Subscription): void {
    try {
      this.listenings.set(
        id,
        this.sources.listen(subscription, (event) => this.say({ kind: "event", id, event })),
      );
    } catch (error) {
      this.say({ kind: "failed", id, error: errorToJson(error) });
    }
  }

  private answered({ id, token, error }: Extract<ToHost, { kind: "answer" }>): void {
    const answer = this.asked.get(id);
    this.asked.delete(id);
    if (error) answer?.reject(errorFromJson(error));
    else answer?.resolve(token);
  }

  private say(message: ToGuest): void {
    if (!this.isOver) this.outbox.add(message);
  }

  private newState(): ToGuest | undefined {
    const { status, position } = this.core;
    if (this.said?.status === status && this.said.position === position) return undefined;
    this.said = { status, position };
    return { kind: "state", status, position };
  }

  private refused(message: ToGuest, error: unknown): void {
    if (message.kind === "result") this.say({ kind: "failed", id: message.id, error: errorToJson(error) });
  }
}
