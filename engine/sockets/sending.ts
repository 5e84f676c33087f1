/**
 * What one connection that is behind is to get of one stretch of the log, frame by frame as its socket has room. It ends when
 * all of it was sent, when its pass gives it up, or when the connection is over. What a subscription has lost meanwhile, as its
 * table changed or its client may not read it any more, is not sent.
 */
import type { Lsn } from "../protocol.ts";
import type { FrameSections } from "./delivery.ts";
import type { Feed } from "./feed.ts";
import { sectionBytes } from "./frames.ts";

export class Sending {
  readonly feed: Feed;
  private readonly frames: readonly FrameSections[];
  private readonly end: Lsn | undefined;
  private next = 0;
  private given = false;

  constructor(feed: Feed, frames: readonly FrameSections[], end: Lsn | undefined) {
    this.feed = feed;
    this.frames = frames;
    this.end = end;
  }

  get isDone(): boolean {
    return this.given || this.feed.isOver || this.next === this.frames.length;
  }

  /** Bytes that its client has taken since the beginning of the connection. */
  get taken(): number {
    return this.feed.frames.sentBytes - this.feed.frames.buffered;
  }

  /** Whether that was all. */
  sendWhatFits(): boolean {
    while (!this.isDone && this.feed.frames.takesBulk(sectionBytes(this.frames[this.next]!))) this.sendOne();
    return this.isDone;
  }

  /** Ends when all was sent, or it was given up, or the connection is over. */
  async finish(): Promise<void> {
    while (!this.sendWhatFits()) await this.feed.frames.room(sectionBytes(this.frames[this.next]!));
  }

  giveUp(): void {
    this.given = true;
    this.feed.frames.drained();
  }

  private sendOne(): void {
    const { frames } = this.feed;
    const sections = this.frames[this.next++]!.filter(({ subscription }) => this.feed.shows(subscription));
    const isLast = this.end !== undefined && this.next === this.frames.length;
    frames.frame("commits", isLast, isLast ? this.end : frames.position, sections);
  }
}

export function taken(sendings: readonly Sending[]): number {
  return sendings.reduce((sum, sending) => sum + sending.taken, 0);
}
