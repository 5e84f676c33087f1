/** The replication connection on its own: it pools what it is behind with or what comes in a rush, and stays alive when nothing happens. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { readHistory } from "../../engine/changes/history.ts";
import { prepareDatabase } from "../../engine/changes/setup.ts";
import { Message } from "../../engine/changes/pgoutput-message.ts";
import { decodeMessage } from "../../engine/changes/pgoutput.ts";
import { Rush } from "../../engine/changes/rush.ts";
import { Stream } from "../../engine/changes/stream.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { type Lsn, zeroLsn } from "../../engine/protocol.ts";
import { type TestCluster, testCluster, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { stagingDirectory } from "../support/staging.ts";

const slot = "streamed";

/** A stream over the table `notes`, while `use` runs; `received` waits until so many notes were handed on, and gives all. */
async function streaming(
  db: TestCluster | TestDatabase,
  use: (stream: Stream, received: (wanted: number) => Promise<readonly number[]>) => Promise<void>,
  rush = new Rush({ beginsAt: Infinity }),
): Promise<void> {
  const at = { databaseUrl: db.url, slot, publication: "walcast" };
  const { recentXid, walSenderTimeoutMs } = await readHistory(at);
  const notes: number[] = [];
  let end = zeroLsn;
  let heard = Promise.withResolvers<void>();
  const stream = new Stream(
    { ...at, recentXid, walSenderTimeoutMs, stagingDirectory: stagingDirectory(), rush },
    {
      onTransactions: (transactions) => {
        notes.push(...transactions.flatMap(notesOf));
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
  const received = async (wanted: number): Promise<readonly number[]> => {
    for (;;) {
      if (notes.length >= wanted) return notes;
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

function notesOf({ bytes, starts }: Transaction): number[] {
  const message = new Message();
  return starts
    .slice(0, -1)
    .map((start, i) => Number(decodeMessage(bytes, start, starts[i + 1]!, message).new.text(0)));
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

test("a rush is read in pools, and comes whole and in order; a commit after it is read as it comes", async (t) => {
  const db = await testDatabase(t);
  await prepared(db);
  // Whatever else this machine is doing.
  const rush = new Rush({ beginsAt: 1, endsBelow: 1 });
  const use = async (stream: Stream, received: (wanted: number) => Promise<readonly number[]>): Promise<void> => {
    let count = 0;
    const commit = (): Promise<unknown> => db.query("insert into notes values ($1)", [count++]);
    while (!rush.isOn) await commit();
    await received(count);
    const before = stream.pooledReads;
    for (let i = 0; i < 100; i++) await commit();
    const all = Array.from({ length: count }, (_, i) => i);
    assert.deepEqual(await received(count), all);
    assert.ok(stream.pooledReads > before);
    // Longer than the silence that ends it.
    await db.query("select pg_sleep(0.1)");
    const after = stream.pooledReads;
    await commit();
    await received(count);
    assert.equal(stream.pooledReads, after);
  };
  await streaming(db, use, rush);
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
