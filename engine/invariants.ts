/**
 * What must hold while the engine runs, by name. A breach is a bug of ours: it is counted, and what it concerns (a shape,
 * a connection, a read from the stream) is stopped and loaded anew rather than continued on a guess. Every count is a
 * metric, `walcast_invariant_breaches_total{invariant}`, that must stay 0.
 */
import { WalcastError } from "./errors.ts";

export const invariantNames = [
  /** Commit positions strictly increase. */
  "commit_order",
  /** No row is decoded outside Begin and Commit, nor before its table was described. */
  "row_in_transaction",
  /** What is acknowledged to Postgres is durable, and never goes back. */
  "acknowledged_durable",
  /** A row has as many columns as its table's description. */
  "column_count",
  /** A connection's frame numbers have no gap. */
  "frame_order",
  /** A connection's position never goes back. */
  "position_order",
  /** A shape joins the live stream once, with nothing left to replay. */
  "joined_whole",
  /** A send that was dropped is never followed by another on the same connection. */
  "send_seen",
  /** What a shape was made from is of one version of its table. */
  "one_version",
] as const;

export type Invariant = (typeof invariantNames)[number];

const counts = new Map<Invariant, number>(invariantNames.map((name) => [name, 0]));

/** Breaches so far in this process, by name. */
export const breaches: ReadonlyMap<Invariant, number> = counts;

/** Counts, where whoever found it knows what to stop. */
export function noteBreach(name: Invariant): void {
  counts.set(name, counts.get(name)! + 1);
}

/** Counts, and throws `invariant` to whoever owns what must stop. */
export function breach(name: Invariant, message: string): never {
  noteBreach(name);
  throw new WalcastError("invariant", `${name}: expected that ${message}`);
}

/** `assert`, with a count. The message says what must hold. */
export function must(condition: unknown, name: Invariant, message: string): asserts condition {
  if (!condition) breach(name, message);
}
