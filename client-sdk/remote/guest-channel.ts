/** A channel that the host watches, as a page sees it. */
import { errorFromJson, WalcastError } from "../../engine/protocol.ts";
import type { ChangeEvent, ChangeType, Channel } from "../channel.ts";
import { ChangeListeners } from "../change-listeners.ts";
import type { Row } from "../row.ts";
import type { Handle } from "./link.ts";
import type { ChannelEvent } from "./messages.ts";
import { Readiness } from "./readiness.ts";

export class GuestChannel implements Channel<Row>, Handle<ChannelEvent> {
  status: Channel<Row>["status"] = "idle";
  error: WalcastError | undefined;
  private readonly isReady = new Readiness<void>();
  private readonly listeners = new ChangeListeners();
  private readonly begin: (channel: GuestChannel) => () => Promise<void>;
  private end: (() => Promise<void>) | undefined;

  constructor(begin: (channel: GuestChannel) => () => Promise<void>) {
    this.begin = begin;
  }

  get ready(): Promise<void> {
    return this.isReady.promise;
  }

  on(type: ChangeType | "*", listener: (event: ChangeEvent<Row>) => void): this {
    this.listeners.add(type, listener);
    return this;
  }

  subscribe(): this {
    if (this.status !== "idle") return this;
    this.status = "joining";
    this.end = this.begin(this);
    return this;
  }

  async unsubscribe(): Promise<void> {
    this.abandon(new WalcastError("closed", "wait for a channel: it was unsubscribed"));
    await this.end?.();
    this.status = "idle";
  }

  abandon(error: WalcastError): void {
    this.isReady.reject(error);
    this.listeners.clear();
  }

  apply(event: ChannelEvent): () => void {
    if (event.kind === "change") return () => this.listeners.emit(event.change);
    this.status = event.status;
    this.error = event.error && errorFromJson(event.error);
    if (this.status === "joined") this.isReady.resolve();
    if (this.error) this.isReady.reject(this.error);
    return () => {};
  }

  failed(error: WalcastError): () => void {
    return this.apply({ kind: "state", status: "error", error: error.toJSON() });
  }

  again(): undefined {
    this.isReady.begin();
  }
}
