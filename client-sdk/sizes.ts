/**
 * How large the shapes are. Counting rows costs time on the replica, so nobody does until somebody looks: who inspects a
 * client again and again sees rows and bytes as they were at most one look and a second ago.
 */
import type { Database } from "./database.ts";
import type { Size } from "./inspection.ts";
import type { Member } from "./local-tables.ts";
import type { Replica } from "./replica.ts";
import type { ShapeHandle } from "./shape.ts";

const MEASURE_EVERY_MS = 1000;

export class Sizes {
  private readonly database: Database;
  private readonly sizes = new WeakMap<Member, Size>();
  private isMeasuring = false;
  private measuredMs = -Infinity;
  /** How many transactions there had been. */
  private measuredAt = -1;

  constructor(database: Database) {
    this.database = database;
  }

  /** Counts in the background, where something has changed since it did. */
  refresh(replica: Replica, shapes: readonly ShapeHandle[], transactions: number): void {
    const isSoon = performance.now() - this.measuredMs < MEASURE_EVERY_MS;
    if (this.isMeasuring || isSoon || transactions === this.measuredAt) return;
    this.measuredAt = transactions;
    void this.measure(replica, shapes);
  }

  of(member: Member): Size | undefined {
    return this.sizes.get(member);
  }

  /** Each in a turn of its own, for others wait. */
  private async measure(replica: Replica, shapes: readonly ShapeHandle[]): Promise<void> {
    this.isMeasuring = true;
    try {
      for (const { member } of shapes) {
        const size = await this.database.exclusive(() => replica.sizeOf(member));
        if (size) this.sizes.set(member, size);
      }
    } catch {
      // The replica is closed, or in no state to be asked: what was seen last stays.
    } finally {
      this.isMeasuring = false;
      this.measuredMs = performance.now();
    }
  }
}
