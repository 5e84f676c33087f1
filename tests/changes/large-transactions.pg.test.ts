/**
 * Transactions that Postgres sends while they run, and what becomes of them. The oracle is Postgres: what another slot
 * gives of the same WAL by protocol 1, which knows whole transactions only, message for message and byte for byte.
 */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import type { PoolClient } from "pg";
import { relationSignature, type Transaction } from "../../engine/changes/transaction.ts";
import { decodeMessage } from "../../engine/changes/pgoutput.ts";
import { Message } from "../../engine/changes/pgoutput-message.ts";
import { formatLsn, type Lsn, parseLsn, zeroLsn } from "../../engine/protocol.ts";
import { Random } from "../splice/random.ts";
import { testDatabase, type TestDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { messagesOf, Streaming, type StreamingOptions } from "./streaming.ts";

const streamedEarly = { logical_decoding_work_mem: "64kB" };
const streamedAtOnce = { debug_logical_replication_streaming: "immediate" };

const variants: readonly (readonly [string, number, StreamingOptions])[] = [
  ["in memory", 250, { settings: streamedEarly }],
  ["in files", 250, { settings: streamedEarly, largeTransactionBytes: 10_000 }],
  ["in memory, each change sent at once", 60, { settings: streamedAtOnce }],
  ["in files, each change sent at once", 60, { settings: streamedAtOnce, largeTransactionBytes: 2_000 }],
];

// With this seed the walsender of 18 cannot read a transaction that runs: what it gives once that has committed is complete.
const unreadable: (typeof variants)[number] = ["where the walsender gives up", 250, { settings: streamedEarly }];
const unreadableSeed = 311_661_899;

for (const variant of [...variants, unreadable]) {
  const [where, steps, options] = variant;
  test(`whatever several writers do comes out as protocol 1 has it: ${where}`, async (t) => {
    const random = variant === unreadable ? new Random(unreadableSeed) : Random.fromEnvironment();
    t.diagnostic(`WALCAST_SEED=${random.seed}`);
    const db = await testDatabase(t);
    if (!(await knows(db, Object.keys(options.settings!)))) return t.skip("this Postgres has no such setting");
    const streaming = new Streaming(db, options);
    await streaming.prepare(tables);
    const oracle = await Oracle.on(db);
    await streaming.start();
    await writeAtRandom(db, random, steps);
    await streaming.caughtUpAtLast();
    await oracle.agreesWith(streaming);
    await streaming.stop();
    const streamed = await streamedTransactions(streaming);
    assert.equal(streamed > 0, await streamsOn(db), "some were sent while they ran");
  });
}

test("two that run beside each other, savepoints rolled back within savepoints, and one given up", async (t) => {
  const db = await testDatabase(t);
  const streaming = new Streaming(db, { settings: streamedEarly });
  await streaming.prepare(tables);
  const oracle = await Oracle.on(db);
  await streaming.start();
  const [one, two, three] = [await db.pool.connect(), await db.pool.connect(), await db.pool.connect()];
  const big = (client: PoolClient, table: string, from: number, text: string): Promise<unknown> =>
    client.query(
      `insert into ${table} select i, '${text}', repeat('x', 200) from generate_series($1::int, $1 + 499) i`,
      [from],
    );
  for (const client of [one, two, three]) await client.query("begin");
  await big(one, "t0", 0, "kept");
  await big(two, "t1", 0, "kept");
  await one.query("savepoint a");
  await big(one, "t0", 1_000, "gone");
  await one.query("savepoint b");
  await big(one, "t0", 2_000, "gone");
  await one.query("release b; savepoint c");
  await big(three, "t2", 0, "gone");
  await big(one, "t0", 3_000, "gone");
  await one.query("rollback to c");
  await big(two, "t1", 1_000, "kept");
  await one.query("rollback to a");
  await big(one, "t0", 4_000, "kept");
  await one.query("update t0 set id = id + 10000 where id < 100; truncate t3");
  await two.query("commit");
  await three.query("rollback");
  await one.query("commit");
  for (const client of [one, two, three]) client.release();
  await streaming.caughtUp();
  await oracle.agreesWith(streaming);
  const texts = (await Promise.all(streaming.transactions.map(messagesOf))).flat().map((bytes) => bytes.toString());
  assert.equal(texts.filter((text) => text.includes("kept")).length, 2_100);
  assert.equal(texts.filter((text) => text.includes("gone")).length, 0);
  assert.deepEqual(await files(streaming), []);
  await streaming.stop();
});

test("what was rolled back to the last row is as nothing, however large it was: whether it is sent is chance", async (t) => {
  const db = await testDatabase(t);
  if (!(await streamsOn(db))) return t.skip("this Postgres sends whole transactions");
  const streaming = new Streaming(db, { settings: streamedEarly, largeTransactionBytes: 10_000 });
  await streaming.prepare(tables);
  await streaming.start();
  const writer = await db.pool.connect();
  await writer.query(
    "begin; savepoint a; insert into t0 select i, 'gone', repeat('x', 200) from generate_series(1, 3000) i",
  );
  await db.query("select pg_logical_emit_message(true, 'test', '')");
  await until(async () => (await files(streaming)).length > 0);
  await writer.query("rollback to a; commit");
  writer.release();
  await db.query("insert into t0 values (1, 'kept', '')");
  await streaming.caughtUp();
  const ofT0 = streaming.transactions.filter(({ relations }) => relations.some(({ name }) => name === "t0"));
  assert.deepEqual(
    streaming.transactions.filter(({ large }) => large),
    [],
  );
  assert.equal(ofT0.length, 1);
  assert.equal((await messagesOf(ofT0[0]!)).length, 1);
  await until(async () => (await files(streaming)).length === 0);
  await streaming.stop();
});

test("a schema change counts if its savepoint does, and rows are described as they are at their place", async (t) => {
  const db = await testDatabase(t);
  const streaming = new Streaming(db, { settings: streamedEarly });
  await streaming.prepare(tables);
  const oracle = await Oracle.on(db);
  await streaming.start();
  const [one, two] = [await db.pool.connect(), await db.pool.connect()];
  const fill = "select i, 'v', repeat('x', 200) from generate_series($1::int, $1 + 499) i";
  for (const client of [one, two]) await client.query("begin");
  await one.query(`insert into t0 (id, v, pad) ${fill}`, [0]);
  await one.query("savepoint a; alter table t0 add column gone int");
  await one.query(`insert into t0 (id, v, pad) ${fill}`, [1_000]);
  await two.query("alter table t1 add column early int");
  await two.query(`insert into t1 (id, v, pad) ${fill}`, [0]);
  await one.query("rollback to a; alter table t0 add column stays int");
  await one.query(`insert into t0 (id, v, pad) ${fill}`, [2_000]);
  await two.query("alter table t1 drop column early");
  await two.query("commit");
  await one.query("commit");
  for (const client of [one, two]) client.release();
  await db.query("insert into t0 (id, v, stays) values (9000, 'after', 1)");
  await streaming.caughtUp();
  await oracle.agreesWith(streaming);
  const [first, second, third] = streaming.transactions.filter(({ relations }) =>
    relations.some(({ schema }) => schema === "public"),
  );
  assert.ok(first!.schemaChanges.length >= 2);
  assert.deepEqual([second!.schemaChanges.length, third!.schemaChanges.length], [1, 0]);
  const ofT0 = second!.relations.filter(({ name }) => name === "t0").map(({ columns }) => columns.at(-1)!.name);
  assert.deepEqual(ofT0, ["pad", "stays"]);
  assert.ok(second!.relations.includes(third!.relations[0]!), "what was said last holds for those that come after");
  await streaming.stop();
});

test("a transaction that is cut off in the middle comes again, whole, although a later position was acknowledged", async (t) => {
  const db = await testDatabase(t);
  if (!(await streamsOn(db))) return t.skip("this Postgres sends whole transactions");
  let acknowledged = zeroLsn;
  const events = { acknowledged: () => acknowledged };
  const streaming = new Streaming(db, { settings: streamedEarly, largeTransactionBytes: 10_000, events });
  await streaming.prepare(tables);
  await streaming.start();
  const writer = await db.pool.connect();
  await writer.query("begin");
  await writer.query("insert into t0 select i, 'first', repeat('x', 200) from generate_series(1, 3000) i");
  const { rows } = await db.query("select pg_current_wal_insert_lsn()::text as lsn");
  await db.query("select pg_logical_emit_message(true, 'test', '')");
  await streaming.quietAt(parseLsn(rows[0].lsn));
  await until(async () => (await files(streaming)).length > 0);
  acknowledged = streaming.quiet;
  streaming.stream!.sendStatus(false);
  await until(async () => (await confirmed(streaming)) === formatLsn(acknowledged));
  await db.query("select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1", [
    streaming.slot,
  ]);
  await assert.rejects(streaming.over);
  assert.deepEqual(await files(streaming), [], "nothing is left of it");

  const again = new Streaming(db, {
    settings: streamedEarly,
    largeTransactionBytes: 10_000,
    directory: streaming.directory,
  });
  await until(async () => !(await streaming.isActive()));
  await again.start();
  await writer.query("insert into t0 select i, 'second', repeat('x', 200) from generate_series(3001, 6000) i");
  await writer.query("commit");
  writer.release();
  await again.caughtUp();
  const whole = again.transactions.find(({ relations }) => relations.length > 0)!;
  assert.equal((await messagesOf(whole)).length, 6_000);
  assert.deepEqual(await files(again), [String(BigInt.asUintN(32, whole.xid))]);
  await again.stop();
});

test("what cannot be taken ends the connection, also where a file was waited for, and nothing behind it is handed on", async (t) => {
  const db = await testDatabase(t);
  let calls = 0;
  const onTransactions = (transactions: readonly Transaction[]): void => {
    if (calls === 0 && transactions.every(({ large }) => !large)) return;
    calls++;
    throw new Error("the log refused it");
  };
  const streaming = new Streaming(db, { largeTransactionBytes: 10_000, events: { onTransactions } });
  await streaming.prepare(tables);
  await streaming.start();
  await db.query("insert into t0 select i, 'one', repeat('x', 200) from generate_series(1, 3000) i");
  await db.query("insert into t0 values (0, 'two', 'x')");
  await assert.rejects(streaming.over, /the log refused it/);
  assert.equal(calls, 1);
});

// ── The oracle ───────────────────────────────────────────────────────────────────────────────────────────────────────

interface Essence {
  readonly commitEnd: string;
  readonly xid: number;
  readonly commitTime: bigint;
  readonly messages: readonly string[];
  readonly relations: readonly string[];
  readonly schemaChanges: readonly string[];
}

/** Another slot on the same WAL, from the same place on. */
class Oracle {
  private readonly db: TestDatabase;
  private readonly slot: string;
  private readonly start: Lsn;

  private constructor(db: TestDatabase, slot: string, start: Lsn) {
    this.db = db;
    this.slot = slot;
    this.start = start;
  }

  static async on(db: TestDatabase): Promise<Oracle> {
    const slot = `o${db.name}`;
    const { rows } = await db.query("select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')", [slot]);
    return new Oracle(db, slot, parseLsn(rows[0].lsn));
  }

  async agreesWith({ transactions }: Streaming): Promise<void> {
    const ours = await Promise.all(transactions.filter(({ commitEnd }) => commitEnd > this.start).map(essenceOf));
    const theirs = await this.transactions();
    // Protocol 1 leaves out what turned out to be empty; that a transaction will, nobody knows while it runs.
    assert.deepEqual(
      ours.filter(({ messages }) => messages.length > 0),
      theirs.filter(({ messages }) => messages.length > 0),
    );
  }

  private async transactions(): Promise<Essence[]> {
    const { rows } = await this.db.query(
      "select data from pg_logical_slot_get_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', 'walcast')",
      [this.slot],
    );
    const read = new OracleReader();
    for (const { data } of rows) read.message(data as Buffer);
    return read.transactions;
  }
}

/** Takes protocol 1 apart in the plainest way. */
class OracleReader {
  readonly transactions: Essence[] = [];
  private readonly said = new Map<number, string>();
  private readonly names = new Map<number, string>();
  private messages: string[] = [];
  private relations = new Set<string>();
  private schemaChanges: string[] = [];
  private xid = 0;

  message(bytes: Buffer): void {
    const message = decodeMessage(bytes, 0, bytes.length, new Message());
    const tag = String.fromCharCode(message.tag);
    if (tag === "B") this.xid = message.xid;
    else if (tag === "C") this.commit(message);
    else if (tag === "R") {
      const { oid, schema, name, columns } = message.relation();
      this.said.set(oid, `${oid} ${name} ${relationSignature(columns)}`);
      this.names.set(oid, `${schema}.${name}`);
    } else if ("IUDT".includes(tag)) this.row(message, tag, bytes);
  }

  private row(message: Message, tag: string, bytes: Buffer): void {
    this.messages.push(bytes.toString("latin1"));
    for (const oid of tag === "T" ? message.relationOids : [message.relationOid])
      this.relations.add(this.said.get(oid)!);
    if (tag === "I" && this.names.get(message.relationOid) === "walcast.schema_changes") this.schemaChanges.push("one");
  }

  private commit(message: Message): void {
    const { messages, relations, schemaChanges, xid } = this;
    const commitEnd = formatLsn(message.endLsn);
    this.transactions.push({
      ...{ commitEnd, xid, commitTime: message.time, messages },
      ...{ relations: [...relations].sort(), schemaChanges },
    });
    this.messages = [];
    this.relations = new Set();
    this.schemaChanges = [];
  }
}

async function essenceOf(transaction: Transaction): Promise<Essence> {
  const { commitEnd, xid, commitTime, relations, schemaChanges } = transaction;
  return {
    commitEnd: formatLsn(commitEnd),
    xid: Number(BigInt.asUintN(32, xid)),
    commitTime,
    messages: (await messagesOf(transaction)).map((bytes) => bytes.toString("latin1")),
    relations: relations.map(({ oid, name, signature }) => `${oid} ${name} ${signature}`).sort(),
    schemaChanges: schemaChanges.map(() => "one"),
  };
}

// ── The workload ─────────────────────────────────────────────────────────────────────────────────────────────────────

const tableNames = ["t0", "t1", "t2", "t3"];
const tables = tableNames
  .map((name, i) => {
    const identity = i % 2 === 0 ? "full" : "default";
    return `create table ${name} (id int primary key, v text, pad text); alter table ${name} replica identity ${identity}`;
  })
  .join(";");

/** One statement after another, each by a writer that chance picks; what a lock forbids rolls its transaction back. */
async function writeAtRandom(db: TestDatabase, random: Random, steps: number): Promise<void> {
  const writers = await Promise.all(tableNames.map(async (own) => new Writer(await db.pool.connect(), random, own)));
  try {
    for (let step = 0; step < steps; step++) await random.pick(writers).step();
    for (const writer of writers) await writer.end();
  } finally {
    for (const { client } of writers) client.release();
  }
}

class Writer {
  readonly client: PoolClient;
  private readonly random: Random;
  private readonly own: string;
  private isOpen = false;
  private savepoints: string[] = [];

  constructor(client: PoolClient, random: Random, own: string) {
    this.client = client;
    this.random = random;
    this.own = own;
  }

  async step(): Promise<void> {
    try {
      if (!this.isOpen) await this.begin();
      else if (this.random.chance(0.12)) await this.end();
      else await this.client.query(this.statement());
    } catch {
      // In the way of another, or of what is there already.
      await this.client.query("rollback");
      this.isOpen = false;
    }
  }

  async end(): Promise<void> {
    if (!this.isOpen) return;
    this.isOpen = false;
    await this.client.query(this.random.chance(0.2) ? "rollback" : "commit");
  }

  private async begin(): Promise<void> {
    await this.client.query("begin; set local lock_timeout = '20ms'");
    this.isOpen = true;
    this.savepoints = [];
  }

  private statement(): string {
    const { random } = this;
    // Seldom another's: most of that ends with a lock that is not to be had.
    const table = random.chance(0.9) ? this.own : random.pick(tableNames);
    const from = random.integer(0, 2_000);
    const choice = random.next();
    if (choice < 0.35) {
      const count = random.chance(0.5) ? random.integer(1, 5) : random.integer(100, 900);
      const rows = `select 1000 * i + ${random.integer(0, 1e6)}, 'v', repeat('${random.integer(0, 9)}', ${random.integer(0, 300)})`;
      return `insert into ${table} (id, v, pad) ${rows} from generate_series(1, ${count}) i on conflict do nothing`;
    }
    if (choice < 0.5) return `update ${table} set v = v || 'u' where id % 1000 < ${from % 300}`;
    if (choice < 0.58)
      return `update ${table} set id = id + 100000000 where id % 1000 < ${from % 50} and id < 1000000000`;
    if (choice < 0.66) return `delete from ${table} where id % 1000 < ${from % 100}`;
    if (choice < 0.8) return this.savepoint();
    if (choice < 0.9 && this.savepoints.length > 0) return this.back();
    if (choice < 0.92) return `truncate ${table}`;
    if (choice < 0.96) return `alter table ${table} add column c${random.integer(0, 1e9)} int`;
    return "select pg_logical_emit_message(true, 'other', repeat('m', 100)), pg_logical_emit_message(false, 'other', 'n')";
  }

  private savepoint(): string {
    const name = `s${this.random.integer(0, 1e9)}`;
    this.savepoints.push(name);
    return `savepoint ${name}`;
  }

  private back(): string {
    const at = this.random.integer(0, this.savepoints.length - 1);
    const name = this.savepoints[at]!;
    const released = this.random.chance(0.4);
    this.savepoints.length = released ? at : at + 1;
    return released ? `release ${name}` : `rollback to ${name}`;
  }
}

// ── What there is ────────────────────────────────────────────────────────────────────────────────────────────────────

async function knows(db: TestDatabase, settings: readonly string[]): Promise<boolean> {
  const { rows } = await db.query("select from pg_settings where name = any($1)", [settings]);
  return rows.length === settings.length;
}

/** Whether this Postgres is asked to send transactions while they run. */
async function streamsOn(db: TestDatabase): Promise<boolean> {
  const { rows } = await db.query("show server_version_num");
  return Number(rows[0].server_version_num) >= 160_000;
}

async function files({ directory }: Streaming): Promise<string[]> {
  return readdir(directory).catch(() => []);
}

async function confirmed({ db, slot }: Streaming): Promise<string> {
  const { rows } = await db.query(
    "select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1",
    [slot],
  );
  return rows[0].lsn;
}

/** How many were sent while they ran, as Postgres counts them. */
async function streamedTransactions({ db, slot }: Streaming): Promise<number> {
  const { rows } = await db.query("select stream_txns::int as n from pg_stat_replication_slots where slot_name = $1", [
    slot,
  ]);
  return rows[0].n;
}
