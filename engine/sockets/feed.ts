/**
 * One connection as the stream sees it: its outgoing side, the lanes that have joined, and how far they are. All of them
 * are at one position.
 *
 *     live ──── over its budget, or a large transaction ───▶ behind
 *       ▲                                                      │
 *       └──── nothing is left that the log has and it not ─────┘      (a connection that resumes begins behind)
 *
 * Live, its lanes are in the hub's registry and get what comes in the turn in which it comes. Behind, they are in the
 * registry of a pass over the log, or in none: then its position is all that is kept for it.
 */
import { oidsOf } from "../changes/table.ts";
import { type AddedColumn, type Lsn, zeroLsn } from "../protocol.ts";
import type { Registry } from "../shapes/registry.ts";
import type { MessageShape } from "../shapes/message-shape.ts";
import { describeShape, type Shape } from "../shapes/shape.ts";
import type { Frames } from "./frames.ts";
import type { Lane } from "./lane.ts";

export class Feed {
  readonly frames: Frames;
  /** The lanes that have joined, each with what it shows. */
  readonly joined = new Map<Lane, Shape | MessageShape>();
  /** Their subscriptions. */
  private readonly shown = new Set<number>();
  isLive = false;
  /** Behind: everything up to here was sent, or does not concern it. */
  reached: Lsn = zeroLsn;
  /** A pass left it behind: it gets one of its own. */
  isSlow = false;
  /** Passes of its own that ended before it was live. */
  turns = 0;
  /** What lanes showed whose table was altered, at `unalteredAt`, since the last boundary. */
  private readonly unaltered = new Map<Lane, Shape | MessageShape>();
  private unalteredAt: Lsn = zeroLsn;
  private home: Registry<Lane> | undefined;
  private waiting: (() => void)[] = [];
  private round = 0;
  /** Where it is among those that were found in the present round of routing. */
  place = 0;

  constructor(frames: Frames) {
    this.frames = frames;
  }

  get isOver(): boolean {
    return this.frames.over;
  }

  /** Whether changes of this subscription may be sent: what was withdrawn has joined no more. */
  shows(subscription: number): boolean {
    return this.shown.has(subscription);
  }

  /** Whether it has not been found before in this round; if so, it takes that place. */
  isFirstIn(round: number, place: number): boolean {
    if (this.round === round) return false;
    this.round = round;
    this.place = place;
    return true;
  }

  join(lane: Lane, shape: Shape | MessageShape): void {
    this.joined.set(lane, shape);
    this.shown.add(lane.id);
    this.home?.add(shape, lane);
  }

  leave(lane: Lane): void {
    const shape = this.joined.get(lane);
    if (!shape) return;
    this.joined.delete(lane);
    this.shown.delete(lane.id);
    this.home?.delete(shape, lane);
  }

  /** The home has the lane in its table's new form already. The client does, from the next boundary on. */
  alter(lane: Lane, shape: Shape, added: readonly AddedColumn[]): void {
    this.forgetShown();
    if (!this.unaltered.has(lane)) this.unaltered.set(lane, this.joined.get(lane)!);
    this.joined.set(lane, shape);
    const table = describeShape(shape);
    // Who has a shape in common need not have it by the same right.
    this.frames.alter(lane.id, { ...table, access: lane.told ?? table.access! }, added);
  }

  /** Under which oids changes of its joined lanes come. */
  tables(): Set<number> {
    return new Set(this.joined.values().flatMap(({ table }) => oidsOf(table)));
  }

  /** From here on `registry` routes to its lanes; none does where it is undefined. Gives those whose table has another form there. */
  moveTo(registry: Registry<Lane> | undefined): Lane[] {
    for (const [lane, shape] of this.joined) this.home?.delete(shape, lane);
    this.home = registry;
    const unfit: Lane[] = [];
    for (const [lane, shape] of this.joined)
      if (!registry || registry.fits(shape)) registry?.add(shape, lane);
      else unfit.push(lane);
    return unfit;
  }

  /** Its lanes are in the hub's registry, at the hub's position. */
  becomeLive(): void {
    this.isLive = true;
    this.isSlow = false;
    this.turns = 0;
    this.wake();
  }

  becomeBehind(at: Lsn): void {
    this.isLive = false;
    this.reached = at;
    this.moveTo(undefined);
    if (this.frames.insideCommit) this.unalter();
    this.frames.rewind();
  }

  /** Resolves when it is live, or over. */
  async live(): Promise<void> {
    while (!this.isLive && !this.isOver) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  /** The connection is gone. */
  end(): void {
    this.isLive = false;
    this.moveTo(undefined);
    this.joined.clear();
    this.shown.clear();
    this.wake();
  }

  /** Once there was another boundary, what was altered is what the client shows. */
  private forgetShown(): void {
    const { position } = this.frames;
    if (this.unalteredAt === position) return;
    this.unaltered.clear();
    this.unalteredAt = position;
  }

  private unalter(): void {
    this.forgetShown();
    for (const [lane, shape] of this.unaltered) if (this.joined.has(lane)) this.joined.set(lane, shape);
    this.unaltered.clear();
  }

  private wake(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}
