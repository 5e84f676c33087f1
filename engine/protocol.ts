/**
 * Every message on the socket: `walcast.v1`. The one engine file the client imports, so it runs in browsers and knows
 * nothing of Node. docs/protocol.md says the same in prose; tests hold the two together.
 *
 * Client to server: JSON text. Server to client: JSON text for control, binary frames for data. Each message from the
 * server, text or binary, takes the connection's next frame number, from 1: a gap means that something was lost, and
 * the client reconnects.
 *
 * A binary frame, all integers big-endian:
 *
 *     0  u8   kind        1 commits · 2 copy · 3 catch-up · 4 join · 5 position
 *     1  u8   flags       bit 0: boundary (commits: everything staged since the last boundary may now be shown)
 *     2  u16  sections
 *     4  u32  number      the connection's frame number
 *     8  u32  checksum    CRC-32 of the header (all bytes before the payloads, without this field), seeded with the
 *                         checksum of the binary frame before; 0 before the first
 *     12 u64  position    commit-end LSN the connection has reached when this frame is applied
 *     20      per section: u32 subscription · u32 payload length · u32 CRC-32 of the payload
 *     …       the payloads, one after another
 *
 * So a shape's payload is encoded once, its CRC computed once, and every connection puts its own small header before it.
 *
 * Payloads of copy frames are whole lines of COPY text format. Payloads of commits, catch-up and join frames are
 * transactions in commit order:
 *
 *     'C'  u64 position (commit-end LSN) · i64 commit time (µs since 2000-01-01 UTC) · u64 xid · u32 operations
 *     then that many operations:
 *     'I'  tuple                    a row that is new to the shape
 *     'U'  u8 old · [tuple] · tuple old: 0 nothing, 1 the old key (the key changed), 2 the whole old row (changes mode)
 *     'D'  u8 old · tuple           old: 1 the key, 2 the whole old row (changes mode)
 *     'T'                           all rows of the shape are gone
 *
 *     tuple: u16 columns, then per column 'n' (NULL) | 'u' (unchanged: keep what you have) | 't' u32 length, UTF-8 text
 *
 * A message is an 'I' whose tuple has one column: a topic's message as JSON text, or the key that was named.
 *
 * A row tuple has the columns of the shape's description, in its order; a key tuple has the key's, in the key's order.
 * Values are Postgres' own text output under the settings that docs/protocol.md lists.
 */
import type { ErrorJson } from "./errors.ts";
import type { TypeDescription } from "./changes/table.ts";

export * from "./protocol/commits.ts";
export { crc32 } from "./protocol/crc32.ts";
export * from "./protocol/frames.ts";
export * from "./protocol/lsn.ts";
export { uint32 } from "./protocol/uint32.ts";
export type { Seed, SeedShape } from "./protocol/seed.ts";
export { WalcastError, type ErrorCode, type ErrorJson, errorCodes, errorFromJson } from "./errors.ts";
export type { TypeDescription } from "./changes/table.ts";

export const subprotocol = "walcast.v1";

/** Why the server closed the connection. https://www.rfc-editor.org/rfc/rfc6455#section-7.4.2 */
export const closeCodes = {
  goingAway: 1001,
  malformed: 4400,
  unauthenticated: 4401,
  forbidden: 4403,
  tooSlowToGreet: 4408,
  tooLarge: 4413,
  tooMany: 4429,
} as const;

/** What a subscription asks for. Names as in SQL; `where` as in SQL, with $1… for `params`. */
export interface ShapeRequest {
  readonly table: string;
  readonly where?: string;
  /** JSON values: numbers, booleans, null, text (Postgres' input form), or arrays of these. */
  readonly params?: readonly unknown[];
  /** Plain column names; must include the key's. Default: every column the config lets this client read. */
  readonly columns?: readonly string[];
}

/**
 * Messages instead of rows: those of a topic, or those that name one of these keys. With `since`, a position, or `limit`, how
 * many at most, earlier ones come first, as far as the log has them. `epoch` is the history that `since` belongs to.
 */
