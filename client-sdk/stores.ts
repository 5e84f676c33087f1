/**
 * What every binding to a framework shares: a live query, a shape, the client's status and a channel as stores, each of
 * them a snapshot and a way to hear that it is another one. A store begins with its first subscriber and ends with its last,
 * so a framework that renders without mounting leaves nothing behind.
 */
import {
  type ChangeEvent,
  type ChannelOptions,
  type Client,
  type ClientStatus,
  type LiveQuery,
  type LiveStatus,
  type Shape,
  type ShapeOptions,
  type ShapeProgress,
  type ShapeStatus,
  type TopicMessage,
  type TopicOptions,
  WalcastError,
} from "./index.ts";

export interface Store<State> {
  /** The same object as long as nothing changed. */
  readonly snapshot: () => State;
  /** Returns what ends it. */
  readonly subscribe: (listener: () => void) => () => void;
}

/** What of a client an application hands to its components: of whatever database, it comes out with the type that they name. */
export type AnyClient = Pick<Client, "status" | "position" | "inspect" | "close">;

export interface LiveResult<Row> {
  /** The same array as long as nothing changed, and unchanged rows stay the same objects. */
  readonly rows: readonly Row[];
  readonly status: LiveStatus;
  readonly error: WalcastError | undefined;
}

export const loadingResult: LiveResult<never> = { rows: [], status: "loading", error: undefined };

export interface ShapeState {
  readonly status: ShapeStatus;
  readonly progress: ShapeProgress;
  readonly error: WalcastError | undefined;
}

export const loadingShape: ShapeState = {
  status: "loading",
  progress: { rows: 0, bytes: 0, estimatedRows: 0 },
  error: undefined,
};

export interface ChannelState {
  /** `joined`: every change from here on is an event. */
  readonly status: "joining" | "joined" | "error";
  readonly error: WalcastError | undefined;
}

export const joiningChannel: ChannelState = { status: "joining", error: undefined };

export interface TopicState<Payload> {
  /** Undefined before the first message. */
  readonly last: TopicMessage<Payload> | undefined;
  /** The newest ones, oldest first. */
  readonly messages: readonly TopicMessage<Payload>[];
  /** `live`: every message from here on comes. */
  readonly status: "connecting" | "live" | "error";
  readonly error: WalcastError | undefined;
}

export const silentTopic: TopicState<never> = { last: undefined, messages: [], status: "connecting", error: undefined };

export interface TopicStoreOptions extends TopicOptions {
  /** How many are kept in `messages`. Default 100. */
  readonly keep?: number;
}

export interface UseTopicOptions<Payload> extends TopicStoreOptions {
  /** Called for each message. */
  readonly onMessage?: (message: TopicMessage<Payload>) => void;
}

/** What a store holds open while somebody listens. */
interface Source<State> {
  readonly state: () => State;
  readonly stop: () => void;
}

/** Begins with the first subscriber and ends with the last. */
class SharedStore<State extends object> implements Store<State> {
  private readonly open: (changed: () => void) => Source<State>;
  private readonly listeners = new Set<() => void>();
  private source: Source<State> | undefined;
  private state: State;

  constructor(first: State, open: (changed: () => void) => Source<State>) {
    this.state = first;
    this.open = open;
  }

  readonly snapshot = (): State => this.state;

  readonly subscribe = (listener: () => void): (() => void) => {
    // The same function may subscribe twice.
    const own = (): void => listener();
    this.listeners.add(own);
    this.source ??= this.open(() => this.changed());
    this.take();
    return () => {
      if (this.listeners.delete(own) && this.listeners.size === 0) this.end();
    };
  };

  private changed(): void {
    this.take();
    for (const listener of [...this.listeners]) listener();
  }

  private take(): void {
    const next = this.source?.state();
    if (next && !isSame(this.state, next)) this.state = next;
  }

  private end(): void {
    this.source?.stop();
    this.source = undefined;
  }
}

function isSame<State extends object>(one: State, other: State): boolean {
  return Object.entries(other).every(([name, value]) => (one as Record<string, unknown>)[name] === value);
}

