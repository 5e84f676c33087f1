/** What a config may bound, and the bounds where it says nothing: each with the reason for its size. */
import { integer, invalid, isRecord, requireKnown } from "./given.ts";

export interface Limits {
  /** Open sockets; the next is refused with 503. */
  readonly connections: number;
  /** Of one IP address (of IPv6, one network of 64 bits); the next is refused with 503. */
  readonly connectionsPerAddress: number;
  /** WebSockets that one IP address may open in a minute, all at once where it opened none for a minute; the next is refused with 429. */
  readonly connectsPerMinute: number;
  /** Of one user, which is whom the claim `sub` names; the next is closed with 4429. */
  readonly connectionsPerUser: number;
  readonly shapesPerConnection: number;
  /** On a connection, in the long run: ten times as many may come at once. Those beyond it fail with `too_fast`. */
  readonly subscribesPerSecond: number;
  /** UTF-8 bytes of a subscription's `where` and of its params as JSON, each. No text of more than 64 KiB is parsed, whatever this says. */
  readonly whereBytes: number;
  /** Of all conditions of a connection that are longer than 512 characters, with their params. */
  readonly whereBytesPerConnection: number;
  /**
   * That all conditions of a connection ask of a change, beside what the index finds: a list is one, and what is computed one for
   * every 40 characters of its SQL.
   */
  readonly comparisonsPerConnection: number;
  /**
   * Of processor time for reading conditions longer than 512 characters, for each user, or address where the token names nobody: so
   * much in a minute, all of it at once if need be. Shorter ones count where they are refused. What a client asks for beyond it waits if it is long;
   * 60,000 is as good as no bound.
   */
  readonly whereMsPerMinute: number;
  /** The largest message a client may send. */
  readonly messageBytes: number;
  /** How deep arrays and objects may lie in one another in a message; more is not parsed. */
  readonly messageDepth: number;
  /** What may wait in memory for a slow client; beyond it, it is brought up to date from the log when it gets on. */
  readonly backlogBytesPerConnection: number;
  /** How long a client may take to say hello; then 4408. */
  readonly helloMs: number;
  /** How long a connection may be silent, though it was pinged; then it is cut off. In whole seconds, from 8 s to 16 min. */
  readonly idleMs: number;
  /** How long a member of an ephemeral topic may be without a connection before it has left. */
  readonly presenceGraceMs: number;
  /** Initial loads that run at the same time; the others wait their turn. */
  readonly snapshots: number;
  /**
   * What finished first loads may take on disk, compressed, so that whoever asks for the same later costs Postgres nothing;
   * 0 keeps none. Those that were not asked for longest go first.
   */
  readonly keptSnapshotBytes: number;
  /** About how large a data frame gets before the next one is begun. */
  readonly frameBytes: number;
  /** A transaction larger than this is kept on disk while it comes, and sent in parts. */
  readonly largeTransactionBytes: number;
  /** Rows held in memory for streams of current states, all together; a stream beyond it is refused. */
  readonly watchBytes: number;
  /** Keys that readers of Durable Streams were told, all together; those of the streams that were not read longest are forgotten first. */
  readonly streamKeyBytes: number;
  /** When Postgres keeps more than half of this for the slot, it is warned of. Only where max_slot_wal_keep_size is not set. */
  readonly retainedWalBytes: number;
}

export interface LogLimits {
  readonly retentionMs: number;
  readonly maxBytes: number;
  readonly tailBytes: number;
  readonly segmentBytes: number;
}

const MiB = 1024 * 1024;

