/** What waits to be done on the replica. */
import type { Lsn, TableDescription, WalcastError } from "../engine/protocol.ts";
import type { Lane } from "./lane.ts";
import type { Member } from "./local-tables.ts";
import { type Segment, type Spill, spillsOf } from "./pile.ts";
import type { Telling } from "./steps.ts";

export interface Transaction {
  readonly kind: "transaction";
  readonly segments: readonly Segment[];
  readonly joins: readonly { readonly lane: Lane; readonly segments: readonly Segment[] }[];
  readonly position: Lsn;
  /** In memory. */
  readonly bytes: number;
}

export type Work =
  | Transaction
  | {
      readonly kind: "described";
      readonly lane: Lane;
      readonly table: TableDescription;
      readonly estimatedRows: number;
    }
  | { readonly kind: "copy"; readonly lane: Lane; readonly lines: Uint8Array }
  | { readonly kind: "claimed"; readonly member: Member; readonly isCurrent: boolean }
  /** `done`: called in the same turn. */
  | { readonly kind: "discard"; readonly lane: Lane; readonly done: () => void }
  | {
      readonly kind: "remove";
      readonly member: Member;
      readonly done: () => void;
      readonly failed?: (error: WalcastError) => void;
    }
  /** Every row leaves, also of shapes that nobody has asked for in this process. */
  | { readonly kind: "empty"; readonly done: () => void }
  /** What nobody has asked for in this process leaves. */
  | { readonly kind: "removeUnclaimed" }
  /** Somebody whom others may wait for has failed. */
  | { readonly kind: "place" }
  | { readonly kind: "spill"; readonly spill: Spill }
  /** Their boundary will not come. */
  | { readonly kind: "unspill"; readonly numbers: readonly number[] }
  | { readonly kind: "told"; readonly telling: Telling }
  | { readonly kind: "audit"; readonly lane: Lane; readonly rows: string; readonly hash: string }
  | { readonly kind: "access"; readonly lane: Lane; readonly access: string }
  /** All of it leaves in one local transaction. */
  | { readonly kind: "withdraw"; readonly withdrawals: readonly Withdrawal[] }
  | { readonly kind: "awaited"; readonly id: number }
  /** Whose the rows are from here on; undefined: nobody's. */
  | { readonly kind: "owner"; readonly owner: string | undefined }
  | { readonly kind: "epoch"; readonly epoch: string; readonly keeps: EpochKeeps };

/** The rows of a shape that somebody else was allowed to see. */
export interface Withdrawal {
  readonly member: Member;
  /** So may be what nobody has asked for yet. */
  readonly isPurge: boolean;
  readonly done: () => void;
}

/** What remains valid under a server's epoch: rows and position; the position shown, though nothing is resumed; nothing. */
export type EpochKeeps = "everything" | "shown" | "nothing";

/** What the application asked for, and what is owed to the replica, outlasts a stream that cannot be applied. */
export function outlastsStream({ kind }: Work): boolean {
  return keptKinds.has(kind);
}

const keptKinds = new Set<Work["kind"]>([
  "claimed",
  "owner",
  "remove",
  "withdraw",
  "discard",
  "empty",
  "removeUnclaimed",
  "place",
  "unspill",
]);

/** Who waits for it is told that it will not be done. */
export function abandon(work: Work, error: WalcastError): void {
  if (work.kind === "remove") work.failed?.(error);
}

/** The numbers of what was put aside for it. */
export function spilledIn({ segments, joins }: Transaction): number[] {
  return [...spillsOf(segments), ...joins.flatMap((join) => spillsOf(join.segments))];
}
