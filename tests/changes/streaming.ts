/** A Stream for tests of what it hands on: the publication and the slot are made, and the tables come from the test. */
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { pino } from "pino";
import { prepareDatabase } from "../../engine/changes/setup.ts";
import { isDecodingFailure, Stream, type StreamEvents } from "../../engine/changes/stream.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { formatLsn, type Lsn, parseLsn, zeroLsn } from "../../engine/protocol.ts";
import type { TestDatabase } from "../support/postgres.ts";
import { stagingDirectory } from "../support/staging.ts";
import { inTime, until } from "../support/until.ts";

export interface StreamingOptions {
  /** Settings of the walsender alone. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly largeTransactionBytes?: number;
  readonly directory?: string;
  readonly events?: Partial<StreamEvents>;
}

export class Streaming {
  readonly db: TestDatabase;
  readonly directory: string;
  readonly transactions: Transaction[] = [];
  quiet = zeroLsn;
  /** Resolves when the connection has ended, and rejects where it broke. */
  over: Promise<void> = Promise.resolve();
  stream: Stream | undefined;
  private readonly heard = new EventEmitter();
  private readonly options: StreamingOptions;

  constructor(db: TestDatabase, options: StreamingOptions = {}) {
    this.db = db;
    this.options = options;
    this.directory = options.directory ?? stagingDirectory();
  }

  get slot(): string {
    return `s${this.db.name}`;
  }

  /** `tables` are made and published. */
  async prepare(tables: string): Promise<void> {
    const { db, slot } = this;
    await prepareDatabase({ databaseUrl: db.url, publication: "walcast", slot, log: pino({ level: "silent" }) });
    await db.query(tables);
    const { rows } = await db.query("select quote_ident(tablename) as name from pg_tables where schemaname = 'public'");
    await db.query(`alter publication walcast add table ${rows.map(({ name }) => name as string).join(", ")}`);
  }

  async start(committedOnly = false): Promise<void> {
    const { rows } = await this.db.query("select pg_snapshot_xmax(pg_current_snapshot())::text as xid");
    const { wal_sender_timeout: timeout = "60000" } = this.options.settings ?? {};
    const { largeTransactionBytes } = this.options;
    this.stream = new Stream(
      {
        databaseUrl: this.url(),
        slot: this.slot,
        publication: "walcast",
        recentXid: BigInt(rows[0].xid),
        walSenderTimeoutMs: Number(timeout),
        stagingDirectory: this.directory,
        committedOnly,
        ...(largeTransactionBytes === undefined ? {} : { largeTransactionBytes }),
      },
      {
        onTransactions: (transactions) => {
          this.transactions.push(...transactions);
          this.heard.emit("heard");
        },
        onQuiet: (walEnd) => {
          this.quiet = walEnd;
          this.heard.emit("heard");
        },
        acknowledged: () => zeroLsn,
        pendingBytes: () => 0,
        ...this.options.events,
      },
    );
    const started = Promise.withResolvers<void>();
    this.over = this.stream.run(started.resolve);
    this.over.catch(started.reject);
    await started.promise;
  }

  async stop(): Promise<void> {
    await this.stream?.stop();
    await this.over;
  }

  /** Everything that is in the WAL by now has come by. */
  async caughtUp(): Promise<void> {
    // Something has to be written after it, or else nobody says that it is over.
    const { rows } = await this.db.query("select pg_logical_emit_message(true, 'test', '')::text as lsn");
    const end = parseLsn(rows[0].lsn);
    await this.until(
      () => this.transactions.some(({ commitEnd }) => commitEnd > end),
      `a transaction after ${formatLsn(end)}`,
    );
  }

  /** The same, also where the walsender cannot read a transaction that runs: what has committed it can. */
  async caughtUpAtLast(): Promise<void> {
    try {
      await this.caughtUp();
    } catch (error) {
      if (!isDecodingFailure(error)) throw error;
      this.transactions.length = 0;
      // The walsender tells its failure before it lets go of the slot.
      await until(async () => !(await this.isActive()));
      await this.start(true);
      await this.caughtUp();
    }
  }

  async quietAt(position: Lsn): Promise<void> {
    await this.until(() => this.quiet >= position, `a keepalive at ${formatLsn(position)} or later`);
  }

  /** Whether a walsender has the slot. */
  async isActive(): Promise<boolean> {
    const { rows } = await this.db.query("select active from pg_replication_slots where slot_name = $1", [this.slot]);
    return rows[0].active;
  }

  private async until(happened: () => boolean, what: string): Promise<void> {
    const broken = this.over.then(() => assert.fail("the stream ended"));
    broken.catch(() => {});
    while (!happened()) await inTime(Promise.race([once(this.heard, "heard"), broken]), () => what);
  }

  private url(): string {
    const url = new URL(this.db.url);
    const settings = Object.entries(this.options.settings ?? {});
    url.searchParams.set("options", settings.map(([name, value]) => `-c ${name}=${value}`).join(" "));
    return url.href;
  }
}

/** Its messages, wherever they are. */
export async function messagesOf({ bytes, starts, large }: Transaction): Promise<Buffer[]> {
  if (!large) return split(bytes, starts);
  const messages: Buffer[] = [];
  for await (const part of large.parts()) messages.push(...split(part.bytes, part.starts));
  return messages;
}

function split(bytes: Buffer, starts: readonly number[]): Buffer[] {
  return starts.slice(0, -1).map((start, i) => bytes.subarray(start, starts[i + 1]));
}
