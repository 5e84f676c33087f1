/** Messages that somebody publishes, in SQL or through an engine: in commit order with the rows, and none of a rollback. */
import { type Commit, formatLsn, type Lsn, type MessagesRequest, parseLsn, WalcastError } from "../engine/protocol.ts";
import { call } from "./listeners.ts";
import { type MessageHooks, MessageSubscriber } from "./listening.ts";
import { dateOf } from "./commit-time.ts";

export interface TopicMessage<Payload = unknown> {
  readonly payload: Payload;
  /** Where its transaction ends, as Postgres writes it: `since` goes on after it. */
  readonly position: string;
  /** When its transaction was committed. */
  readonly publishedAt: Date;
}

export interface TopicStart {
  /** Whatever is published after it comes. */
  readonly position: string;
  /**
   * Undefined, or why messages came by that this subscription will not get: `position_too_old`, the server's log does not reach
   * back to where it was, or to its `since`; `history_changed`, there is another database now.
   */
  readonly missed: WalcastError | undefined;
}

export interface TopicListener<Payload = unknown> {
  /** Messages come from now on; earlier ones that were asked for are next. Again after a connection that could not be resumed. */
  readonly onConnect?: (start: TopicStart) => void;
  readonly onMessage?: (message: TopicMessage<Payload>) => void;
  /** The server refuses, and the subscription is over. */
  readonly onError?: (error: WalcastError) => void;
}

export interface TopicOptions {
  /** A message's `position`: those after it come first, as far as the server's log has them. Default: none, or with `limit` all it has. */
  readonly since?: string;
  /** At most so many earlier messages: the newest of them. Default: with `since` all, otherwise none. */
  readonly limit?: number;
}

/** Nothing is kept: see EphemeralTopic. */
export interface EphemeralOptions {
  readonly ephemeral: true;
}

export interface Topic<Payload = unknown> {
  readonly name: string;
  /** Starts to listen. Returns what ends it. */
  subscribe(listener: TopicListener<Payload>): () => void;
}

export class TopicHandle implements Topic {
  readonly name: string;
  private readonly options: TopicOptions;
  private readonly hooks: MessageHooks;

  constructor(name: string, options: TopicOptions, hooks: MessageHooks) {
    this.name = name;
    this.options = options;
    this.hooks = hooks;
  }

  subscribe(listener: TopicListener): () => void {
    const subscriber = new TopicSubscriber({ topic: this.name, ...this.options }, listener, this.hooks);
    this.hooks.add(subscriber);
    return () => {
      subscriber.end();
      void this.hooks.remove(subscriber);
    };
  }
}

class TopicSubscriber extends MessageSubscriber {
  private readonly wanted: MessagesRequest;
  private listener: TopicListener;

  constructor(wanted: MessagesRequest, listener: TopicListener, hooks: MessageHooks) {
    super(hooks);
    this.wanted = wanted;
    this.listener = listener;
  }

  failed(error: WalcastError): void {
    const { onError } = this.listener;
    this.end();
    if (onError) call(onError, [error]);
  }

  abandon(): void {
    this.end();
  }

  end(): void {
    this.listener = {};
  }

  protected asked(): MessagesRequest {
    return this.wanted;
  }

  protected began(position: Lsn, missed: WalcastError | undefined): void {
    const { onConnect } = this.listener;
    if (onConnect) call(onConnect, [{ position: formatLsn(position), missed }]);
  }

  protected told(texts: readonly string[], { position, commitTime }: Commit): void {
    const at = { position: formatLsn(position), publishedAt: dateOf(commitTime) };
    for (const text of texts) {
      // One of them may end it.
      const { onMessage } = this.listener;
      if (onMessage) call(onMessage, [{ payload: JSON.parse(text) as unknown, ...at }]);
    }
  }
}

/** Throws `config_invalid`. */
export function checkTopic(name: string, { since, limit }: TopicOptions): void {
  if (typeof name !== "string" || name === "") throw invalid("a topic's name", name);
  if (limit !== undefined && !(Number.isSafeInteger(limit) && limit >= 0))
    throw invalid("limit as a whole number", limit);
  if (since === undefined) return;
  try {
    parseLsn(since);
  } catch {
    throw invalid("since as a message's position", since);
  }
}

function invalid(expected: string, found: unknown): WalcastError {
  return new WalcastError("config_invalid", `listen to a topic: expected ${expected}, found ${JSON.stringify(found)}`);
}
