/**
 * What the host listens to on behalf of its guests. Guests that ask for the same share one source: a live query runs once,
 * a shape is subscribed to once. What a guest leaves behind when it goes is given up later, shapes that is: pages are loaded
 * again, and come back for the same rows.
 */
import type { WalcastError } from "../../engine/protocol.ts";
import type { ShapeDescription } from "../description.ts";
import type { Client, Inspection } from "../index.ts";
import type { Row } from "../row.ts";
import type { Subscription, SubscriptionEvent, Subscriptions, TopicEvent } from "./messages.ts";
import { keyOf, patchOf } from "./patch.ts";

/** The client that the host serves from. */
export interface Core extends Client {
  readonly inspection: Inspection;
  look(): void;
  /** Called when rows of a later position can be read. Returns what ends it. */
  onPosition(listener: () => void): () => void;
  /** Called when there is no replica any more, before anything else is told of that. Returns what ends it. */
  onFailure(listener: (error: WalcastError) => void): () => void;
  flush(): Promise<void>;
}

interface Source<Event> {
  /** What somebody who comes now has to know. */
  now(): readonly Event[];
  close(): Promise<void> | void;
  describe?(): Promise<ShapeDescription>;
}

type Open<Name extends keyof Subscriptions> = (
  core: Core,
  request: Subscriptions[Name]["request"],
  emit: (event: Subscriptions[Name]["event"]) => void,
) => Source<Subscriptions[Name]["event"]>;

const open: { readonly [Name in keyof Subscriptions]: Open<Name> } = {
  live(core, { sql, params, ...options }, emit) {
    const live = core.live(sql, params, options);
    let shown: { rows: readonly Row[]; position: string } | undefined;
    const state = () => ({ kind: "state", status: live.status, error: live.error?.toJSON() }) as const;
    live.subscribe((rows, { position, ...changes }) => {
      const before = shown;
      shown = { rows, position };
      emit(
        before
          ? { kind: "patch", patch: patchOf(before.rows, rows, changes), position }
          : { kind: "rows", rows, position },
      );
    });
    let said = live.status;
    live.onChange(() => {
      if (live.status !== said || live.status === "error") emit(state());
      said = live.status;
    });
    return {
      now: () => [
        ...(shown ? [{ kind: "rows", ...shown } as const] : []),
        ...(live.status === "ready" ? [] : [state()]),
      ],
      close: () => live.close(),
    };
  },

  shape(core, request, emit) {
    const shape = core.sync(request);
    const state = () => ({ status: shape.status, progress: shape.progress, error: shape.error?.toJSON() });
    shape.on("status", () => emit(state()));
    shape.on("progress", () => emit(state()));
    return { now: () => [state()], close: () => shape.unsubscribe(), describe: () => shape.describe() };
  },

  channel(core, { table, options }, emit) {
    const channel = core.channel(table, options).on("*", (change) => emit({ kind: "change", change }));
    const state = () => ({ kind: "state", status: channel.status, error: channel.error?.toJSON() }) as const;
    const changed = (): void => emit(state());
    channel.subscribe().ready.then(changed, changed);
    return { now: () => [state()], close: () => channel.unsubscribe() };
  },

  topic(core, { topic, options }, emit) {
    let failed: TopicEvent | undefined;
    const end = core.topic(topic, options).subscribe({
      onConnect: ({ position, missed }) => emit({ kind: "connected", position, missed: missed?.toJSON() }),
      onMessage: (message) => emit({ kind: "message", message }),
      onError: (error) => emit((failed = { kind: "failed", error: error.toJSON() })),
    });
    return { now: () => (failed ? [failed] : []), close: end };
  },

  keys(core, { keys }, emit) {
    const end = core.onRevalidate(
      keys,
      (revalidated) => emit({ kind: "revalidated", ...revalidated, missed: revalidated.missed?.toJSON() }),
      (error) => emit({ kind: "failed", error: error.toJSON() }),
    );
    // What is added in this turn is asked for at its end, and a client that is live has all that it asked for.
    const isLive = (): boolean => core.status === "live";
    const began = (): void => emit({ kind: "began", position: core.position });
    const timer = setTimeout(() => isLive() && began());
    const stop = core.onStatus(() => isLive() && began());
    return {
      now: () => [],
      close: () => {
        clearTimeout(timer);
        stop();
        end();
      },
    };
  },
};

/** Whoever listens to messages hears of what was said before as well: each from a place of its own. */
const unshared: ReadonlySet<keyof Subscriptions> = new Set(["topic", "keys"]);

interface Shared {
  readonly name: keyof Subscriptions;
  readonly source: Source<SubscriptionEvent>;
  readonly listeners: Set<(event: SubscriptionEvent) => void>;
  /** Runs while nobody listens. */
  givingUp: ReturnType<typeof setTimeout> | undefined;
}

/** A page that is loaded again is back long before. */
const KEPT_MS = 30_000;

export interface Listening {
  /** It is not wanted any more. Resolves when what it held is gone, where nobody else wants it. */
  close(): Promise<void>;
  /** Whoever wanted it is gone. */
  leave(): void;
  /** Of a shape. */
  describe(): Promise<ShapeDescription> | undefined;
}

export class Sources {
  private readonly core: Core;
  private readonly sharedByKey = new Map<string, Shared>();
  private opened = 0;

  constructor(core: Core) {
    this.core = core;
  }

  /** The listener is called at once with what is known. Throws what the core throws. */
  listen(subscription: Subscription, listener: (event: SubscriptionEvent) => void): Listening {
    const { name, request } = subscription;
    const key = keyOf(unshared.has(name) ? [name, ++this.opened] : [name, request]);
    const shared = this.sharedByKey.get(key) ?? this.open(key, subscription);
    clearTimeout(shared.givingUp);
    // The same function may listen twice.
    const own = (event: SubscriptionEvent): void => listener(event);
    shared.listeners.add(own);
    for (const event of shared.source.now()) own(event);
    const leave = (): boolean => shared.listeners.delete(own) && shared.listeners.size === 0;
    return {
      close: async () => {
        if (leave()) await this.giveUp(key, shared);
      },
      leave: () => {
        if (!leave()) return;
        const giveUp = (): void => void this.giveUp(key, shared).catch(() => {});
        if (shared.name === "shape") shared.givingUp = setTimeout(giveUp, KEPT_MS);
        else giveUp();
      },
      describe: () => shared.source.describe?.(),
    };
  }

  /** Leaves everything as it is: the next host goes on with it. */
  close(): void {
    for (const { givingUp } of this.sharedByKey.values()) clearTimeout(givingUp);
    this.sharedByKey.clear();
  }

  private open(key: string, subscription: Subscription): Shared {
    const listeners: Shared["listeners"] = new Set();
    const emit = (event: SubscriptionEvent): void => {
      for (const listener of [...listeners]) listener(event);
    };
    const source = openNamed(this.core, subscription, emit);
    const shared = { name: subscription.name, source, listeners, givingUp: undefined };
    this.sharedByKey.set(key, shared);
    return shared;
  }

  private async giveUp(key: string, shared: Shared): Promise<void> {
    if (this.sharedByKey.get(key) === shared) this.sharedByKey.delete(key);
    await shared.source.close();
  }
}

/** The compiler cannot see that the name that chooses the function chooses the request as well. */
function openNamed(
  core: Core,
  { name, request }: Subscription,
  emit: (event: SubscriptionEvent) => void,
): Source<SubscriptionEvent> {
  return (open[name] as (...args: readonly unknown[]) => Source<SubscriptionEvent>)(core, request, emit);
}
