/**
 * Keys that stand for something which is asked for elsewhere, a report fetched over HTTP, say: whoever listens to one is told when it
 * is to be asked for again. All keys travel in one subscription, but those of tables, which may be refused one by one.
 */
import { type Commit, formatLsn, type Lsn, type MessagesRequest, WalcastError } from "../engine/protocol.ts";
import { call } from "./listeners.ts";
import { type MessageHooks, MessageSubscriber } from "./listening.ts";

export interface Revalidated {
  /** Those of the listener's keys that were named. */
  readonly keys: readonly string[];
  /** Of the commit. Ready shapes show it by then. */
  readonly position: string;
  /** Undefined, or why nobody knows which of its keys were named in between: it is told all of them. */
  readonly missed: WalcastError | undefined;
}

interface Listener {
  readonly keys: ReadonlySet<string>;
  readonly tell: (revalidated: Revalidated) => void;
  readonly fail: ((error: WalcastError) => void) | undefined;
}

const tablePrefix = "table:";
const others = "";

export class Revalidations {
  private readonly hooks: MessageHooks;
  private readonly listeners = new Set<Listener>();
  private readonly subscribers = new Map<string, KeysSubscriber>();
  private isDue = false;
  private isClosed = false;

  constructor(hooks: MessageHooks) {
    this.hooks = hooks;
  }

  /** Throws `config_invalid`. */
  add(
    keys: readonly string[],
    tell: (revalidated: Revalidated) => void,
    fail: ((error: WalcastError) => void) | undefined,
  ): () => void {
    checkKeys(keys);
    const listener = { keys: new Set(keys), tell, fail };
    this.listeners.add(listener);
    this.changed();
    return () => {
      if (this.listeners.delete(listener)) this.changed();
    };
  }

  close(): void {
    this.isClosed = true;
    this.listeners.clear();
  }

  /** Those that are added together are asked for together. */
  private changed(): void {
    if (this.isDue) return;
    this.isDue = true;
    queueMicrotask(() => {
      this.isDue = false;
      if (!this.isClosed) this.regroup();
    });
  }

  private regroup(): void {
    const groups = new Map<string, Set<string>>();
    for (const { keys } of this.listeners)
      for (const key of keys) {
        const group = key.startsWith(tablePrefix) ? key : others;
        groups.set(group, (groups.get(group) ?? new Set<string>()).add(key));
      }
    for (const [group, subscriber] of this.subscribers)
      if (!groups.has(group)) {
        this.subscribers.delete(group);
        void this.hooks.remove(subscriber);
      }
    for (const [group, keys] of groups) this.subscribe(group, keys);
  }

  /** Another one takes its place, and goes on where it was: there is no moment in between. */
  private subscribe(group: string, keys: ReadonlySet<string>): void {
    const before = this.subscribers.get(group);
    if (before && before.keys.symmetricDifference(keys).size === 0) return;
    const subscriber = new KeysSubscriber(keys, this.hooks, {
      told: (revalidated) => this.tell(revalidated),
      failed: (error) => this.fail(keys, error),
    });
    if (before) {
      subscriber.goOnAfter(before);
      void this.hooks.remove(before);
    }
    this.subscribers.set(group, subscriber);
    this.hooks.add(subscriber);
  }

  private tell({ keys, position, missed }: Revalidated): void {
    for (const listener of [...this.listeners]) {
      const own = keys.filter((key) => listener.keys.has(key));
      if (own.length > 0) call(listener.tell, [{ keys: own, position, missed }]);
    }
  }

  private fail(keys: ReadonlySet<string>, error: WalcastError): void {
    for (const { keys: wanted, fail } of [...this.listeners])
      if (fail && !wanted.isDisjointFrom(keys)) call(fail, [error]);
  }
}

/** Throws `config_invalid`. */
export function checkKeys(keys: readonly string[]): void {
  if (!keys.every((key) => typeof key === "string" && key !== ""))
    throw new WalcastError("config_invalid", "listen to keys: expected texts that are not empty");
}

class KeysSubscriber extends MessageSubscriber {
  readonly keys: ReadonlySet<string>;
  private readonly telling: { told(revalidated: Revalidated): void; failed(error: WalcastError): void };

  constructor(keys: ReadonlySet<string>, hooks: MessageHooks, telling: KeysSubscriber["telling"]) {
    super(hooks);
    this.keys = keys;
    this.telling = telling;
  }

  failed(error: WalcastError): void {
    this.telling.failed(error);
  }

  abandon(): void {}

  protected asked(): MessagesRequest {
    return { keys: [...this.keys] };
  }

  protected began(position: Lsn, missed: WalcastError | undefined): void {
    if (missed) this.telling.told({ keys: [...this.keys], position: formatLsn(position), missed });
  }

  protected told(texts: readonly string[], { position }: Commit): void {
    this.telling.told({ keys: [...new Set(texts)], position: formatLsn(position), missed: undefined });
  }
}
