/**
 * `@walcast/client`: a live replica of parts of a Postgres database, in this process, in real Postgres (PGlite).
 *
 *     const client = createClient<Database>({
 *       url: "ws://localhost:4437",
 *       shapes: { orders: { table: "orders", where: "status <> $1", params: ["archived"] } },
 *     });
 *     await client.preload();
 *     const live = client.live((db) => db.selectFrom("orders").selectAll().orderBy("created_at", "desc").limit(50));
 *     live.subscribe((rows, delta) => render(rows));
 *
 * What it promises: while no shape is `resyncing`, the rows of all ready shapes are what their queries return on the
 * server at one committed position, `client.position`, and no state in between is ever shown. Every promise here
 * rejects with a WalcastError, which carries a `code` from `errorCodes`.
 */
import type { PGlite } from "@electric-sql/pglite";
import type { Compilable, Kysely } from "kysely";

import type { ErrorJson, Seed, ShapeRequest, WalcastError } from "../engine/protocol.ts";
import type { Channel } from "./channel.ts";
import { WalcastClient } from "./client.ts";
import type { Token } from "./renewal.ts";
import { checkOptions } from "./options.ts";
import { createGuest } from "./remote/create.ts";
import type { ShapeInspection } from "./inspection.ts";
import type { LiveInspection, LiveOptions, LiveQuery } from "./live.ts";
import type { StorageInspection } from "./storage/storage.ts";
import type { Revalidated } from "./revalidations.ts";
import type { Shape, ShapeOptions } from "./shape.ts";
import type { EphemeralTopic } from "./meetings.ts";
import type { EphemeralOptions, Topic, TopicOptions } from "./topic.ts";

export { errorCodes, formatLsn, parseLsn, WalcastError } from "../engine/protocol.ts";
export type { ErrorCode, ErrorJson, Lsn, Seed, SeedShape, ShapeRequest } from "../engine/protocol.ts";
export type { ChangeEvent, ChangeType, Channel } from "./channel.ts";
export type { ColumnDescription, ShapeDescription } from "./description.ts";
export type { Token } from "./renewal.ts";
export type { ShapeInspection } from "./inspection.ts";
export type { Delta, LiveInspection, LiveOptions, LiveQuery, LiveStatus } from "./live.ts";
export { rowsOfSeed } from "./seed-rows.ts";
export { askToPersist } from "./storage/persist.ts";
export type { StorageInspection } from "./storage/storage.ts";
export type { Revalidated } from "./revalidations.ts";
export type { EphemeralListener, EphemeralMessage, EphemeralTopic, PresenceChange } from "./meetings.ts";
export type { EphemeralOptions, Topic, TopicListener, TopicMessage, TopicOptions, TopicStart } from "./topic.ts";
export type { Shape, ShapeEvents, ShapeOptions, ShapeProgress, ShapeStatus } from "./shape.ts";

/** A database whose tables nobody described: any table, any column, values unknown. */
export type AnyDatabase = Record<string, Record<string, unknown>>;

/**
 * Creates a client and starts it: it connects at once, and again whenever the connection is lost, until `close`.
 * `Database` is Kysely's: one property per table. Throws `config_invalid`.
 */
export function createClient<Database = AnyDatabase, Name extends string = string>(
  options: ClientOptions<Name>,
): Client<Database, Name> {
  checkOptions(options);
  const { replica } = options;
  return isShared(replica)
    ? createGuest<Database, Name>({ ...options, replica })
    : new WalcastClient<Database, Name>(options);
}

/** All pages of an origin have one storage: they share what is in it. */
function isShared(replica: ClientOptions["replica"]): replica is string {
  return typeof replica === "string" && /^(idb|opfs-ahp):\/\//.test(replica);
}

