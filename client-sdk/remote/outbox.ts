/** Says what is written at one moment in one message. */
import type { Port } from "./messages.ts";

export interface OutboxHooks<Out> {
  /** What is to be said last, if anything is said. */
  last?(): Out | undefined;
  /** What it holds cannot be cloned: a function, say. */
  refused(message: Out, error: unknown): void;
}

export class Outbox<Out> {
  private readonly port: Pick<Port<Out, never>, "post">;
  private readonly hooks: OutboxHooks<Out>;
  private waiting: Out[] = [];
  private isScheduled = false;

  constructor(port: Pick<Port<Out, never>, "post">, hooks: OutboxHooks<Out>) {
    this.port = port;
    this.hooks = hooks;
  }

  add(...messages: readonly Out[]): void {
    this.waiting.push(...messages);
    if (this.isScheduled) return;
    this.isScheduled = true;
    queueMicrotask(() => this.flush());
  }

  flush(): void {
    this.isScheduled = false;
    const last = this.hooks.last?.();
    const messages = last === undefined ? this.waiting : [...this.waiting, last];
    this.waiting = [];
    if (messages.length === 0) return;
    try {
      this.port.post(messages);
    } catch {
      for (const message of messages) this.postOne(message);
    }
  }

  private postOne(message: Out): void {
    try {
      this.port.post([message]);
    } catch (error) {
      this.hooks.refused(message, error);
    }
  }
}
