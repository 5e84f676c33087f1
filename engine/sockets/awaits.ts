/** What a connection waits for: that everything up to a position has been sent to it, or everything that a transaction did. */
import { type ClientMessage, formatLsn, parseLsn, type ServerMessage, WalcastError } from "../protocol.ts";
import type { Feed } from "./feed.ts";
import type { Unnumbered } from "./frames.ts";
import type { Hub } from "./hub.ts";
import type { Xids } from "./xids.ts";

/** Each holds a promise and perhaps a query; a client that waits for its own writes has a handful. */
const awaitsPerConnection = 100;

export class Awaits {
  private readonly hub: Hub;
  private readonly xids: Xids;
  private readonly feed: Feed;
  private readonly answer: (message: Extract<Unnumbered<ServerMessage>, { kind: "error" }>) => void;
  private awaiting = 0;

  constructor({ hub, xids }: { readonly hub: Hub; readonly xids: Xids }, feed: Feed, answer: Awaits["answer"]) {
    this.hub = hub;
    this.xids = xids;
    this.feed = feed;
    this.answer = answer;
  }

  async take({ id, position, xid }: Extract<ClientMessage, { kind: "await" }>): Promise<void> {
    this.awaiting++;
    try {
      await this.reach(position, xid);
      this.hub.sendPosition(this.feed);
      this.feed.frames.control({ kind: "awaited", id, position: formatLsn(this.feed.frames.position) });
    } catch (error) {
      const failure =
        error instanceof WalcastError
          ? error
          : new WalcastError("not_streaming", "await: Postgres cannot be asked just now", { cause: error });
      this.answer({ kind: "error", await: id, error: failure.toJSON() });
    } finally {
      this.awaiting--;
    }
  }

  private async reach(position: string | undefined, xid: string | undefined): Promise<void> {
    const { hub, xids } = this;
    if (this.awaiting > awaitsPerConnection)
      throw new WalcastError("too_many", `await: expected at most ${awaitsPerConnection} at a time`);
    if (xid !== undefined) await hub.reached(await xids.positionOf(BigInt(xid), () => this.feed.isOver), this.feed);
    else if (position !== undefined) await hub.reached(parseLsn(position), this.feed);
    else throw new WalcastError("malformed_message", "await: expected a position or an xid, found neither");
  }
}