export interface ClientOptions<Name extends string = string> {
  /** The engine's address: `ws://`, `wss://`, `http://` or `https://`; `/v1/sync` is added. */
  readonly url: string;
  /** Sent when connecting. A function is asked before every connection. */
  readonly token?: Token;
  /**
   * Who the user is, in words of your own, for a replica that lasts. Without it a JWT's `iss` and `sub` say so, or the token
   * itself; and a token function is asked before rows of an earlier visit are shown, which then needs what it needs, a network for
   * instance. Another user's rows are purged.
   */
  readonly subject?: string;
  /**
   * Where the rows live: `"memory://"` (the default) for a PGlite of its own; `"opfs-ahp://name"` for files of the browser's or
   * `"idb://name"` for its IndexedDB; or a directory, in Node, where they outlive the process; or a PGlite of yours, which `close` then leaves open, and on which they last as long as it does. A given PGlite gets the schema `walcast` and the session settings of the server's text formats, and
   * becomes read-only by default: begin with `BEGIN READ WRITE` to write tables of your own.
   */
  readonly replica?: "memory://" | (string & {}) | PGlite;
  /** Shapes that are synchronised from the start; each is found again in `client.shapes`. */
  readonly shapes?: Readonly<Record<Name, ShapeOptions>>;
  /**
   * From `engine.seed()` on the server that rendered the page: the rows that an empty replica begins with. The client goes on from their
   * position: what they hold is not sent again. For the shapes that are asked for in the same words. `rowsOfSeed` reads them before
   * there is a replica.
   */
  readonly seed?: Seed;
  /**
   * Starts the worker that has a replica in the browser's storage, where a bundler does not find it by itself:
   * `() => new Worker(new URL("@walcast/client/worker", import.meta.url), { type: "module" })`.
   */
  readonly worker?: () => Worker;
  /** Reconnecting waits a random time up to `baseMs`·2ⁿ (default 200), at most `maxMs` (default 15,000). */
  readonly backoff?: { readonly baseMs?: number; readonly maxMs?: number };
  /** How long a token function may take, a connection to open, and the server to greet. Default 10,000. */
  readonly openTimeoutMs?: number;
}

/**
 * - `connecting`: an attempt is under way.
 * - `catching-up`: connected; first rows of a shape are on their way, or what happened since the connection before.
 * - `live`: connected, and every shape is complete and as new as the server.
 * - `offline`: not connected; rows can be read, and the next attempt will come.
 * - `closed`: `close` was called.
 */
export type ClientStatus = "offline" | "connecting" | "catching-up" | "live" | "closed";

/** SQL with `$1`… as parameters, or a function that builds a Kysely query. */
export type Queryable<Database, Row> = string | ((db: Kysely<Database>) => Compilable<Row>);

export type ChannelOptions = Omit<ShapeRequest, "table">;

/**
 * The handles of declared shapes, by their names. Where `createClient` is given the type of the database, their names are not
 * inferred as well: then a table's name is taken for one, and another name may be undefined.
 */
export type Shapes<Database, Name extends string> = string extends Name
  ? { readonly [Table in keyof Database & string]: Shape } & { readonly [name: string]: Shape }
  : Readonly<Record<Name, Shape>>;

export interface Client<Database = AnyDatabase, Name extends string = string> {
  /** The handles of the declared shapes. */
  readonly shapes: Shapes<Database, Name>;
  /** Kysely on the replica: reading only. */
  readonly kysely: Kysely<Database>;
  /** The replica itself. Until it is open, where its code is still to come: something whose methods wait for that. */
  readonly pglite: PGlite;
  readonly status: ClientStatus;
  /** What is applied: the commit-end LSN, as Postgres writes it ("0/16B3748"; `parseLsn` makes it comparable). Never goes backwards within one `epoch`. */
  readonly position: string;

