/**
 * Who wants something of the server: shapes, and those who want to hear of changes, channels among them. They wait here until there
 * is a flow, and hear from here what concerns all of them.
 */
import type { WalcastError } from "../engine/protocol.ts";
import { ChannelHandle } from "./channel.ts";
import type { Flow } from "./flow.ts";
import type { ShapeHandle } from "./shape.ts";
import type { Subscriber } from "./subscriber.ts";

export class Subscribers {
  readonly shapes = new Set<ShapeHandle>();
  private readonly listeners = new Set<Subscriber>();
  private readonly waiting = new Set<Subscriber>();
  private flow: Flow | undefined;
  private failure: WalcastError | undefined;

  get channels(): ChannelHandle[] {
    return [...this.listeners].filter((listener) => listener instanceof ChannelHandle);
  }

  sync(shape: ShapeHandle): void {
    this.shapes.add(shape);
    this.add(shape);
  }

  /** Resolves when its rows are gone. */
  unsync(shape: ShapeHandle): Promise<void> {
    this.shapes.delete(shape);
    return this.remove(shape);
  }

  /** It may listen later. */
  note(channel: ChannelHandle): void {
    this.listeners.add(channel);
  }

  listen(listener: Subscriber): void {
    this.listeners.add(listener);
    this.add(listener);
  }

  unlisten(listener: Subscriber): Promise<void> {
    this.listeners.delete(listener);
    return this.remove(listener);
  }

  /** From now on they are its lanes'. */
  attach(flow: Flow): void {
    this.flow = flow;
    for (const subscriber of this.waiting) this.addTo(flow, subscriber);
    this.waiting.clear();
  }

  /** There is no replica, and nothing comes any more, whoever asks. */
  fail(error: WalcastError): void {
    this.failure = error;
    for (const one of [...this.shapes, ...this.listeners]) one.failed(error);
  }

  /** The replica is not theirs any more. */
  abandon(error: WalcastError): void {
    this.flow = undefined;
    for (const one of [...this.shapes, ...this.listeners]) one.abandon(error);
  }

  private add(subscriber: Subscriber): void {
    if (this.failure) subscriber.failed(this.failure);
    else if (this.flow) this.addTo(this.flow, subscriber);
    else this.waiting.add(subscriber);
  }

  private addTo(flow: Flow, subscriber: Subscriber): void {
    if (subscriber.changes) flow.listen();
    flow.lanes.add(subscriber);
  }

  private async remove(subscriber: Subscriber): Promise<void> {
    this.waiting.delete(subscriber);
    await this.flow?.lanes.remove(subscriber);
  }
}
