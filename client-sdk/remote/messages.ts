/**
 * What a guest (a page's thin client) and a host (the core, in a worker) say to each other. Everything is a structured clone,
 * and what one side has to say at one moment is one message, a list: what belongs together arrives together.
 *
 *     guest                              host
 *                                  ◀─    welcome · refused
 *     call id                      ─▶
 *                                  ◀─    result id · failed id        exactly one of them
 *     open id                      ─▶
 *                                  ◀─    event id                     any number of them
 *     close id                     ─▶
 *                                  ◀─    result id · failed id
 *                                  ◀─    ask id                       for the page's token
 *     answer id                    ─▶
 *     meeting                      ─▶                                  of an ephemeral topic
 *                                  ◀─    meeting, unmet
 *     ping, bye                    ─▶
 *                                  ◀─    pong, state
 *                                  ◀─    gone                         the last word of a host that has failed
 *
 * A new call is a line in `Calls` and one in the host's table; something new to listen to is a line in `Subscriptions` and a
 * source of the host's.
 */
import type { Results } from "@electric-sql/pglite";
import type { IsolationLevel } from "kysely";

import { type ErrorJson, WalcastError } from "../../engine/protocol.ts";
import type { ChangeEvent, Channel } from "../channel.ts";
import type { ShapeDescription } from "../description.ts";
import type { ChannelOptions, ClientStatus, Inspection } from "../index.ts";
import type { LiveRequest, LiveStatus } from "../live.ts";
import type { Row } from "../row.ts";
import type { ShapeOptions, ShapeProgress, ShapeStatus } from "../shape.ts";
import type { TopicMessage, TopicOptions } from "../topic.ts";
import type { Meet, MeetingMessage } from "./meetings.ts";
import type { Patch } from "./patch.ts";

/** What a guest can have done, and what comes of it. */
export interface Calls {
  query(sql: string, params: readonly unknown[]): readonly Row[];
  awaitPosition(target: string | { readonly xid: string }, timeoutMs: number): void;
  /** The page has another token: it will be asked for it. */
  setToken(): void;
  /** Opens a transaction, which has the replica's turn until it ends. Gives its number. */
  begin(how: Begin): number;
  step(transaction: number, sql: string, params: readonly unknown[]): StepResult;
  /** Any number of statements without parameters; of PGlite's transactions only. */
  stepAll(transaction: number, sql: string): readonly Results[];
  end(transaction: number, how: "commit" | "rollback"): void;
  /** The page is there again, or its network. */
  wake(): void;
  /** Somebody inspects the client: what the shapes hold is counted. */
  look(): void;
  /** Of a shape that is open, by its number. */
  describe(opened: number): ShapeDescription;
  /** `client.pglite`'s own. */
  pgliteQuery(sql: string, params: readonly unknown[] | undefined): Results<Row>;
  pgliteExec(sql: string): readonly Results[];
}

/** Of a transaction of PGlite's all that PGlite says. */
export type StepResult = Pick<Results<Row>, "rows"> & Partial<Results<Row>>;

export type Begin =
  | { readonly kind: "kysely"; readonly isolationLevel: IsolationLevel | undefined }
  | { readonly kind: "pglite" };

/** What only reads, or says the same twice, is asked again of the next host; everything else fails with `connection_lost`. */
export const isAskedAgain: Readonly<Record<keyof Calls, boolean>> = {
  query: true,
  awaitPosition: true,
  setToken: true,
  describe: true,
  wake: true,
  look: true,
  begin: true,
  step: false,
  stepAll: false,
  end: false,
  pgliteQuery: false,
  pgliteExec: false,
};

/** What a guest can listen to. Equal requests share one source on the host. */
export interface Subscriptions {
  live: { request: LiveRequest; event: LiveEvent };
  shape: { request: ShapeOptions; event: ShapeEvent };
  channel: { request: { readonly table: string; readonly options: ChannelOptions }; event: ChannelEvent };
  topic: { request: { readonly topic: string; readonly options: TopicOptions }; event: TopicEvent };
  keys: { request: { readonly keys: readonly string[] }; event: KeysEvent };
}

