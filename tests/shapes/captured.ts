/** Transactions as a real Postgres streams them, with the description of their tables, for tests of what comes after. */
import { describeTable, findTable } from "../../engine/changes/catalog.ts";
import { prepareDatabase } from "../../engine/changes/setup.ts";
import { Stream } from "../../engine/changes/stream.ts";
import type { Table } from "../../engine/changes/table.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { zeroLsn } from "../../engine/protocol.ts";
import { pino } from "pino";
import { type Releasing, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { stagingDirectory } from "../support/staging.ts";
import { transaction } from "../support/transaction.ts";
import { inTime } from "../support/until.ts";

export interface Capture {
  readonly db: TestDatabase;
  table(name: string, schema?: string): Promise<Table>;
  /** Runs statements as one transaction and gives it as it was streamed. */
  transaction(...statements: readonly string[]): Promise<Transaction>;
  close(): Promise<void>;
}

/** Every table that `schema` makes in `public` is published. */
export async function capture(schema: string): Promise<Capture> {
  const released: (() => Promise<void>)[] = [];
  const releasing: Releasing = { after: (release) => void released.push(release) };
  const db = await testDatabase(releasing);
  const options = { databaseUrl: db.url, publication: "captured", slot: db.name };
  await prepareDatabase({ ...options, log: pino({ level: "silent" }) });
  await db.query(schema);
  const { rows } = await db.query(
    "select string_agg(oid::regclass::text, ', ') as tables from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
  );
  await db.query(`alter publication captured add table ${rows[0].tables}`);
  const streamed: Transaction[] = [];
  let wake = (): void => {};
  const stream = new Stream(
    { ...options, walSenderTimeoutMs: 60_000, recentXid: 700n, stagingDirectory: stagingDirectory(releasing) },
    {
      onTransactions: (transactions) => {
        streamed.push(...transactions);
        wake();
      },
      onQuiet: () => {},
      acknowledged: () => zeroLsn,
      pendingBytes: () => 0,
    },
  );
  const started = Promise.withResolvers<void>();
  const over = stream.run(started.resolve);
  over.catch(started.reject);
  await started.promise;
  return {
    db,
    table: async (name, of = "public") => (await describeTable(db.pool, await findTable(db.pool, of, name)))!,
    async transaction(...statements) {
      const xid = BigInt(await transaction(db, statements));
      for (;;) {
        const found = streamed.find((transaction) => transaction.xid === xid);
        if (found) return found;
        await inTime(new Promise<void>((resolve) => (wake = resolve)), () => `transaction ${xid}`);
      }
    },
    async close() {
      await stream.stop();
      await over;
      for (const release of released) await release();
    },
  };
}
