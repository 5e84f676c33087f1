/**
 * What has come and may not be shown yet, in order: of the connection since its last boundary, or of a lane that is
 * loading. Beyond a bound the payloads move to the replica's disk (see staging.ts), and only their places stay here, so
 * a transaction of any size passes through a client without being held in JavaScript. Where there is no replica it is held.
 */
import type { AddedColumn, TableDescription } from "../engine/protocol.ts";
import type { Lane } from "./lane.ts";

export interface Part {
  readonly lane: Lane;
  readonly payload: Uint8Array;
}

export interface Alteration {
  readonly lane: Lane;
  readonly table: TableDescription;
  readonly added: readonly AddedColumn[];
}

export type Segment =
  | { readonly kind: "payloads"; readonly parts: Part[] }
  /** The n-th part belongs to the n-th lane; undefined where nobody wants it any more. */
  | { readonly kind: "spilled"; readonly number: number; readonly lanes: (Lane | undefined)[] }
  | { readonly kind: "altered"; readonly alteration: Alteration };

/** Payloads on their way to the replica's disk. */
export interface Spill {
  readonly number: number;
  readonly payloads: readonly Uint8Array[];
}

// Beyond it, what waits for its boundary is put aside. A transaction of some ten thousand rows fits.
const HELD_BYTES_MAX = 4 << 20;

let spillCount = 0;

export class Pile {
  segments: Segment[] = [];
  /** Of payloads in memory. */
  bytes = 0;

  /** What has to be put aside now, if anything. `hasDisk`: there is a replica to put it. */
  add(lane: Lane, payload: Uint8Array, hasDisk: boolean): readonly Spill[] {
    const last = this.segments.at(-1);
    if (last?.kind === "payloads") last.parts.push({ lane, payload });
    else this.segments.push({ kind: "payloads", parts: [{ lane, payload }] });
    this.bytes += payload.length;
    return hasDisk && this.bytes > HELD_BYTES_MAX ? this.spill() : [];
  }

  alter(alteration: Alteration): void {
    this.segments.push({ kind: "altered", alteration });
  }

  /** The lane is over, or begins again. */
  forget(lane: Lane): void {
    this.segments = this.segments.filter((segment) => {
      if (segment.kind === "altered") return segment.alteration.lane !== lane;
      if (segment.kind === "spilled") segment.lanes.forEach((one, i) => one === lane && (segment.lanes[i] = undefined));
      return true;
    });
    for (const segment of this.segments) if (segment.kind === "payloads") this.bytes -= forgetParts(segment, lane);
  }

  /** All of it, leaving nothing. */
  take(): { segments: readonly Segment[]; bytes: number } {
    const taken = { segments: this.segments, bytes: this.bytes };
    this.segments = [];
    this.bytes = 0;
    return taken;
  }

  private spill(): Spill[] {
    const spills: Spill[] = [];
    this.segments = this.segments.map((segment) => {
      if (segment.kind !== "payloads") return segment;
      const number = ++spillCount;
      spills.push({ number, payloads: segment.parts.map(({ payload }) => payload) });
      return { kind: "spilled", number, lanes: segment.parts.map(({ lane }) => lane) };
    });
    this.bytes = 0;
    return spills;
  }
}

/** Where the segments lie on the replica's disk. */
export function spillsOf(segments: readonly Segment[]): number[] {
  return segments.flatMap((segment) => (segment.kind === "spilled" ? [segment.number] : []));
}

/** Returns the bytes that are gone. */
function forgetParts({ parts }: { parts: Part[] }, lane: Lane): number {
  const kept = parts.filter((part) => part.lane !== lane);
  const gone = parts.reduce((sum, part) => sum + (part.lane === lane ? part.payload.length : 0), 0);
  parts.splice(0, parts.length, ...kept);
  return gone;
}