export interface MessagesRequest {
  readonly topic?: string;
  readonly keys?: readonly string[];
  readonly since?: string;
  readonly epoch?: string;
  readonly limit?: number;
}

/** Somebody who is in an ephemeral topic and says so. */
export interface Member {
  readonly member: string;
  /** Any JSON. */
  readonly state: unknown;
}

/** First rows as far as they came. */
export interface LoadPart {
  /** As `described` named it. */
  readonly id: string;
  /** How many copy frames of it came. None of its catch-up frames may have. */
  readonly frames: number;
}

/** Up to where changes were told, in which history, and of what: as the last `described` or `altered` named it. */
export interface Told {
  readonly identity: string;
  readonly epoch: string;
  readonly position: string;
}

export type ClientMessage =
  /** `epoch` and `position`: the history and the place in it that this client has reached, if it wants to go on from there. */
  | { readonly kind: "hello"; readonly token?: string; readonly epoch?: string; readonly position?: string }
  /**
   * Another token for this connection, from now on: what each subscription may have is decided anew. Answered by
   * `authenticated`; one at a time.
   */
  | { readonly kind: "authenticate"; readonly token: string }
  /**
   * Ids count upwards per connection and are never used again. `changes`: no rows first, whole old rows in changes.
   * `identity`: the client has this shape at the position of its hello, and the server called it so. Only between a
   * welcome that says `resumes` and `resume`.
   * `load`: what the client has of the first rows of an earlier connection, which it lost before they were complete.
   * `shown`: it has rows of it in sight, described with this `access`. `after`: with `changes`, those that it was told end there.
   */
  | {
      readonly kind: "subscribe";
      readonly id: number;
      readonly shape: ShapeRequest;
      readonly changes?: boolean | undefined;
      readonly identity?: string | undefined;
      readonly load?: LoadPart | undefined;
      readonly shown?: string | undefined;
      readonly after?: Told | undefined;
    }
  /** A subscription to messages; ids are those of `subscribe`. Answered by `listening`, or by `resumed` with an `identity`. */
  | {
      readonly kind: "listen";
      readonly id: number;
      readonly messages: MessagesRequest;
      readonly identity?: string | undefined;
    }
  /** Enters an ephemeral topic. Answered by `meeting` with `members`. `secret`: who knows it is the same member again. */
  | { readonly kind: "meet"; readonly topic: string; readonly secret: string }
  /** To those who are in it now, or to nobody: not answered. */
  | { readonly kind: "say"; readonly topic: string; readonly payload: unknown }
  /** Is a member, with this state, from now on; without a state, is none any more. */
  | { readonly kind: "track"; readonly topic: string; readonly state?: unknown }
  /** Leaves it. */
  | { readonly kind: "part"; readonly topic: string }
  /** Every subscription with an identity has been named: go on from the position of the hello. */
  | { readonly kind: "resume" }
  | { readonly kind: "unsubscribe"; readonly id: number }
  /** Answered by `awaited` once this connection has reached the position, or the commit of the transaction (a 64-bit xid in text). */
  | { readonly kind: "await"; readonly id: number; readonly position?: string; readonly xid?: string }
  /** The answer to `audit`: whether the client's rows at that boundary are the server's. */
  | { readonly kind: "audited"; readonly id: number; readonly matches: boolean }
  /** Answered by `pong`: is anybody there? A browser gives no other way to ask. */
  | { readonly kind: "ping" };

