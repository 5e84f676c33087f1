/**
 * At every connect: does the log go on where Postgres goes on? Pure: what the log holds and what the server says, in; the
 * least that is correct, out.
 *
 * | found | then |
 * | --- | --- |
 * | the same history, the slot where it was acknowledged or before | go on: what is sent again is recognised |
 * | a new timeline that has everything we have | go on in the new epoch |
 * | the slot is beyond what was ever acknowledged, or was made anew | what lies between is unknown: the log starts there |
 * | other commits than the log has, where it has some | another history |
 * | another server or database, commits that the server does not have, a publication made anew | another history: everybody starts anew |
 */
import { formatLsn, type Lsn } from "../protocol.ts";
import { type Epoch, formatEpoch, leftAt, type Lineage, parseEpoch } from "./epoch.ts";

/** What the log's files say. */
export interface Kept {
  /** As `formatHistory` wrote it; undefined for a log that has just been made. */
  readonly history: string | undefined;
  /** Commit-end of the last transaction. */
  readonly end: Lsn;
  /** The highest position that was ever made durable, and so may have been acknowledged. */
  readonly recorded: Lsn;
}

/** What the server says. */
export interface Served extends Lineage {
  /** Where its WAL ends. */
  readonly walEnd: Lsn;
  /** The slot's confirmed position. */
  readonly confirmed: Lsn;
  readonly publicationOid: number;
  /** At the last connection it sent other transactions than the log has. */
  readonly contradicts?: boolean;
}

export type Verdict =
  | { readonly kind: "continue"; readonly epoch: Epoch }
  /** The timeline changed and nothing was lost. What was recorded beyond `until` says nothing about the new one. */
  | { readonly kind: "follow"; readonly epoch: Epoch; readonly until: Lsn }
  /** The log starts at the slot's position, in the same history or in another. `renew`: at that of a new slot. */
  | { readonly kind: "start"; readonly epoch: Epoch; readonly why: string | undefined; readonly renew: boolean };

/** `newBranch` names a history that the server's own identity does not tell from the one before. */
export function judge(kept: Kept, served: Served, newBranch: () => string): Verdict {
  const written = kept.history === undefined ? undefined : parseHistory(kept.history);
  if (!written) return { kind: "start", epoch: served.epoch, why: undefined, renew: false };
  const { epoch: was, publicationOid } = written;
  if (was.system !== served.epoch.system || was.database !== served.epoch.database)
    return start(served.epoch, "this is another database than the one the log was written from");
  const epoch = { ...served.epoch, branch: was.branch };
  const branched = { ...served.epoch, branch: newBranch() };
  // What was committed without it cannot be decoded any more, or would be skipped: the slot has to begin after that.
  if (publicationOid !== served.publicationOid)
    return start(branched, "the publication was made anew, and changes may have been committed without it", true);
  const until = leftAt({ epoch, ancestors: served.ancestors }, was.timeline);
  if (until === undefined || (until !== "current" && kept.end > until))
    return start(epoch, `a failover lost commits that the log has: it ends at ${formatLsn(kept.end)}`);
  if (until === "current" && (kept.end > served.walEnd || kept.recorded > served.walEnd))
    return start(branched, "Postgres' write-ahead log ends before ours does: a backup was restored");
  if (served.contradicts)
    return start(branched, "Postgres sends other transactions than the log has: a copy of its files was restored");
  const recorded = until === "current" || kept.recorded < until ? kept.recorded : until;
  if (served.confirmed > recorded && served.confirmed > kept.end)
    return start(
      epoch,
      `the slot was made anew or moved to ${formatLsn(served.confirmed)}, and the log ends at ${formatLsn(kept.end)}`,
    );
  return until === "current" ? { kind: "continue", epoch } : { kind: "follow", epoch, until };
}

function start(epoch: Epoch, why: string, renew = false): Verdict {
  return { kind: "start", epoch, why, renew };
}

// ── What is written into the log's files ─────────────────────────────────────────────────────────────────────────────

export function formatHistory(epoch: Epoch, publicationOid: number): string {
  return `${formatEpoch(epoch)} ${publicationOid}`;
}

function parseHistory(text: string): { epoch: Epoch; publicationOid: number } | undefined {
  const [epochText = "", oid = ""] = text.split(" ");
  const epoch = parseEpoch(epochText);
  return epoch && { epoch, publicationOid: Number(oid) };
}
