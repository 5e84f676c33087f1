/**
 * The replica's Postgres session: PGlite through its raw protocol, with prepared statements that are kept. Reading
 * through here is 4 to 7 times faster than `pglite.query`, which parses every reply itself.
 *
 * Everything but `open` and `close` happens inside `exclusive`, where nobody else is in the middle of something; what
 * runs there is synchronous, so what a caller reads in one turn belongs to one state of the data.
 */
import type { PGlite } from "@electric-sql/pglite";

import { WalcastError } from "../engine/protocol.ts";
import { attempt } from "./attempt.ts";
import { claim } from "./claim.ts";
import { Instance } from "./instance.ts";
import { OwnWrites } from "./own-writes.ts";
import { excerpt, failed, isStalePlan } from "./query-errors.ts";
import { described, endOfFirst, resultsOf, rowsCopied } from "./replies.ts";
import type { Row } from "./row.ts";
import { decodeRows, type RawResult } from "./rows.ts";
import type { StorageInspection } from "./storage/storage.ts";
import { type Statement, Statements } from "./statements.ts";
import type { ArrayTypes } from "./decoders.ts";
import { encodeParameter } from "./values.ts";
import { findError, findNotice, Messages, readTransactionStatus, Replies, replyTags } from "./wire.ts";

/** A statement and the values for one run of it, in text form. */
export interface Run {
  readonly sql: string;
  readonly values: readonly (string | null)[];
  /** pg_type.oid, for parameters whose type does not show. */
  readonly parameterTypes?: readonly number[];
  /** Postgres finds by itself that one plan is right for all values. */
  readonly isPlannedOnce?: boolean;
}

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

/**
 * Of the transaction that it begins. What comes up to a Sync is one transaction by itself, which is over with it, or undone where something
 * fails: 5 to 10 % less work than with BEGIN and COMMIT, which are statements too.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
 */
const readWrite: Run = { sql: "SET transaction_read_only = off", values: [] };

const genericPlans: Run = { sql: "SET plan_cache_mode = force_generic_plan", values: [] };
const ownPlans: Run = { sql: "RESET plan_cache_mode", values: [] };

// A result's format code. https://www.postgresql.org/docs/current/protocol-message-formats.html
const BINARY = 1;

// Around rows: a tag and a length; and what ends them, with its COMMIT.
const COPY_HEAD_BYTES = 5;
const COPY_END_BYTES = 64;

export interface DatabaseHooks {
  /** What is shown could not be stored. */
  troubled(error: WalcastError): void;
  /** Nothing can be read or written any more; what was stored before is there for the next one to open. */
  crashed(error: WalcastError): void;
  /** The application has, into a table of its own; in its turn. Returns what tells of it when the turn is over. */
  wrote(): () => void;
}

const noHooks: DatabaseHooks = { troubled() {}, crashed() {}, wrote: () => () => {} };

export class Database {
  private readonly hooks: DatabaseHooks;
  private crash: WalcastError | undefined;
  private admission: PromiseWithResolvers<void> | undefined;
  private readonly instance: Instance;
  private ownWrites: OwnWrites | undefined;
  private readonly messages = new Messages();
  /** What was looked up behind the last transaction, until anything else is done. */
  private lookedUp: { readonly runs: readonly Run[]; readonly results: RawResult[] } | undefined;
  private readonly statements = new Statements();
  private readonly arrays = new Map<number, number>();
  private readonly labels = new Map<number, ReadonlyMap<string, number>>();

  /** An own PGlite, or one that the application has made and will close. */
  constructor(place = claim(), hooks: DatabaseHooks = noHooks) {
    this.hooks = hooks;
    this.instance = new Instance(place, (error) => hooks.troubled(error));
    this.keepOut();
  }

  get pglite(): PGlite {
    return this.instance.pglite;
  }

  /** Why what was in its storage could not be opened. */
  get damage(): string | undefined {
    return this.instance.damage;
  }

  /** Nothing of an earlier process can be in it. */
  get isFresh(): boolean {
    return this.instance.isFresh;
  }