export type ServerMessage = { readonly frame: number } &
  /**
   * `resumes`: this server can go on from the position of the hello, and waits for `subscribe` with identities, then
   * `resume`. Where the hello had a position and this is missing, `cause` says why, and everything is loaded anew.
   */
  (
    | {
        readonly kind: "welcome";
        readonly epoch: string;
        readonly position: string;
        readonly positionEveryMs: number;
        /** The longest message that a client may send, in bytes: a longer one ends the connection. */
        readonly messageBytes?: number;
        /** How long the token lasts from now on. Absent: for ever. */
        readonly expiresInMs?: number;
        readonly resumes?: boolean;
        readonly cause?: ErrorJson;
      }
    /**
     * The new token holds. What it does not allow was said before: subscriptions that have had `resync` with `purge`, or an
     * `error`. All others go on.
     */
    | { readonly kind: "authenticated"; readonly expiresInMs?: number }
    /** Precedes the first message of a `listen`: all after `from` come, within its limit. `cause`: why not all after its `since`. */
    | {
        readonly kind: "listening";
        readonly id: number;
        readonly identity: string;
        readonly from: string;
        readonly cause?: ErrorJson;
      }
    /** The identity still holds: the subscription is joined at the position of the hello, without a row being sent again. */
    | { readonly kind: "resumed"; readonly id: number }
    /** What this client may read is another than it said, or was told, and its rows are the same: they are described with this from now on. */
    | { readonly kind: "access"; readonly id: number; readonly access: string }
    /** Precedes the first row of a subscription, and comes again after `resync`. */
    | {
        readonly kind: "described";
        readonly id: number;
        readonly table: TableDescription;
        readonly estimatedRows: number;
        /** Names the rows that follow: with it, a client that is cut off may ask for the rest. Absent where no rows follow. */
        readonly load?: string;
        /** The frames that the client said it has are not sent again. Otherwise what it has of an earlier load is void. */
        readonly continues?: boolean;
      }
    /**
     * The server cannot continue this subscription. Keep its rows readable; a new `described` and its rows replace them at
     * `join`. With `purge` they must not be shown any more: what this client may read has changed.
     */
    | { readonly kind: "resync"; readonly id: number; readonly cause: ErrorJson; readonly purge?: boolean }
    /**
     * The table has a new form that the rows can be brought to in place. Belongs to what is staged: it takes effect with the
     * next boundary, after the changes that came before it and before those that follow it.
     */
    | {
        readonly kind: "altered";
        readonly id: number;
        readonly table: TableDescription;
        readonly added: readonly AddedColumn[];
      }
    /** Forget what was staged since the last boundary: it comes again, from there. */
    | { readonly kind: "rewind" }
    /** At the boundary that was sent last the shape has so many rows, and their hashes this sum. Answered by `audited`. */
    | { readonly kind: "audit"; readonly id: number; readonly rows: string; readonly hash: string }
    | { readonly kind: "unsubscribed"; readonly id: number }
    | { readonly kind: "awaited"; readonly id: number; readonly position: string }
    | { readonly kind: "pong" }
    /**
     * Of an ephemeral topic, one of: `members`, everybody who is one now, with `you`, one's own name; `said`; `came`, a member that
     * is new, or has another state; `went`.
     */
    | {
        readonly kind: "meeting";
        readonly topic: string;
        readonly you?: string;
        readonly members?: readonly Member[];
        readonly said?: { readonly from: string; readonly payload: unknown };
        readonly came?: Member;
        readonly went?: string;
      }
    /** With `subscription`, `await` or `topic` (of a `meet`), that one has failed and is over; without, the connection is about to close. */
    | {
        readonly kind: "error";
        readonly subscription?: number;
        readonly await?: number;
        readonly topic?: string;
        readonly error: ErrorJson;
      }
  );

/** A shape as its client sees it: enough to create the local table. */
export interface TableDescription {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** Changes with the schema. Opaque. */
  readonly version: string;
  /** The shape's identity: table, columns, predicate with claims, version. Opaque; equal means "the same rows". */
  readonly identity: string;
  /** What this client may read of the table. Opaque; stays the same when the table gets another form. */
  readonly access?: string;
  readonly columns: readonly ColumnDescription[];
  /** Column names in the key's order. */
  readonly key: readonly string[];
  /** To be created before the table, in this order. */
  readonly types: readonly TypeDescription[];
}

/** A column that rows which are there already get, all with one value. */
export interface AddedColumn {
  readonly name: string;
  /** Postgres' text; null for NULL. */
  readonly value: string | null;
}

export interface ColumnDescription {
  readonly name: string;
  /** As in DDL, qualified where it is not Postgres' own: `numeric(12,2)`, `public.order_status[]`. */
  readonly type: string;
  readonly notNull: boolean;
}