  /**
   * Keeps the rows of a table that match on the replica. Shapes of one table share the local table, and need the same
   * columns: `ready` rejects with `config_invalid` otherwise. Throws it for what is no table's name.
   */
  sync(shape: ShapeOptions): Shape;
  /** Resolves when every declared shape is complete; rejects with the first one's error. */
  preload(): Promise<void>;
  /**
   * Runs one SQL statement on the replica, offline too, and returns its rows. Values are decoded as PGlite does it:
   * int8 is a number, or a bigint where that would lose digits; numeric is text; timestamps are Dates. Rejects with
   * `query_failed`: also for an INSERT, UPDATE or DELETE, since rows change through Postgres only.
   */
  query<Row extends object = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
  /**
   * A query that stays current. It may name tables that do not exist yet. Only a transaction that changed one of the
   * tables it reads costs it anything: where each row of the result comes from one row of one table, and the result holds
   * that table's primary key and what it is ordered by, the changed rows are looked up; elsewhere the query runs
   * again. All live queries show the same position, and states in between two transactions never. `coalesce: "frame"` calls
   * back at most once for each animation frame.
   */
  live<Row extends object = Record<string, unknown>>(
    query: Queryable<Database, Row>,
    params?: readonly unknown[],
    options?: LiveOptions,
  ): LiveQuery<Row>;
  /** Changes of a table as events. Starts with `subscribe`. */
  channel<Row extends object = Record<string, unknown>>(table: string, options?: ChannelOptions): Channel<Row>;
  /** Messages that are published under this name, in commit order with the rows. Starts with `subscribe`. Throws `config_invalid`. */
  topic<Payload = unknown>(name: string, options?: TopicOptions): Topic<Payload>;
  /** What is said to those who are here now, and who is here: for cursors and typing. Lossy, and not in the write-ahead log. */
  topic<Payload = unknown>(name: string, options: EphemeralOptions): EphemeralTopic<Payload>;
  /**
   * Called when one of these keys is revalidated: once a commit, with those of them that it named. `table:public.orders` is
   * named by every commit that changes the table. Returns what ends it. `onError`: a key that this token may not listen to.
   */
  onRevalidate(
    keys: readonly string[],
    listener: (revalidated: Revalidated) => void,
    onError?: (error: WalcastError) => void,
  ): () => void;
  /** Called after every change of `status`. Returns what ends it. */
  onStatus(listener: (status: ClientStatus) => void): () => void;
  /**
   * Resolves when the replica is at the position (as text or bigint), or at the commit of the transaction (64 bits, as
   * `pg_current_xact_id()` gives it), and no shape is loading or resyncing: then what it did is in the replica, with the first rows of a
   * shape too. Rejects with `await_timeout` (default 10,000 ms), `transaction_aborted`, `transaction_unknown` or `closed`.
   */
  awaitPosition(
    target: string | bigint | { readonly xid: string | number | bigint },
    options?: { timeoutMs?: number },
  ): Promise<void>;
  /**
   * Another token from now on. An open connection goes on with it; rows that it may not see leave the replica as soon as the
   * server has answered, and what it may see in their place is loaded.
   */
  setToken(token: Token): void;
  /**
   * Connects at once where the client waits before its next attempt, and asks the server whether it is still there where the
   * connection seems open. In a browser the client does that itself on `online`, `pageshow`, `resume` and when the page
   * becomes visible; for what only the application knows of (a message from a native shell, a page that speaks for a worker).
   */
  wake(): void;
  /** What a developer wants to see. Plain data, which an element shows: `@walcast/client/inspector`. */
  inspect(): Inspection;
  /** Ends everything. Leaves no socket and no timer, and no PGlite but a given one. */
  close(): Promise<void>;
}

export interface TransactionTrace {
  readonly position: string;
  /** Local tables it changed. */
  readonly tables: readonly string[];
  /** How many rows of them, at most. Undefined where that is not known: a table was filled or emptied, or very many changed. */
  readonly keys: number | undefined;
  readonly at: Date;
}

export interface Inspection {
  readonly status: ClientStatus;
  readonly position: string;
  /** What the server was last heard to have. */
  readonly serverPosition: string;
  /** The history that positions belong to: changes when the server has another database behind it. */
  readonly epoch: string | undefined;
  /** Connections that were welcomed. */
  readonly connections: number;
  /** Tokens that the server took while a connection was open: renewed ones, and those of `setToken`. */
  readonly authentications: number;
  /** Connections given up because a frame was malformed, missing, or damaged. */
  readonly breaches: number;
  /** Connections that went on where the one before had ended, without a row being sent again. */
  readonly resumes: number;
  /** Resyncs the server asked for. */
  readonly resyncs: number;
  /** Times that rows had to leave at once, because this token may not see them. */
  readonly purges: number;
  /** Complete shapes that had to be loaded again, for whatever reason. A network that fails is none. */
  readonly refetches: number;
  /** Local transactions. */
  readonly transactions: number;
  readonly lastError: ErrorJson | undefined;
  /** Where the rows are kept, and whether what is kept is as new as what is shown. */
  readonly storage: StorageInspection;
  readonly shapes: readonly ShapeInspection[];
  readonly channels: readonly (ShapeRequest & { readonly status: string })[];
  readonly live: readonly LiveInspection[];
  readonly lastTransactions: readonly TransactionTrace[];
  readonly statusHistory: readonly { readonly status: ClientStatus; readonly at: Date }[];
}
