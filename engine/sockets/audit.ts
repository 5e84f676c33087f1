/**
 * Asks Postgres what a shape's rows are, and the client whether it shows the same: how many, and the sum of their hashes. Both
 * speak of one position: a transaction that the count does not contain, and that is streamed by the time the client is asked,
 * must not touch the shape. Where one does, it is tried again.
 */
import { sees } from "../changes/pg-snapshot.ts";
import type { Shape } from "../shapes/shape.ts";
import { touches } from "./delivery.ts";
import type { Hub } from "./hub.ts";
import type { Lane } from "./lane.ts";
import { oidsOf } from "../changes/table.ts";

/** A shape that is written all the time is left alone after so many. */
const attempts = 5;

export class Audits {
  private readonly hub: Hub;

  constructor(hub: Hub) {
    this.hub = hub;
  }

  /** One subscription of somebody who is live. */
  async sample(): Promise<void> {
    const all = this.candidates();
    const picked = all[Math.floor(Math.random() * all.length)];
    if (picked) await this.audit(picked);
  }

  /** Every subscription of everybody who is live. Ends when all that could be asked were. */
  async all(): Promise<void> {
    for (const lane of this.candidates()) await this.audit(lane);
  }

  /** Changes alone have no rows to count. */
  private candidates(): Lane[] {
    const feeds = [...this.hub.connections].filter(({ isLive }) => isLive);
    return feeds.flatMap(({ joined }) => [...joined].filter(([, shape]) => !shape.changes).map(([lane]) => lane));
  }

  private async audit(lane: Lane): Promise<void> {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const shape = lane.feed.joined.get(lane);
      if (!shape || (await this.auditOnce(lane, shape))) return;
    }
  }

  private async auditOnce(lane: Lane, shape: Shape): Promise<boolean> {
    const { hub } = this;
    const pin = hub.tail.pin();
    try {
      const { token, rows, hash } = await hub.snapshots.sum(shape);
      // When it has streamed by, so has everything that the count contains.
      await hub.snapshots.commitBarrier();
      const tables = new Set(oidsOf(shape.table));
      const later = hub.tail.recent(pin.from)?.filter((one) => touches(one, tables) && !sees(token, one.xid));
      if (!later || later.length > 0) return false;
      if (lane.feed.isLive && lane.feed.joined.get(lane) === shape) lane.ask(rows, hash);
      return true;
    } finally {
      pin.release();
    }
  }
}
