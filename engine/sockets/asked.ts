/**
 * What a subscription asks for, resolved: by the rights that its client has when that is done. A commit can be streamed before anybody sees
 * it, so for what was there before the catalog is asked again once it shows what was streamed.
 */
import type { Auth } from "../config.ts";
import { WalcastError } from "../protocol.ts";
import type { MessageShape } from "../shapes/message-shape.ts";
import type { Shape } from "../shapes/shape.ts";
import type { Feed } from "./feed.ts";
import type { Hub } from "./hub.ts";

export interface AskedOptions {
  /** What was asked for, as the database and these rights have it. */
  readonly resolve: (auth: Auth) => Promise<Shape | MessageShape>;
  /** The client's rights as they are now. */
  readonly auth: () => Auth;
}

/** What the client has of it, if anything. */
export interface Showing {
  readonly shape: Shape | MessageShape | undefined;
  readonly isOver: boolean;
}

export class Asked {
  private readonly hub: Hub;
  private readonly feed: Feed;
  private readonly options: AskedOptions;

  constructor(hub: Hub, feed: Feed, options: AskedOptions) {
    this.hub = hub;
    this.feed = feed;
    this.options = options;
  }

  /** A table that was made anew may not be there yet: a refusal of what `lane` showed before counts only once all that was streamed is visible. */
  async after(lane: Showing): Promise<Shape | MessageShape> {
    try {
      return await this.resolve();
    } catch (error) {
      const { shape } = lane;
      if (!shape || !(error instanceof WalcastError)) throw error;
      await this.hub.snapshots.seeing(this.hub.position, () => lane.isOver);
      this.hub.forget(shape.table.oid);
      return this.resolve();
    }
  }

  /**
   * A client that is further than the stream here, from another engine, may know a form of the table that has not come by yet; and
   * any client one that came by before a query shows it.
   */
  async knownAs(identity: string): Promise<Shape | MessageShape> {
    const shape = await this.resolve();
    if (identity === shape.key) return shape;
    await this.hub.arrived(this.feed);
    await this.hub.settled(shape.table.oid);
    return this.resolve();
  }

  private async resolve(): Promise<Shape | MessageShape> {
    for (;;) {
      const auth = this.options.auth();
      try {
        const shape = await this.options.resolve(auth);
        if (auth === this.options.auth()) return shape;
      } catch (error) {
        if (auth === this.options.auth()) throw error;
      }
    }
  }
}
