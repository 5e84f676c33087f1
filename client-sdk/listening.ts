/**
 * Who listens to messages: a topic's subscribers, or those who want keys. Nothing of it is kept on the replica, but where
 * it has come to is: after a connection that cannot be resumed, it asks for what came since, and hears of no message twice.
 */
import {
  type Commit,
  formatLsn,
  type Lsn,
  type MessagesRequest,
  type ShapeRequest,
  type WalcastError,
} from "../engine/protocol.ts";
import type { ListenerHooks, Subscriber } from "./subscriber.ts";
import type { Member } from "./local-tables.ts";

export interface MessageHooks extends ListenerHooks {
  /** The history that the connection is in. */
  epoch(): string | undefined;
}

export abstract class MessageSubscriber implements Subscriber {
  readonly request: ShapeRequest = { table: "" };
  readonly changes = true;
  readonly member: Member = { number: undefined, access: undefined, request: "", isOver: false, indexes: [] };
  private readonly hooks: MessageHooks;
  private cause: WalcastError | undefined;
  /** Everything up to here was told, in that history. */
  private reached: Lsn | undefined;
  private epoch: string | undefined;

  constructor(hooks: MessageHooks) {
    this.hooks = hooks;
  }

  protected abstract asked(): MessagesRequest;
  /** Messages come from now on. `missed`: why some came by in between that will not come. */
  protected abstract began(position: Lsn, missed: WalcastError | undefined): void;
  /** Of one commit, or of a part of it. */
  protected abstract told(texts: readonly string[], commit: Commit): void;
  abstract failed(error: WalcastError): void;
  abstract abandon(error: WalcastError): void;

  /** Takes the place of another one: what that was told is not told again. */
  goOnAfter({ reached, epoch }: MessageSubscriber): void {
    this.reached = reached;
    this.epoch = epoch;
  }

  messages(): MessagesRequest {
    const { reached, epoch } = this;
    if (reached === undefined) return this.asked();
    const { since: _since, limit: _limit, ...asked } = this.asked();
    return { ...asked, since: formatLsn(reached), ...(epoch === undefined ? {} : { epoch }) };
  }

  listening(cause: WalcastError | undefined): void {
    this.cause = cause;
  }

  loading(): void {}

  joined(position: Lsn): void {
    const { cause } = this;
    this.cause = undefined;
    const isOther = cause?.code === "history_changed";
    this.reached = latest(isOther ? undefined : this.reached, position);
    this.epoch = this.hooks.epoch();
    this.began(position, cause);
  }

  committed(commits: readonly Commit[]): void {
    for (const commit of commits) {
      this.reached = latest(this.reached, commit.position);
      this.told(
        commit.operations.flatMap((operation) => (operation.kind === "insert" ? [String(operation.row[0])] : [])),
        commit,
      );
    }
  }

  described(): void {}

  altered(): () => void {
    return () => {};
  }

  restored(): void {}

  progressed(): void {}
}

function latest(one: Lsn | undefined, other: Lsn): Lsn {
  return one === undefined || one < other ? other : one;
}