export type LiveEvent =
  | { readonly kind: "rows"; readonly rows: readonly Row[]; readonly position: string }
  | { readonly kind: "patch"; readonly patch: Patch; readonly position: string }
  | { readonly kind: "state"; readonly status: LiveStatus; readonly error: ErrorJson | undefined };

export interface ShapeEvent {
  readonly status: ShapeStatus;
  readonly progress: ShapeProgress;
  readonly error: ErrorJson | undefined;
}

export type ChannelEvent =
  | { readonly kind: "change"; readonly change: ChangeEvent<Row> }
  | { readonly kind: "state"; readonly status: Channel<Row>["status"]; readonly error: ErrorJson | undefined };

export type TopicEvent =
  | { readonly kind: "connected"; readonly position: string; readonly missed: ErrorJson | undefined }
  | { readonly kind: "message"; readonly message: TopicMessage }
  | { readonly kind: "failed"; readonly error: ErrorJson };

export type KeysEvent =
  /** From here on what is named is told. */
  | { readonly kind: "began"; readonly position: string }
  | {
      readonly kind: "revalidated";
      readonly keys: readonly string[];
      readonly position: string;
      readonly missed: ErrorJson | undefined;
    }
  | { readonly kind: "failed"; readonly error: ErrorJson };

export type Call = {
  [Name in keyof Calls]: { readonly name: Name; readonly args: Parameters<Calls[Name]> };
}[keyof Calls];

export type Subscription = {
  [Name in keyof Subscriptions]: { readonly name: Name; readonly request: Subscriptions[Name]["request"] };
}[keyof Subscriptions];

export type SubscriptionEvent = Subscriptions[keyof Subscriptions]["event"];

/** Nothing is said before the welcome: the host may not listen yet. */
export type ToHost =
  | ({ readonly kind: "call"; readonly id: number } & Call)
  | ({ readonly kind: "open"; readonly id: number } & Subscription)
  | { readonly kind: "close"; readonly id: number }
  | { readonly kind: "answer"; readonly id: number; readonly token?: string | undefined; readonly error?: ErrorJson }
  | { readonly kind: "meeting"; readonly message: MeetingMessage }
  | { readonly kind: "ping" }
  | { readonly kind: "bye" };

export type ToGuest =
  /** First of all. */
  | { readonly kind: "welcome" }
  /** It may not share this replica. */
  | { readonly kind: "refused"; readonly error: ErrorJson }
  | { readonly kind: "result"; readonly id: number; readonly value: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly error: ErrorJson }
  | { readonly kind: "event"; readonly id: number; readonly event: SubscriptionEvent }
  | { readonly kind: "state"; readonly status: ClientStatus; readonly position: string }
  | { readonly kind: "inspection"; readonly inspection: Inspection }
  | { readonly kind: "ask"; readonly id: number; readonly what: "token" }
  | { readonly kind: "meeting"; readonly meet: Meet }
  /** It may not be in the topic. */
  | { readonly kind: "unmet"; readonly topic: string; readonly error: ErrorJson }
  /** Its replica has failed, and it says no more: another host will come. */
  | { readonly kind: "gone"; readonly error: ErrorJson }
  | { readonly kind: "pong" };

/** One end of what carries messages, in order: a MessagePort, a BroadcastChannel that only two know. */
export interface Port<Out, In> {
  post(messages: readonly Out[]): void;
  onMessages: ((messages: readonly In[]) => void) | undefined;
  close(): void;
}

export function portOf<Out, In>(channel: MessagePort | BroadcastChannel): Port<Out, In> {
  const port: Port<Out, In> = {
    post: (messages) => channel.postMessage(messages),
    onMessages: undefined,
    close: () => channel.close(),
  };
  channel.onmessage = ({ data }: MessageEvent<readonly In[]>) => port.onMessages?.(data);
  return port;
}

/** Code, message, hint and position: what every transport carries. */
export function errorToJson(error: unknown): ErrorJson {
  const known = error instanceof WalcastError;
  return (
    known ? error : new WalcastError("query_failed", error instanceof Error ? error.message : String(error))
  ).toJSON();
}