  /** Nobody but the client and its application has anything in it. */
  get isOwn(): boolean {
    return this.instance.isOwn;
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
    if (!this.instance.isOwn || this.isFresh) return;
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
        this.closeStatements();
      }),
    );
  }

  get arrayTypes(): ArrayTypes {
    return this.arrays;
  }

  /** Where each label stands in its type's order, by pg_type.oid. */
  get enumLabels(): ReadonlyMap<number, ReadonlyMap<string, number>> {
    return this.labels;
  }

  /**
   * Waits for its turn among everything that uses this PGlite, the application's own `pglite.query` and
   * `pglite.transaction` included (`runExclusive` alone would slip between the queries of a transaction).
   */
  async exclusive<T>(work: () => T | Promise<T>): Promise<T> {
    const query = (): Promise<T> => this.pglite._runExclusiveQuery(async () => work());
    if (this.admission) return query();
    return this.ownWrites ? this.ownWrites.unwatched(query) : this.pglite._runExclusiveTransaction(query);
  }

  /** What PGlite stores after a query it does not store after a transaction. */
  private async wrote(): Promise<() => void> {
    const tell = this.hooks.wrote();
    await this.committed();
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

  /** Before a turn that writes: a promise for when there is room for it; undefined where there is. */
  hasRoom(): Promise<void> | undefined {
    return this.instance.hasRoom();
  }

  /** Between local transactions, so rows and position are stored together. */
  committed(): Promise<void> {
    return this.instance.committed();
  }

  /** Resolves when what was committed until now outlives this process; rejects where there is no room for it. */
  flush(): Promise<void> {
    return this.instance.flush();
  }

  /** Where the files are, and whether they are as new as what is shown. */
  inspect(): StorageInspection {
    return this.instance.inspect();
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
      const leftOpen = this.rollbackStray(result);
      if (leftOpen)
        throw new WalcastError("query_failed", `run ${excerpt(sql)}: a transaction cannot span queries`, {
          hint: "Use client.kysely.transaction().",
        });
      return decodeRows(result, this.arrays);
    });
  }

  /** Sends messages, returns all replies. Errors are among the replies. */
  exec(messages: Messages): Uint8Array {
    // It would never answer again: each of its steps fails, and is followed by the next.
    if (this.crash) throw this.crash;
    this.lookedUp = undefined;
    const chunks: Uint8Array[] = [];
    // The stream form, because execProtocolRaw parses every reply as well and keeps the parsed ones for ever. It runs
    // to its end before it returns its promise, which only reports; an in-memory replica has no file system to sync.
    this.pglite
      .execProtocolRawStream(messages.take(), {
        syncToFs: false,
        onRawData: (chunk) => void chunks.push(chunk.slice()),
      })
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

  /** Statements without parameters; throws `replica_failed`. */
  script(sql: string): void {
    this.check(this.exec(this.messages.query(sql)), sql);
  }

  /** Runs `work` in one local transaction, which is rolled back if it throws. */
  transaction(work: () => void): void {
    this.script("BEGIN READ WRITE");
    try {
      work();
      this.script("COMMIT");
    } catch (error) {
      this.exec(this.messages.query("ROLLBACK"));
      throw error;
    }
  }

  /** One after another, inside a transaction. */
  runAll(runs: readonly Run[]): void {
    for (const { sql, values } of runs) this.run(this.prepare(sql), values);
  }

  /** Runs `work` in one read-only transaction, planning `sql` afresh: a kept plan could fail in its middle. */
  readOnly<T>(sql: string, work: () => T): T {
    this.forget(sql);
    this.script("BEGIN READ ONLY");
    try {
      return work();
    } finally {
      this.script("COMMIT");
    }
  }

  /** COPY text lines into a table, in a transaction of their own. One buffer holds it all, since PGlite reads the data synchronously. Returns how many rows they were. */
  copy(table: string, columns: string, lines: readonly Uint8Array[], options = ""): number {
    const sql = `COPY ${table} (${columns}) FROM STDIN ${options}`;
    this.messages.query("BEGIN READ WRITE").query(sql);
    this.messages.reserve(lines.reduce((sum, { length }) => sum + length + COPY_HEAD_BYTES, COPY_END_BYTES));
    for (const part of lines) this.messages.copyData(part);
    this.messages.copyDone().query("COMMIT");
    const replies = this.exec(this.messages);
    this.check(replies, sql);
    return rowsCopied(replies);
  }

  /** COPY text lines into a table, inside a transaction, which goes on where they cannot be added. False: none of them was. */
  copyOrNothing(table: string, columns: string, lines: Uint8Array): boolean {
    this.messages.reserve(lines.length + COPY_HEAD_BYTES + COPY_END_BYTES);
    this.messages.query("SAVEPOINT walcast").query(`COPY ${table} (${columns}) FROM STDIN`).copyData(lines).copyDone();
    if (!findError(this.exec(this.messages.query("RELEASE walcast")))) return true;
    this.script("ROLLBACK TO walcast; RELEASE walcast");
    return false;
  }

  /** Parses and describes a statement once. */
  prepare(sql: string, parameterTypes: readonly number[] = []): Statement {
    const kept = this.statements.get(sql);
    if (kept) return kept;
    const name = this.statements.nextName();
    const bytes = this.exec(this.messages.parse(name, sql, parameterTypes).describeStatement(name).sync());
    const statement = { name, sql, ...described(bytes, sql) };
    const oldest = this.statements.add(statement);
    if (oldest) this.exec(this.messages.closeStatement(oldest.name).sync());
    return statement;
  }

  /** Runs a prepared statement with values in text form. */
  run(statement: Statement, values: readonly (string | null)[]): RawResult {
    const bytes = this.exec(this.messages.run(statement.name, values).sync());
    this.check(bytes, statement.sql);
    return { bytes, statement };
  }

  /** A statement that will not come again. */
  runOnce(sql: string, values: readonly (string | null)[] = []): void {
    this.check(this.exec(this.messages.parse("", sql).run("", values).sync()), sql);
  }

  /** Prepares and runs; parameters as JavaScript values. */
  query(sql: string, params: readonly unknown[]): RawResult {
    return this.retrying(sql, () => {
      const statement = this.prepare(sql);
      return this.run(statement, this.encode(statement, params));
    });
  }

  rows(sql: string, params: readonly unknown[] = []): Row[] {
    return decodeRows(this.query(sql, params), this.arrays);
  }

  /** Every value as Postgres writes it. Not what a cast to text gives: that trims character(n) and spells out booleans. */
  texts(sql: string, params: readonly unknown[] = []): Record<string, string | null>[] {
    const { bytes, statement } = this.query(sql, params);
    const columns = statement.columns.map((column) => ({ ...column, typeOid: 0 }));
    return decodeRows({ bytes, statement: { ...statement, columns } }, this.arrays) as Record<string, string | null>[];
  }

  /** The one value of a bytea column, as bytes: in text form it would be twice as long. */
  bytes(sql: string, values: readonly string[]): Uint8Array {
    const statement = this.prepare(sql);
    const replied = this.exec(this.messages.run(statement.name, values, BINARY).sync());
    this.check(replied, sql);
    const replies = new Replies(replied);
    while (replies.next()) {
      if (replies.tag !== replyTags.dataRow) continue;
      // Behind the count of columns and the value's own length.
      return replied.subarray(replies.start + 6, replies.end);
    }
    throw new WalcastError("invariant", `run ${excerpt(sql)}: expected a row, found none`);
  }

  /** Parameters in text form. Throws `query_failed` where their number is another one. */
  encode(statement: Statement, params: readonly unknown[]): (string | null)[] {
    const { parameterTypes, sql } = statement;
    if (params.length !== parameterTypes.length) {
      throw new WalcastError(
        "query_failed",
        `run ${excerpt(sql)}: expected ${parameterTypes.length} parameters, found ${params.length}`,
      );
    }
    return params.map((value, i) => encodeParameter(value, parameterTypes[i]!, this.arrays));
  }

  /** Several queries in one round trip. Undefined if one of them failed. */
  together(runs: readonly Run[]): RawResult[] | undefined {
    const statements = runs.map(({ sql, parameterTypes }) => this.prepare(sql, parameterTypes));
    const bytes = this.exec(this.runEach(statements, runs).sync());
    return findError(bytes) ? undefined : resultsOf(statements, bytes);
  }

  /** The same by plans that are made once: right for looking up keys; for anything else Postgres may prefer to plan for the values of each run. */
  lookUps(runs: readonly Run[]): RawResult[] | undefined {
    if (this.lookedUp?.runs === runs) return this.lookedUp.results;
    if (runs.every(({ isPlannedOnce }) => isPlannedOnce)) return this.together(runs);
    return this.together([genericPlans, ...runs, ownPlans])?.slice(1, -1);
  }

  /** What Postgres makes of a query, as it writes node trees. Inside a transaction. */
  parseTree(sql: string, parameterTypes: readonly number[]): string {
    this.script("SET LOCAL client_min_messages = log; SET LOCAL debug_print_parse = on");
    const bytes = this.exec(this.messages.parse("", sql, parameterTypes).sync());
    this.script("SET LOCAL debug_print_parse = off; SET LOCAL client_min_messages = error");
    this.check(bytes, sql);
    return findNotice(bytes)?.detail ?? "";
  }

  /**
   * Several runs in one round trip, all or nothing, in a transaction of their own. Throws `replica_failed`. Behind it, in the same
   * round trip, what `lookUps` is going to be asked for next; where that fails, it is asked for again.
   */
  pipeline(runs: readonly Run[], next: readonly Run[] = []): void {
    // Preparing is a round trip of its own, and may let go of a statement that was prepared before: so all of it comes before the
    // first run, and what may fail before what must not.
    const statements = this.prepareAll(next);
    const all = [readWrite, ...runs];
    const own = all.map(({ sql }) => this.prepare(sql));
    this.runEach(own, all).sync();
    if (statements) this.runEach(statements, next).sync();
    const bytes = this.exec(this.messages);
    const end = endOfFirst(bytes);
    const error = findError(bytes.subarray(0, end));
    if (!error) return statements && this.noteLookedUp(next, statements, bytes.subarray(end));
    throw failed("replica_failed", "apply a transaction", error);
  }

  private noteLookedUp(runs: readonly Run[], statements: readonly Statement[], bytes: Uint8Array): void {
    if (!findError(bytes)) this.lookedUp = { runs, results: resultsOf(statements, bytes) };
  }

  /** Undefined for none, and where one of them cannot be. */
  private prepareAll(runs: readonly Run[]): Statement[] | undefined {
    if (runs.length === 0) return undefined;
    return attempt(() => runs.map(({ sql, parameterTypes }) => this.prepare(sql, parameterTypes)));
  }

  private runEach(statements: readonly Statement[], runs: readonly Run[]): Messages {
    runs.forEach(({ values }, i) => this.messages.run(statements[i]!.name, values));
    return this.messages;
  }

  /** Statements refer to tables by name and survive their replacement, but not a change of their columns' types. */
  forgetStatements(): void {
    this.closeStatements();
    this.statements.clear();
  }

  private closeStatements(): void {
    for (const name of this.statements.names) this.messages.closeStatement(name);
    this.exec(this.messages.sync());
  }

  /** Array types and enums, as they are now. */
  readTypes(): void {
    const sql = `
      SELECT oid, typelem, NULL::json AS labels FROM pg_type WHERE typcategory = 'A' AND typelem <> 0
      UNION ALL SELECT enumtypid, 0, json_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum GROUP BY enumtypid`;
    for (const { oid, typelem, labels } of this.rows(sql)) {
      if (labels) this.labels.set(Number(oid), new Map((labels as string[]).map((label, rank) => [label, rank])));
      else this.arrays.set(Number(oid), Number(typelem));
    }
  }

  /** Leaves no transaction open that an application began by itself. True if there was one. */
  private rollbackStray(result: RawResult): boolean {
    const replies = new Replies(result.bytes);
    let status = "I";
    while (replies.next()) if (replies.tag === replyTags.ready) status = readTransactionStatus(replies);
    if (status !== "I") this.exec(this.messages.query("ROLLBACK"));
    return status !== "I";
  }

  private retrying<T>(sql: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!isStalePlan(error)) throw error;
      this.forget(sql);
      return work();
    }
  }

  private forget(sql: string): void {
    const statement = this.statements.take(sql);
    if (statement) this.exec(this.messages.closeStatement(statement.name).sync());
  }

  private check(bytes: Uint8Array, sql: string): void {
    const error = findError(bytes);
    if (error) throw failed("query_failed", `run ${excerpt(sql)}`, error);
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
