/**
 * How every connection to Postgres is opened. A value must have one text form whichever way it came, so the settings
 * that shape text output are pinned for snapshots and for replication alike. They travel as startup options: an
 * `ALTER ROLE … SET DateStyle` has no say.
 * https://www.postgresql.org/docs/current/runtime-config-client.html
 */
import type { Socket } from "node:net";
import pg from "pg";
import type { Logger } from "pino";
import { WalcastError } from "../errors.ts";
import { replicationSocket } from "./replication-socket.ts";

const pinned: Readonly<Record<string, string>> = {
  DateStyle: "ISO,MDY",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  bytea_output: "hex",
  extra_float_digits: "1",
  client_encoding: "UTF8",
  standard_conforming_strings: "on",
  lc_monetary: "C",
  xmloption: "content",
  // What regclass and its like print depends on what is visible without its schema.
  search_path: "pg_catalog",
  // With RLS in force a snapshot would be filtered and the stream would not: fail instead.
  row_security: "off",
};

// A commit of ours must not wait for a standby: others' commits may be held up there, and ours are the way to see past them.
const forQueries = { synchronous_commit: "local" };

export function queryConfig(databaseUrl: string, name: string): pg.ClientConfig {
  return connectionConfig(databaseUrl, name, { ...pinned, ...forQueries });
}

export function replicationConfig(databaseUrl: string, name: string): pg.ClientConfig {
  const config = connectionConfig(databaseUrl, name, pinned);
  // Its type leaves out that the function is given the connection's settings.
  const stream = replicationSocket as () => Socket;
  return { ...config, connectionTimeoutMillis: connectMs, stream };
}

/** As a proxy may whose server is gone, somebody takes the connection, and says nothing. */
const connectMs = 30_000;
/** Where packets go nowhere, nobody answers a goodbye either. */
const goodbyeMs = 1_000;

/** A connection that waits for the other side neither at its beginning nor at its end for ever. */
class Connection extends pg.Client {
  constructor(config?: pg.ClientConfig) {
    super({ ...config, connectionTimeoutMillis: connectMs });
  }

  override end(): Promise<void>;
  override end(onEnd: (error?: Error) => void): void;
  override end(onEnd?: (error?: Error) => void): Promise<void> | void {
    const timer = setTimeout(() => breakOff(this), goodbyeMs);
    const ended = super.end().then(() => clearTimeout(timer));
    return onEnd ? void ended.then(() => onEnd()) : ended;
  }
}

/** Without a goodbye: whatever waits for an answer rejects. */
export function breakOff(client: pg.ClientBase): void {
  (client as pg.Client).connection.stream.destroy();
}

/** For as long as the work takes. Aborted, the connection breaks off, and with it what the work waits for. */
export async function withConnection<T>(
  config: pg.ClientConfig,
  signal: AbortSignal | undefined,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(config, signal);
  try {
    return await unlessAborted(client, signal, () => work(client));
  } finally {
    await client.end();
  }
}

/** Aborted during the work, the connection breaks off. */
export async function unlessAborted<T>(
  client: pg.Client,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const stop = (): void => breakOff(client);
  signal?.addEventListener("abort", stop, { once: true });
  try {
    return await work();
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** An open connection, or `database_unreachable`. Once it breaks, the query that is under way rejects, and so do all later ones. */
export async function connect(config: pg.ClientConfig, signal?: AbortSignal): Promise<pg.Client> {
  const client = new Connection(config);
  client.on("error", () => {});
  try {
    await unlessAborted(client, signal, () => client.connect());
    return client;
  } catch (cause) {
    const { message } = cause as Error;
    throw new WalcastError("database_unreachable", `connect to Postgres: ${message || String(cause)}`, {
      cause,
      hint: "check that Postgres runs and that --database-url (or WALCAST_DATABASE_URL) points at it",
    });
  }
}

/**
 * A connection that breaks is replaced at the next use; queries under way reject by themselves. The pool listens to its idle
 * connections only, and an error that nobody listens to would end the process.
 */
export function openPool(
  databaseUrl: string,
  name: string,
  max: number,
  { log, queryTimeoutMs, prepare }: { log?: Logger; queryTimeoutMs?: number; prepare?: string } = {},
): Pool {
  const timeout = queryTimeoutMs === undefined ? {} : { query_timeout: queryTimeoutMs };
  // Awaited, although its type does not say so, before anybody gets the connection.
  const onConnect = prepare === undefined ? {} : { onConnect: (client: pg.ClientBase) => client.query(prepare) };
  const pool = new Pool({ ...queryConfig(databaseUrl, name), ...timeout, ...onConnect, max });
  pool.on("connect", (client) => client.on("error", (error) => log?.debug({ err: error }, "a connection broke")));
  pool.on("error", () => {});
  return pool;
}

export class Pool extends pg.Pool {
  private readonly open: ReadonlySet<pg.Client>;

  constructor(config: pg.PoolConfig) {
    const open = new Set<pg.Client>();
    super({ ...config, Client: remembered(open) });
    this.open = open;
  }

  /** Who waits for an answer is told that none will come. Whoever asks next does so on a new connection. */
  breakOff(): void {
    this.open.forEach(breakOff);
  }

  /** Resolves when every socket is gone, also of those that nobody answers. */
  async close(): Promise<void> {
    const gone = [...this.open].map((client) => new Promise((resolve) => client.once("end", resolve)));
    const timer = setTimeout(() => this.breakOff(), goodbyeMs);
    void this.end();
    await Promise.all(gone);
    clearTimeout(timer);
  }
}

/** A pool forgets a connection as soon as it says goodbye. */
function remembered(open: Set<pg.Client>): new () => pg.Client {
  return class extends Connection {
    constructor(config?: pg.ClientConfig) {
      super(config);
      open.add(this);
      this.once("end", () => open.delete(this));
    }
  };
}

const keepAliveAfterMs = 10_000;

/** pg would let options in the URL take the place of ours; poolers and hosts need theirs, so ours come after them and win. */
function connectionConfig(
  databaseUrl: string,
  name: string,
  settings: Readonly<Record<string, string>>,
): pg.ClientConfig {
  const url = new URL(databaseUrl);
  const theirs = url.searchParams.get("options") ?? "";
  url.searchParams.delete("options");
  return {
    connectionString: url.href,
    application_name: name,
    options: `${theirs} ${asOptions(settings)}`.trim(),
    keepAlive: true,
    // The system's default is two hours, and a connection whose packets go nowhere is silent for as long.
    keepAliveInitialDelayMillis: keepAliveAfterMs,
  };
}

/** The connection broke or cannot be made, or no answer came in time: nothing is wrong with what was asked, and it may be asked again. */
export function isPostgresAway(error: unknown): boolean {
  const { code = "", message = "" } = error as { code?: string; message?: string };
  return awayCodes.test(code) || awayMessages.test(message);
}

// Connection exceptions, shutting down or starting up, too many connections; and the operating system's names for the same.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const awayCodes =
  /^(08...|57P0[1-35]|53300|ECONN\w+|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN|ENOTFOUND|ENOENT)$/;
// pg has no code for these.
const awayMessages =
  /^(Connection terminated|Client was closed|Client has encountered a connection error|timeout exceeded when trying to connect|timeout expired|Query read timeout)/;

function asOptions(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(" ");
}
