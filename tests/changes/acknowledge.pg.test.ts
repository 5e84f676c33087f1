/** What the stream acknowledges, to the byte: a commit record may start exactly where the one before it ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Client } from "pg";
import { pino } from "pino";
import { readHistory } from "../../engine/changes/history.ts";
import { prepareDatabase } from "../../engine/changes/setup.ts";
import { Stream } from "../../engine/changes/stream.ts";
import type { Transaction } from "../../engine/changes/transaction.ts";
import { formatLsn, type Lsn, zeroLsn } from "../../engine/protocol.ts";
import { testDatabase, type TestDatabase } from "../support/postgres.ts";
import { stagingDirectory } from "../support/staging.ts";

test("of two commits without a byte between them, the second is sent again exactly if it was not acknowledged", async (t) => {
  const db = await testDatabase(t);
  await db.query("create table notes (id int primary key)");
  const slot = `s${db.name}`;
  await prepareDatabase({ databaseUrl: db.url, publication: "walcast", slot, log: pino({ level: "silent" }) });
  await db.query("alter publication walcast add table notes");

  const { first, second } = await adjacentCommits(db, slot);
  const before = await receive(db, slot, 2, () => zeroLsn);
  assert.deepEqual(
    before.transactions.map(({ xid }) => xid),
    [first, second],
  );

  // Acknowledged as it comes: up to the first and not a byte further.
  const middle = before.transactions[0]!.commitEnd;
  await receive(db, slot, 2, () => middle);
  assert.equal(await confirmed(db, slot), formatLsn(middle));
  const again = await receive(db, slot, 1, () => middle);
  assert.deepEqual(
    again.transactions.map(({ xid }) => xid),
    [second],
    "the first is not sent again, and the second is",
  );

  const end = again.transactions[0]!.commitEnd;
  await receive(db, slot, 1, () => end);
  assert.equal(await confirmed(db, slot), formatLsn(end));
  const { rows } = await db.query("insert into notes values (1000) returning pg_current_xact_id()::text as xid");
  const next = await receive(db, slot, 1, () => end);
  assert.deepEqual(
    next.transactions.map(({ xid }) => String(xid)),
    [rows[0].xid],
    "neither of them is sent again",
  );
});

/** Two transactions whose commit records touch, with nothing before them in the slot. */
async function adjacentCommits(db: TestDatabase, slot: string): Promise<{ first: bigint; second: bigint }> {
  const [one, other] = [await db.pool.connect(), await db.pool.connect()];
  try {
    // Others write to the same log, a checkpoint's note for instance: it is tried until nothing came between.
    for (let id = 1; ; id += 2) {
      const written = [await write(one, id), await write(other, id + 1)];
      await Promise.all([one.query("commit"), other.query("commit")]);
      const xids = await touching(db, slot);
      // Either may have been the first to commit.
      const [first, second] = written.toSorted((a, b) => xids.indexOf(Number(a)) - xids.indexOf(Number(b)));
      if (xids.length === 2) return { first: first!, second: second! };
      await db.query("select pg_replication_slot_advance($1, pg_current_wal_lsn())", [slot]);
    }
  } finally {
    one.release();
    other.release();
  }
}

async function write(client: Pick<Client, "query">, id: number): Promise<bigint> {
  await client.query("begin");
  await client.query("insert into notes values ($1)", [id]);
  const { rows } = await client.query<{ xid: string }>("select pg_current_xact_id()::text as xid");
  return BigInt(rows[0]!.xid);
}

/** The xids of the two transactions, if they touch: Begin says where the commit record starts, Commit where it ends. */
async function touching(db: TestDatabase, slot: string): Promise<number[]> {
  const { rows } = await db.query(
    "select data from pg_logical_slot_peek_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', 'walcast')",
    [slot],
  );
  const messages = rows.map(({ data }) => data as Buffer);
  const begins = messages.filter(([tag]) => tag === 0x42);
  const ends = messages.filter(([tag]) => tag === 0x43).map((message) => message.readBigUInt64BE(10));
  const touch = begins.length === 2 && begins[1]!.readBigUInt64BE(1) === ends[0];
  return touch ? begins.map((begin) => begin.readUInt32BE(17)) : [];
}

/** Streams until so many transactions have come, acknowledges, and hangs up. */
async function receive(
  db: TestDatabase,
  slot: string,
  count: number,
  acknowledged: () => Lsn,
): Promise<{ transactions: Transaction[] }> {
  const { recentXid, walSenderTimeoutMs } = await readHistory({ databaseUrl: db.url, slot, publication: "walcast" });
  const transactions: Transaction[] = [];
  const stream = new Stream(
    {
      databaseUrl: db.url,
      slot,
      publication: "walcast",
      walSenderTimeoutMs,
      recentXid,
      stagingDirectory: stagingDirectory(),
    },
    {
      onTransactions: (received) => {
        transactions.push(...received);
        if (transactions.length >= count) void stream.stop();
      },
      onQuiet: () => {},
      acknowledged,
      pendingBytes: () => 0,
    },
  );
  await stream.run(() => {});
  return { transactions };
}

async function confirmed(db: TestDatabase, slot: string): Promise<string> {
  // The walsender reads what was sent to it to the end before it lets go of the slot.
  for (;;) {
    const { rows } = await db.query(
      "select active, confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1",
      [slot],
    );
    if (!rows[0].active) return rows[0].lsn;
  }
}
