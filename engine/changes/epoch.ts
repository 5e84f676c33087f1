/**
 * Which history a position belongs to. A position means something only within one: the same server and database, and a
 * timeline that leads there. A failover begins a new timeline, which shares everything up to where it left the old one;
 * so whoever was not further than that has lost nothing, and goes on.
 * https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
 */
import { type Lsn, parseLsn } from "../protocol.ts";

export interface Epoch {
  readonly system: string;
  readonly database: string;
  readonly timeline: number;
  /** Marks a history that Postgres itself takes for the same: a backup that was restored in place, or another publication, say. Empty: none. */
  readonly branch: string;
}

/** A timeline that the current one comes from, and where it was left. */
export interface Ancestor {
  readonly timeline: number;
  readonly until: Lsn;
}

/** The history that is streamed now. */
export interface Lineage {
  readonly epoch: Epoch;
  readonly ancestors: readonly Ancestor[];
}

export function formatEpoch({ system, database, timeline, branch }: Epoch): string {
  return [system, database, timeline, ...(branch === "" ? [] : [branch])].join(":");
}

/** Undefined for what is none: a client may send anything. */
export function parseEpoch(text: string): Epoch | undefined {
  const match = /^(\d{1,20}):(\d{1,10}):(\d{1,10})(?::([0-9a-z]{1,32}))?$/.exec(text);
  if (!match) return undefined;
  const [, system, database, timeline, branch = ""] = match;
  return { system: system!, database: database!, timeline: Number(timeline), branch };
}

/** Whether whoever has reached `position` in `epoch` has seen nothing that is not in the lineage's history too. */
export function leadsFrom(lineage: Lineage, epoch: Epoch, position: Lsn): boolean {
  const now = lineage.epoch;
  if (epoch.system !== now.system || epoch.database !== now.database || epoch.branch !== now.branch) return false;
  const until = leftAt(lineage, epoch.timeline);
  return until !== undefined && (until === "current" || position <= until);
}

/** Where the lineage left this timeline; undefined where it never was on it. */
export function leftAt({ epoch, ancestors }: Lineage, timeline: number): Lsn | "current" | undefined {
  if (timeline === epoch.timeline) return "current";
  return ancestors.find((ancestor) => ancestor.timeline === timeline)?.until;
}

/**
 * A timeline history file: the ancestors, oldest first, each a line of its number, where it was left, and why.
 * https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-TIMELINE-HISTORY
 */
export function parseTimelineHistory(content: string): Ancestor[] {
  const lines = content.split("\n").filter((line) => /^\s*\d/.test(line));
  return lines.map((line) => {
    const [timeline, until] = line.trim().split(/\s+/);
    return { timeline: Number(timeline), until: parseLsn(until!) };
  });
}
