/**
 * Who waits for a position. A wait ends when the replica is there and no shape is behind it, or still on its way, when the server says that
 * it cannot come, or when its time is over.
 */
import {
  type ClientMessage,
  type ErrorJson,
  errorFromJson,
  formatLsn,
  type Lsn,
  parseLsn,
  WalcastError,
} from "../engine/protocol.ts";
import { timerMsMax } from "./edge.ts";
import { Deferred } from "./listeners.ts";

export type Target = { readonly position: Lsn } | { readonly xid: string };

interface Wait {
  readonly id: number;
  readonly target: Target;
  readonly done: Deferred<void>;
  readonly timer: ReturnType<typeof setTimeout>;
  /** The server says that everything up to the target was sent, and what was sent is applied. */
  wasAnswered: boolean;
}

export interface AwaitsHooks {
  send(message: ClientMessage): void;
  position(): Lsn;
  /** Whether a shape shows rows of an earlier position, or none yet. */
  isBehind(): boolean;
}

export class Awaits {
  private readonly hooks: AwaitsHooks;
  private readonly waits = new Map<number, Wait>();
  private nextId = 1;

  constructor(hooks: AwaitsHooks) {
    this.hooks = hooks;
  }

  add(target: Target, timeoutMs: number): Promise<void> {
    const id = this.nextId++;
    const timer = setTimeout(
      () => this.fail(id, timedOut(target, timeoutMs, this.hooks.position())),
      Math.min(timeoutMs, timerMsMax),
    );
    this.waits.set(id, { id, target, done: new Deferred(), timer, wasAnswered: false });
    const { promise } = this.waits.get(id)!.done;
    this.check();
    this.ask(id);
    return promise;
  }

  /** After a welcome: the server knows nothing of what was asked before. */
  askAgain(): void {
    for (const id of this.waits.keys()) this.ask(id);
  }

  answered(id: number): void {
    const wait = this.waits.get(id);
    if (wait) wait.wasAnswered = true;
    this.check();
  }

  refused(id: number, error: ErrorJson): void {
    this.fail(id, errorFromJson(error));
  }

  /** The position has moved, or a shape has caught up. */
  check(): void {
    if (this.waits.size === 0 || this.hooks.isBehind()) return;
    for (const wait of [...this.waits.values()]) if (this.isReached(wait)) this.end(wait)?.done.resolve();
  }

  close(error: WalcastError): void {
    for (const id of [...this.waits.keys()]) this.fail(id, error);
  }

  private ask(id: number): void {
    const wait = this.waits.get(id);
    if (!wait) return;
    const { target } = wait;
    this.hooks.send({
      kind: "await",
      id,
      ...("xid" in target ? { xid: target.xid } : { position: formatLsn(target.position) }),
    });
  }

  private isReached({ target, wasAnswered }: Wait): boolean {
    return wasAnswered || ("position" in target && this.hooks.position() >= target.position);
  }

  private fail(id: number, error: WalcastError): void {
    const wait = this.waits.get(id);
    if (wait) this.end(wait)?.done.reject(error);
  }

  private end(wait: Wait): Wait {
    clearTimeout(wait.timer);
    this.waits.delete(wait.id);
    return wait;
  }
}

function timedOut(target: Target, timeoutMs: number, position: Lsn): WalcastError {
  const what = "xid" in target ? `transaction ${target.xid}` : formatLsn(target.position);
  return new WalcastError(
    "await_timeout",
    `wait for ${what}: expected it within ${timeoutMs} ms, found the replica at ${formatLsn(position)}`,
  );
}

/** Throws `malformed_message`, also where the server would end the connection at it. */
export function targetOf(target: string | bigint | { readonly xid: string | number | bigint }): Target {
  if (typeof target === "object") return { xid: xidOf(target.xid) };
  return { position: typeof target === "bigint" ? (target as Lsn) : parseLsn(target) };
}

function xidOf(xid: string | number | bigint): string {
  const text = String(xid);
  if (/^\d{1,20}$/.test(text)) return text;
  throw new WalcastError(
    "malformed_message",
    `wait for a transaction: expected its 64-bit xid, found ${text.slice(0, 40)}`,
  );
}
