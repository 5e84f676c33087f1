/**
 * What a developer sees of the shapes. Counting rows costs time on the replica, so nobody does until somebody looks: who
 * inspects a client again and again sees rows and bytes as they were at most one look and a second ago.
 */
import { formatLsn, type Lsn, type ErrorJson, type ShapeRequest } from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import type { Member } from "./local-tables.ts";
import type { Replica } from "./replica.ts";
import type { ShapeHandle, ShapeProgress, ShapeStatus } from "./shape.ts";

export interface ShapeInspection extends ShapeRequest {
  readonly status: ShapeStatus;
  /** Of its first load. */
  readonly progress: ShapeProgress;
  readonly error: ErrorJson | undefined;
  /** That it holds: those that came with its load, until `inspect` has had them counted, which it does in the background. */
  readonly rows: number;
  /** Of its local table, indexes included, and of all shapes that share it. Until that is measured, those that came. */
  readonly bytes: number;
  /** What its rows are true at. Undefined before there are any, and for those of an earlier process until they are fresh. */
  readonly position: string | undefined;
  /** From there to what the server was last heard to have, in bytes of its write-ahead log. */
  readonly lagBytes: number | undefined;
}

export interface Size {
  readonly rows: number;
  readonly bytes: number;
}

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

  inspect(shape: ShapeHandle, shown: Lsn, server: Lsn): ShapeInspection {
    const { request, status, progress, error, member } = shape;
    const at = status === "ready" ? shown : shape.leftOffAt;
    return {
      ...request,
      status,
      progress,
      error: error?.toJSON(),
      rows: progress.rows,
      bytes: progress.bytes,
      ...this.sizes.get(member),
      position: at === undefined ? undefined : formatLsn(at),
      lagBytes: at === undefined ? undefined : Math.max(0, Number(server - at)),
    };
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
