/** From a connection's frames to what the replica has to do: rows of lanes that load, and whole transactions at their boundary. */
import { type Frame, type Lsn, type SectionIn, WalcastError, zeroLsn } from "../engine/protocol.ts";
import type { Backlog } from "./backlog.ts";
import { type Lane, unexpected } from "./lane.ts";
import { type Alteration, Pile, spillsOf } from "./pile.ts";
import type { Transaction } from "./work.ts";

interface LaneStates {
  /** Undefined for one that is over. Throws WalcastError where it never was. */
  lane(id: number): Lane | undefined;
  /** Some are to go on, and the server has not yet said that they do. */
  areResuming(): boolean;
}

export class Incoming {
  /** Of the last boundary. */
  position = zeroLsn;
  private readonly backlog: Backlog;
  private readonly lanes: LaneStates;
  private readonly staged = new Pile();

  constructor(backlog: Backlog, lanes: LaneStates) {
    this.backlog = backlog;
    this.lanes = lanes;
  }

  /** Throws WalcastError where it cannot be. */
  frame(frame: Frame): void {
    switch (frame.kind) {
      case "copy":
        return frame.sections.forEach((section) => this.copied(section));
      case "catchUp":
        return frame.sections.forEach((section) => this.caughtUp(section));
      case "commits":
        frame.sections.forEach((section) => this.stage(section));
        return frame.boundary ? this.boundary(frame.position, []) : undefined;
      case "join":
        return this.boundary(frame.position, frame.sections);
      case "position":
        return this.boundary(frame.position, []);
    }
  }

  alter(alteration: Alteration): void {
    this.staged.alter(alteration);
  }

  /** The lane is over, or begins again: what came for it is void. */
  forget(lane: Lane): void {
    this.staged.forget(lane);
    this.unspill(spillsOf(lane.catchUp.take().segments));
  }

  /** The boundary of what came will not come. */
  unstage(): void {
    this.unspill(spillsOf(this.staged.take().segments));
  }

  private copied(section: SectionIn): void {
    const lane = this.expect(section, "loading");
    if (!lane) return;
    if (lane.part) lane.part.frames++;
    this.backlog.push({ kind: "copy", lane, lines: section.payload });
  }

  private caughtUp(section: SectionIn): void {
    const lane = this.expect(section, "loading");
    if (!lane) return;
    lane.part = undefined;
    this.pile(lane.catchUp, lane, section.payload);
  }

  private stage(section: SectionIn): void {
    const lane = this.expect(section, "joined");
    if (lane) this.pile(this.staged, lane, section.payload);
  }

  private boundary(position: Lsn, joining: readonly SectionIn[]): void {
    if (position < this.position)
      throw new WalcastError(
        "frame_out_of_order",
        "read a frame: expected its position not to be before the last one's",
      );
    // Where we are, it may tell us at any time.
    const isElsewhere = position !== this.position || joining.length > 0;
    if (isElsewhere && this.lanes.areResuming()) throw unexpected("a boundary", "resuming");
    this.position = position;
    const joins = joining.flatMap((section) => this.joining(section) ?? []);
    const staged = this.staged.take();
    for (const segment of staged.segments)
      if (segment.kind === "altered") segment.alteration.lane.identity = segment.alteration.table.identity;
    this.backlog.push({ kind: "transaction", ...staged, joins, position });
  }

  private joining(section: SectionIn): Transaction["joins"][number] | undefined {
    const lane = this.expect(section, "loading");
    if (!lane) return undefined;
    lane.stage = "joined";
    lane.part = lane.told = undefined;
    this.pile(lane.catchUp, lane, section.payload);
    return { lane, segments: lane.catchUp.take().segments };
  }

  private pile(pile: Pile, lane: Lane, payload: Uint8Array): void {
    for (const spill of pile.add(lane, payload, this.backlog.isOpen)) this.backlog.push({ kind: "spill", spill });
  }

  private unspill(numbers: readonly number[]): void {
    if (numbers.length > 0) this.backlog.push({ kind: "unspill", numbers });
  }

  private expect({ subscription }: SectionIn, stage: Lane["stage"]): Lane | undefined {
    const lane = this.lanes.lane(subscription);
    if (lane && lane.stage !== stage) throw unexpected("rows", lane.stage);
    return lane;
  }
}
