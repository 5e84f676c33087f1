/**
 * The first rows of one shape, for any number of holders: those who ask while it is read, while others follow it, and, where it
 * is kept, afterwards. The rows do not change; what was committed since is in the log, from the pin on.
 *
 *     asked for ──▶ begun ──▶ taken ──▶ whole ──▶ kept ──▶ over
 *                     │         │                  │ ▲
 *                     └─────────┴──▶ failed        └─┘ held again
 */
import { randomUUID } from "node:crypto";
import type { Log, Pin } from "../log/log.ts";
import type { Lsn } from "../protocol.ts";
import type { Shape } from "../shapes/shape.ts";
import { type PgSnapshot, sees } from "./pg-snapshot.ts";
import type { Wanted } from "./readings.ts";
import type { Spool } from "./spool.ts";
import { oidsOf } from "./table.ts";
import { type Transaction, touches } from "./transaction.ts";

export interface Taken {
  /** Which transactions the rows contain. */
  readonly token: PgSnapshot;
  readonly estimatedRows: number;
  /**
   * Resolves when the stream has passed a barrier that was committed after the snapshot was taken. Until then rows may have come
   * from a commit that is not on Postgres' disk: a crash undoes it, and gives its xid to another transaction.
   */
  readonly barrier: Promise<Lsn>;
}

/** Of its table's changes in the log. More than this, or than a part of the rows, and reading them anew costs less than replaying. */
const tailBytesMax = 256 << 10;
const tailShareMax = 1 / 8;

export class SharedSnapshot implements Wanted {
  readonly id = randomUUID();
  readonly shape: Shape;
  readonly spool: Spool;
  /** Under which its table's changes come. */
  readonly oids: ReadonlySet<number>;
  holders = 0;
  isOver = false;
  isOutdated = false;
  /** Ends the reading, where it is for this one alone. */
  cancel: () => void = () => {};
  private readonly log: Log;
  private readonly outcome = Promise.withResolvers<Taken>();
  private token: PgSnapshot | undefined;
  private readonly doubts: bigint[] = [];
  private pinned: Pin | undefined;
  private examinedTo: Lsn | undefined;
  private tailBytes = 0;
  private lingering: NodeJS.Timeout | undefined;

  constructor(shape: Shape, spool: Spool, log: Log) {
    this.shape = shape;
    this.spool = spool;
    this.log = log;
    this.oids = new Set(oidsOf(shape.table));
    this.outcome.promise.catch(() => {}); // Every holder is told.
  }

  // ── While it is read ────────────────────────────────────────────────────────────────────────────────────────────────

  /** From here on whoever wants to see what was just committed needs a barrier of its own. */
  get hasBegun(): boolean {
    return this.pinned !== undefined;
  }

  begin(): void {
    this.pinned?.release();
    this.pinned = this.log.pin();
    this.examinedTo = this.pinned.from;
  }

  succeed(taken: Taken): void {
    this.token = taken.token;
    this.isOutdated ||= this.doubts.some((xid) => !sees(taken.token, xid));
    taken.barrier.catch(() => (this.isOutdated = true));
    this.outcome.resolve(taken);
  }

  fail(error: unknown): void {
    this.outcome.reject(error);
    this.spool.fail(error);
  }

  // ── While it is held ────────────────────────────────────────────────────────────────────────────────────────────────

  /** The table changed, by this transaction where that is known: rows of before are for nobody else. Which they are is decided when they are taken. */
  doubt(xid: bigint | undefined): void {
    if (xid !== undefined && !this.token) this.doubts.push(xid);
    else this.isOutdated ||= xid === undefined || !sees(this.token!, xid);
  }

  get taken(): Promise<Taken> {
    return this.outcome.promise;
  }

  /** What the rows may not contain. Only while somebody holds it does the log keep that. */
  get pin(): Pin {
    return this.pinned!;
  }

  /** False where it is not worth it any more, or where the log has let go of what it needs. */
  hold(): boolean {
    if (this.spool.isOver || this.isOver || this.isOutdated) return false;
    if (this.pinned && !this.reachesOn(this.pinned.from)) return false;
    clearTimeout(this.lingering);
    this.holders++;
    return true;
  }

  private reachesOn(from: Lsn): boolean {
    if (this.tail() > Math.max(tailBytesMax, this.spool.length * tailShareMax)) return false;
    const pin = this.log.pinFrom(from);
    if (!pin) return false;
    this.pinned!.release();
    this.pinned = pin;
    return true;
  }

  /** Bytes that every new holder has to be sent after the rows, about. */
  private tail(): number {
    const { log, examinedTo } = this;
    const recent = log.recent(examinedTo!);
    if (recent) for (const one of recent) this.tailBytes += touches(one, this.oids) ? bytesOf(one) : 0;
    else this.tailBytes += Number(log.end - examinedTo!);
    this.examinedTo = log.end;
    return this.tailBytes;
  }

  /** Nobody holds it, and somebody may yet. */
  linger(ms: number, done: () => void): void {
    this.lingering = setTimeout(done, ms);
  }

  /** Nobody holds it: the log need not wait for it. */
  rest(): void {
    this.pinned?.release();
  }

  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    clearTimeout(this.lingering);
    this.rest();
    this.cancel();
    void this.spool.close();
  }
}

function bytesOf({ bytes, large }: Transaction): number {
  return large ? large.length : bytes.length;
}
