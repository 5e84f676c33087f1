/** The replication connection on its own: it pools what it is behind with, and stays alive when nothing happens. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { readHistory } from "../../engine/changes/history.ts";
import { prepareDatabase } from "../../engine/changes/setup.ts";
import { Stream } from "../../engine/changes/stream.ts";
import { type Lsn, zeroLsn } from "../../engine/protocol.ts";
import { type TestCluster, testCluster, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { stagingDirectory } from "../support/staging.ts";

const slot = "streamed";

/** A stream over the table `notes`, while `use` runs; `received` waits until so many transactions were handed on. */
async function streaming(
  db: TestCluster | TestDatabase,
  use: (stream: Stream, received: (wanted: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  const at = { databaseUrl: db.url, slot, publication: "walcast" };
  const { recentXid, walSenderTimeoutMs } = await readHistory(at);
  let count = 0;
  let end = zeroLsn;
  let heard = Promise.withResolvers<void>();
  const stream = new Stream(
    { ...at, recentXid, walSenderTimeoutMs, stagingDirectory: stagingDirectory() },
    {
      onTransactions: (transactions) => {
        count += transactions.length;
        end = transactions.at(-1)!.commitEnd;
        heard.resolve();
        heard = Promise.withResolvers();
      },
      onQuiet: () => {},
      acknowledged: (): Lsn => end,
      pendingBytes: () => 0,
    },
  );
  const started = Promise.withResolvers<void>();
  const over = stream.run(() => started.resolve());
  await started.promise;
  const received = async (wanted: number): Promise<void> => {
    for (;;) {
      if (count >= wanted) return;
      await heard.promise;
    }
  };
  try {
    await use(stream, received);
  } finally {
    await stream.stop();
    await over;
    await db.query(
      "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1 and active",
      [slot],
    );
    await db.query("select pg_drop_replication_slot($1)", [slot]);
  }
}

async function prepared(db: TestCluster | TestDatabase): Promise<void> {
  await prepareDatabase({ databaseUrl: db.url, publication: "walcast", slot, log: pino({ level: "silent" }) });
  await db.query("create table notes (id int primary key)");
  await db.query("alter publication walcast add table notes");
}

test("a backlog is read in pools, and all of it comes", async (t) => {
  const db = await testDatabase(t);
  await prepared(db);
  const commits = 3_000;
  await db.query(`do $$ begin for i in 1..${commits} loop insert into notes values (i); commit; end loop; end $$`);
  await streaming(db, async (stream, received) => {
    await received(commits);
    assert(stream.pooledReads > 0, `some of ${stream.reads} reads waited for more`);
  });
});

test("an idle connection outlives wal_sender_timeout several times over", async (t) => {
  const cluster = await testCluster({ wal_sender_timeout: "2s" }, t);
  await prepared(cluster);
  await streaming(cluster, async (_, received) => {
    const first = await sender(cluster);
    await cluster.query("select pg_sleep(7)");
    assert.equal(await sender(cluster), first);
    await cluster.query("insert into notes values (1)");
    await received(1);
  });
});

/** The walsender's process. */
async function sender(cluster: TestCluster): Promise<number> {
  return (await cluster.query("select pid from pg_stat_replication")).rows[0].pid as number;
}
