/**
 * The replica's database: a PGlite, from its opening to its closing, and the turns in which it is used. What runs in a turn is in
 * postgres-session.ts. Nobody else is in the middle of something then, so everything but `open` and `close` happens inside `exclusive`.
 */
import type { PGlite } from "@electric-sql/pglite";

import { WalcastError } from "../engine/protocol.ts";
import { claim } from "./claim.ts";
import { Instance } from "./instance.ts";
import { OwnWrites } from "./own-writes.ts";
import { PostgresSession } from "./postgres-session.ts";
import { excerpt } from "./query-errors.ts";
import type { Row } from "./row.ts";
import { decodeRows } from "./rows.ts";
import { replyTags } from "./wire.ts";

/**
 * One text form per value, the same on the server's connections; and nothing but the replica itself writes: an
 * application's INSERT fails with SQLSTATE 25006. https://www.postgresql.org/docs/current/runtime-config-client.html
 */
const settings = {
  DateStyle: "'ISO, MDY'",
  IntervalStyle: "postgres",
  TimeZone: "'UTC'",
  extra_float_digits: "1",
  bytea_output: "hex",
  client_encoding: "'UTF8'",
  client_min_messages: "error",
  default_transaction_read_only: "on",
};

export interface DatabaseHooks {
  /** What is shown could not be stored. */
  troubled(error: WalcastError): void;
  /** Nothing can be read or written any more; what was stored before is there for the next one to open. */
  crashed(error: WalcastError): void;
  /** The application has, into a table of its own; in its turn. Returns what tells of it when the turn is over. */
  wrote(): () => void;
}

const noHooks: DatabaseHooks = { troubled() {}, crashed() {}, wrote: () => () => {} };

export class Database extends PostgresSession {
  /** Where the files are, and how they are stored. */
  readonly instance: Instance;
  private readonly hooks: DatabaseHooks;
  private crash: WalcastError | undefined;
  private admission: PromiseWithResolvers<void> | undefined;
  private ownWrites: OwnWrites | undefined;

  /** An own PGlite, or one that the application has made and will close. */
  constructor(place = claim(), hooks: DatabaseHooks = noHooks) {
    super();
    this.hooks = hooks;
    this.instance = new Instance(place, (error) => hooks.troubled(error));
    this.keepOut();
  }

  get pglite(): PGlite {
    return this.instance.pglite;
  }

  async open(): Promise<void> {
    await this.instance.ready();
    await this.exclusive(() => {
      for (const [name, value] of Object.entries(settings)) this.script(`SET ${name} = ${value}`);
      this.readTypes();
    });
    this.ownWrites = new OwnWrites(this.pglite, {
      writtenUntil: () => this.writtenUntil(),
      wrote: () => this.wrote(),
    });
  }

  /** What it holds may be shown from now on. Until then whoever queries the PGlite itself waits. */
  admit(): void {
    this.admission?.resolve();
    this.admission = undefined;
  }

  /** From its first moment on, but not before: it queries itself to get ready. One that does not get there has nothing to show. */
  private keepOut(): void {
    if (!this.instance.isOwn || this.instance.isFresh) return;
    const { pglite } = this;
    const { promise } = (this.admission = Promise.withResolvers<void>());
    pglite.waitReady.then(() => pglite._runExclusiveTransaction(() => promise)).catch(() => {});
  }

  close(): Promise<void> {
    this.admit();
    this.ownWrites?.close();
    return this.instance.close(() =>
      this.exclusive(() => {
        for (const name of Object.keys(settings)) this.script(`RESET ${name}`);
        this.forgetStatements();
      }),
    );
  }

  // ── Turns ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Waits for its turn among everything that uses this PGlite, the application's own `pglite.query` and
   * `pglite.transaction` included (`runExclusive` alone would slip between the queries of a transaction).
   */
  async exclusive<T>(work: () => T | Promise<T>): Promise<T> {
    const query = (): Promise<T> => this.pglite._runExclusiveQuery(async () => work());
    if (this.admission) return query();
    return this.ownWrites ? this.ownWrites.unwatched(query) : this.pglite._runExclusiveTransaction(query);
  }

  /** A turn that lasts until what it resolves with is called. */
  hold(): Promise<() => void> {
    return new Promise((resolve, reject) => {
      this.exclusive(() => new Promise<void>((release) => resolve(release))).catch(reject);
    });
  }

  /** One query of an application, in its own turn. */
  select(sql: string, params: readonly unknown[]): Promise<Row[]> {
    return this.exclusive(() => {
      const result = this.query(sql, params);
      if (this.endStray(result))
        throw new WalcastError("query_failed", `run ${excerpt(sql)}: a transaction cannot span queries`, {
          hint: "Use client.kysely.transaction().",
        });
      return decodeRows(result, this.arrayTypes);
    });
  }

  /** What PGlite stores after a query it does not store after a transaction. */
  private async wrote(): Promise<() => void> {
    const tell = this.hooks.wrote();
    await this.instance.committed();
    return tell;
  }

  private writtenUntil(): string | undefined {
    try {
      return this.texts("SELECT pg_snapshot_xmax(pg_current_snapshot()) AS xid")[0]!["xid"] ?? undefined;
    } catch (error) {
      if (error instanceof WalcastError) return undefined;
      throw error;
    }
  }

  // ── What the session says ──────────────────────────────────────────────────────────────────────────────────────────

  protected override roundTrip(messages: Uint8Array): Uint8Array {
    // It would never answer again: each of its steps fails, and is followed by the next.
    if (this.crash) throw this.crash;
    const chunks: Uint8Array[] = [];
    // The stream form, because execProtocolRaw parses every reply as well and keeps the parsed ones for ever. It runs
    // to its end before it returns its promise, which only reports; an in-memory replica has no file system to sync.
    this.pglite
      .execProtocolRawStream(messages, { syncToFs: false, onRawData: (chunk) => void chunks.push(chunk.slice()) })
      .catch(() => {});
    const bytes = joined(chunks);
    // Whatever happens inside Postgres, it ends by saying that it is ready; if not, PGlite itself has failed.
    if (bytes.at(-6) !== replyTags.ready) throw this.crashed();
    return bytes;
  }

  /** A given one may only have been closed. */
  private crashed(): WalcastError {
    const error = new WalcastError(
      "replica_failed",
      "run SQL on the replica: PGlite gave no complete answer; it is closed or has crashed",
    );
    if (!this.instance.isOwn) return error;
    this.crash = error;
    this.hooks.crashed(error);
    return error;
  }
}

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  if (chunks.length === 1) return chunks[0]!;
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
