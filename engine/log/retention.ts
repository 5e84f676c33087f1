/** How much of the log may go: whole segments, oldest first, while they are too old or too many, and nobody needs them. */
import type { Lsn } from "../protocol.ts";
import type { Segment } from "./segment.ts";

export interface RetentionLimits {
  readonly retentionMs: number;
  readonly bytesMax: number;
}

type Sealed = Pick<Segment, "bytes" | "sealedAt" | "state">;

/** How many of the oldest may go now. Everything after `needed` stays. */
export function expiredSegments(
  segments: readonly Sealed[],
  { retentionMs, bytesMax }: RetentionLimits,
  needed: Lsn,
  nowMs: number,
): number {
  let bytes = totalBytes(segments);
  let expired = 0;
  for (const { sealedAt, state, bytes: own } of segments) {
    if (sealedAt === undefined || state.end > needed) break;
    if (bytes <= bytesMax && nowMs - sealedAt <= retentionMs) break;
    bytes -= own;
    expired++;
  }
  return expired;
}

export function totalBytes(segments: readonly Pick<Segment, "bytes">[]): number {
  return segments.reduce((sum, { bytes }) => sum + bytes, 0);
}