export function liveStore<Row>(start: () => LiveQuery<Row>): Store<LiveResult<Row>> {
  let last: LiveResult<Row> = loadingResult;
  return new SharedStore(last, (changed) => {
    const live = start();
    // Begun anew, it shows what it showed until it knows better.
    let isNew = true;
    live.onChange(() => {
      isNew = false;
      changed();
    });
    const state = (): LiveResult<Row> => {
      const { rows, status, error } = live;
      if (!isNew || status !== "loading") last = { rows, status, error };
      return last;
    };
    return { state, stop: () => live.close() };
  });
}

/** A declared shape by name, or one that is synchronised for as long as somebody subscribes. Throws `config_invalid`. */
export function shapeStore(client: Client, wanted: string | ShapeOptions): Store<ShapeState> {
  const declared = typeof wanted === "string" ? declaredShape(client, wanted) : undefined;
  return new SharedStore<ShapeState>(declared ? stateOf(declared) : loadingShape, (changed) => {
    const shape = declared ?? client.sync(wanted as ShapeOptions);
    const stops = [shape.on("status", changed), shape.on("progress", changed)];
    const stop = (): void => {
      for (const one of stops) one();
      if (!declared) shape.unsubscribe().catch(() => {});
    };
    return { state: () => stateOf(shape), stop };
  });
}

export function statusStore(client: Client): Store<ClientStatus> {
  return { snapshot: () => client.status, subscribe: (listener) => client.onStatus(listener) };
}

/** Every change is an event for `listener`, for as long as somebody subscribes. */
export function channelStore<Row extends object>(
  client: Client,
  table: string,
  options: ChannelOptions,
  listener: (event: ChangeEvent<Row>) => void,
): Store<ChannelState> {
  return new SharedStore(joiningChannel, (changed) => {
    let state: ChannelState = joiningChannel;
    const settle = (status: ChannelState["status"], error?: WalcastError): void => {
      state = { status, error };
      changed();
    };
    const channel = client.channel<Row>(table, options).on("*", listener).subscribe();
    let isOver = false;
    channel.ready.then(
      () => settle("joined"),
      (error: WalcastError) => !isOver && settle("error", error),
    );
    const stop = (): void => {
      isOver = true;
      channel.unsubscribe().catch(() => {});
    };
    return { state: () => state, stop };
  });
}

/** A topic's messages, for as long as somebody subscribes. */
export function topicStore<Payload>(
  client: Client,
  name: string,
  { keep = 100, ...options }: TopicStoreOptions,
  listener: (message: TopicMessage<Payload>) => void,
): Store<TopicState<Payload>> {
  return new SharedStore<TopicState<Payload>>(silentTopic, (changed) => {
    let state: TopicState<Payload> = silentTopic;
    const set = (part: Partial<TopicState<Payload>>): void => {
      state = { ...state, ...part };
      changed();
    };
    const stop = client.topic<Payload>(name, options).subscribe({
      onConnect: () => set({ status: "live" }),
      onMessage: (last) => {
        set({ last, messages: [...state.messages, last].slice(-keep) });
        listener(last);
      },
      onError: (error) => set({ status: "error", error }),
    });
    return { state: () => state, stop };
  });
}

/** Objects and arrays written in place are new in every render; what they say is what counts. */
export function comparable(value: unknown): unknown {
  return typeof value === "object" && value !== null
    ? JSON.stringify(value, (_key, inner: unknown) => (typeof inner === "bigint" ? `${inner}n` : inner))
    : value;
}

export function noProvider(missing: string): WalcastError {
  return new WalcastError("config_invalid", `use the client: expected ${missing} above this component, found none`);
}

function declaredShape(client: Client, name: string): Shape {
  const shape = client.shapes[name];
  if (shape) return shape;
  const found = JSON.stringify(name);
  throw new WalcastError("config_invalid", `use a shape: expected one that the client declares, found ${found}`);
}

function stateOf({ status, progress, error }: Shape): ShapeState {
  return { status, progress, error };
}