const limitDefaults: Limits = {
  // An idle connection costs a few KiB here and a file descriptor in the kernel, whose usual limit is above this.
  connections: 10_000,
  // Behind a proxy all of them may come from one address.
  connectionsPerAddress: 10_000,
  // All of these come back at once after a restart, and some of them more than once.
  connectsPerMinute: 60_000,
  // A user may be a service with many processes; where all are people, some dozens are plenty.
  connectionsPerUser: 10_000,
  // A page shows some dozens of queries; a client that opens hundreds is usually one that forgets to close them.
  shapesPerConnection: 200,
  // What an engine can do for small shapes, about: one connection shall not be in the way of all others.
  subscribesPerSecond: 1_000,
  // Parsing is linear in this, and a list of a thousand uuids fits.
  whereBytes: 64 * 1024,
  // Each value of a list takes some hundred bytes of memory, so all of these take about 20 MiB.
  whereBytesPerConnection: 512 * 1024,
  // Ten for each shape. They take a change at most about a millisecond, of which everybody else has to wait.
  comparisonsPerConnection: 2_000,
  // All conditions that a connection may have take about as long to read, and more of a core than this the others would feel.
  whereMsPerMinute: 500,
  // Room for a subscribe message with its where and params at their limits.
  messageBytes: MiB,
  // A message has four levels, and no parameter has more than one of its own.
  messageDepth: 16,
  // Beyond it a client is caught up from the log when it takes what waits: so one that is gone costs no more than this.
  backlogBytesPerConnection: MiB,
  // Covers fetching a token on a slow network; what says nothing for longer is not a client of ours.
  helloMs: 10_000,
  // Two or three pings of a mobile network that sleeps.
  idleMs: 32_000,
  // A page that is loaded again, or a network that changes, takes a second or two.
  presenceGraceMs: 5_000,
  // Each holds a connection and a snapshot, and together they must leave Postgres to its other users.
  snapshots: 4,
  // Some dozens of tables of a million rows, and little beside the log.
  keptSnapshotBytes: 1e9,
  // Large enough that headers and system calls do not count, small enough to be applied within a screen's refresh.
  frameBytes: 256 * 1024,
  // Many times what an application's transactions are, and little enough that a dozen at once fit into a small heap.
  largeTransactionBytes: 4 * MiB,
  // Some hundred thousands of rows: who needs more has a replica.
  watchBytes: 256 * MiB,
  // Half a million keys.
  streamKeyBytes: 64 * MiB,
  // Less than what a small database's disk has to spare.
  retainedWalBytes: 2e9,
};

const countMax = 2 ** 31 - 1;

/** Other bounds than from 1 upwards. */
const ranges: Partial<Record<string, readonly [min: number, max: number]>> = {
  // The library's own. https://unetworking.github.io/uWebSockets.js/generated/interfaces/WebSocketBehavior.html
  idleMs: [8_000, 960_000],
  keptSnapshotBytes: [0, countMax],
};

export function limitsOf(value: unknown = {}): Limits {
  if (!isRecord(value)) throw invalid("limits", "an object", value);
  requireKnown(value, Object.keys(limitDefaults), "limits");
  const entries = Object.entries(limitDefaults).map(([key, byDefault]) => {
    const [min, max] = ranges[key] ?? [1, countMax];
    return [key, integer(value[key], `limits.${key}`, byDefault as number, min, max)];
  });
  return Object.fromEntries(entries) as Limits;
}

export function logOf(value: unknown = {}): LogLimits {
  if (!isRecord(value)) throw invalid("log", "an object", value);
  requireKnown(value, ["retentionHours", "maxBytes", "tailBytes", "segmentBytes"], "log");
  const bytes = (key: string, byDefault: number, min: number): number =>
    integer(value[key], `log.${key}`, byDefault, min, Number.MAX_SAFE_INTEGER);
  return {
    retentionMs: hours(value.retentionHours, "log.retentionHours", 24) * 3_600_000,
    maxBytes: bytes("maxBytes", 4e9, MiB),
    tailBytes: bytes("tailBytes", 64 * MiB, MiB),
    segmentBytes: bytes("segmentBytes", 64 * MiB, 64 * 1024),
  };
}

function hours(value: unknown, key: string, byDefault: number): number {
  if (value === undefined) return byDefault;
  if (typeof value === "number" && value > 0 && value <= 24 * 366) return value;
  throw invalid(key, "a number of hours from 0 to a year", value);
}
