/**
 * The promise, under everything that makes snapshots and streams disagree. Four writers go on at full rate through all
 * of it; every state that any client shows is checked against the totals that each transaction conserves; and in the end
 * every shape is held against Postgres. WALCAST_SEED runs one seed again.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Client } from "pg";
import { RawClient, type RawShape } from "../support/raw-client.ts";
import type { Releasing } from "../support/postgres.ts";
import { type LeftOff, RawClient as SocketClient } from "../sockets/raw-client.ts";
import { until } from "../support/until.ts";
import type { Audience } from "./audience.ts";
import { createTable, reserved } from "./bank.ts";
import { Hold } from "./hold.ts";
import type { Load } from "./load.ts";
import { Stage } from "./stage.ts";

const stage = new Stage();
const { audience, random } = stage;
let db: Client;
let load: Load;
/** Somebody who was there before anything happened. */
let witness: Awaited<ReturnType<Audience["joinWithTotals"]>>;

before(async () => {
  await stage.open();
  ({ db, load } = stage);
  witness = await audience.joinWithTotals();
});

after(() => stage.close());

test("subscriptions at random instants of a full load", async () => {
  for (let i = 0; i < 6; i++) {
    const client = await audience.join();
    for (let j = 0; j < 3; j++) {
      audience.subscribeAtRandom(client);
      await load.after(random.integer(1, 30));
    }
  }
  await audience.joinWithTotals();
  await load.after(100);
  await allReady();
});

test("transactions that stay open across subscriptions are in neither part twice nor missing", async (t) => {
  const open = await openTransactions(t, 3, "ledger");
  const before = await subscribers(3);
  await ready(before); // Nobody waits for them.
  await open[0]!.query("commit");
  const between = await subscribers(3);
  await open[1]!.query("rollback");
  await ready(between);
  await open[2]!.query("commit");
  await load.after(100);
});

test("commits that are streamed before they are visible are shown once, and from then on", async (t) => {
  const hold = await Hold.begin(t, stage.cluster.url);
  const [first, second] = [reserved.from + 1, reserved.from + 2];
  const { xid, isHeld } = await hold.commit(
    `select transfer('ledger', ${first}, 'ledger', ${second}, 77)`,
    `select transfer('accounts', ${reserved.from}, 'vault', ${reserved.from}, 5)`,
  );
  assert(isHeld, "the commit waits for its standby");
  await witness.client.until(() => witness.ledger.xids.has(xid), "the held commit streams by");
  assert.equal(witness.ledger.value(String(first), "balance"), "923", "it is streamed");
  assert.equal(await balanceOf("ledger", first), "1000", "and SELECT does not show it");

  const during = await subscribers(6);
  await load.after(50);
  await ready(during);
  const newcomer = await audience.joinWithTotals();
  await ready([newcomer.ledger, newcomer.accounts, newcomer.vault]);
  assert.equal(
    newcomer.ledger.value(String(first), "balance"),
    "923",
    "whoever comes while it is invisible shows it too",
  );
  assert((await hold.count()) > 0, "commits were held up all the while");
  assert.equal(await balanceOf("ledger", first), "1000");

  await hold.release();
  assert.equal(await balanceOf("ledger", first), "923");
  await ready(await subscribers(3));
  await load.after(100);
});

test("TRUNCATE and refill in one transaction, while shapes load", async (t) => {
  const refilling = await stage.connect(t);
  await refilling.query("begin; lock table ledger in access exclusive mode");
  // Long enough that the transaction leaves in several frames, of which only the last may show anything.
  await refilling.query(
    "update ledger set touches = touches + 1, note = (select string_agg(md5(n::text), '') from generate_series(1, 120) n)",
  );
  await refilling.query("select refill('ledger')");
  const shapes = [...(await subscribers(2)), (await audience.joinWithTotals()).ledger];
  await snapshotsWaitFor("ledger");
  await refilling.query("commit");
  await ready(shapes);
  await refilling.query("select refill('accounts')");
  await load.after(100);
});

test("ALTERs that rewrite a table, while shapes load and money moves in the same transaction", async (t) => {
  const altering = await stage.connect(t);
  await altering.query("begin; alter table ledger alter balance type numeric");
  const shapes = [...(await subscribers(2)), (await audience.joinWithTotals()).ledger];
  await snapshotsWaitFor("ledger");
  await altering.query("commit");
  await ready(shapes);

  const [first, second] = [reserved.from + 1, reserved.from + 2];
  await altering.query("begin; lock table accounts in access exclusive mode");
  await altering.query(`select transfer('accounts', ${first}, 'vault', ${first}, 50)`);
  await altering.query("alter table accounts add lucky double precision default random()");
  await altering.query(`select transfer('vault', ${second}, 'accounts', ${second}, 700)`);
  await altering.query("commit");
  await load.after(100);
  await allReady();
  assert(witness.ledger.resyncs > 0 && witness.accounts.resyncs > 0, "the tables were fetched anew");
});

test("a column that comes in place is shown before SELECT does, without loading anything again", async (t) => {
  const hold = await beginUndisturbed(t);
  const { resyncs } = witness.vault;
  await hold.commit("alter table vault add flag int default 7");
  load.resume();
  const client = await audience.join();
  const late = audience.subscribe(client, { table: "vault" });
  await witness.client.until(
    () => witness.vault.value(String(reserved.from), "flag") === "7",
    "the held ALTER streams by",
  );
  await ready([audience.subscribe(client, { table: "ledger" })]);
  assert(!late.isReady, "no snapshot can have the new form yet");
  await hold.release();
  await ready([late]);
  await load.after(50);
  assert.deepEqual([witness.vault.isReady, witness.vault.resyncs], [true, resyncs]);
});

test("who comes back with such a column goes on once SELECT shows it, without loading anything again", async (t) => {
  await createTable(db, "widened");
  const { url } = stage.engine;
  const client = await SocketClient.greeted(url);
  const before = await client.load(1, { table: "widened" });
  const { left } = client;
  const hold = await beginUndisturbed(t);
  await hold.commit("alter table widened add flag int default 7");
  const { table } = await client.control("altered");
  await client.frame(({ boundary, position }) => boundary && position > left.position);
  await client.close();
  const back = await returned(url, client.left, table.identity);
  // It asks later, and is answered by the table as it was.
  const other = await returned(url, left, before.table.identity);
  await other.control("resumed");
  await other.control("altered");
  await hold.release();
  await back.control("resumed");
  const isTold = back.received.some((one) => "control" in one && one.control.kind === "resync");
  assert.equal(isTold, false, "nothing is loaded again");
  for (const one of [back, other]) await one.close();
  load.resume();

  async function returned(url: string, left: LeftOff, identity: string): Promise<SocketClient> {
    const client = await SocketClient.greeted(url, undefined, left);
    client.claim(1, { table: "widened" }, identity);
    client.send({ kind: "resume" });
    return client;
  }
});

test("an ALTER that is streamed before it is visible delays its table and nothing else", async (t) => {
  const hold = await beginUndisturbed(t);
  await hold.commit("alter table vault add extra double precision default random()");
  load.resume();
  await witness.client.until(() => witness.vault.status === "resyncing", "the held ALTER streams by");
  const client = await audience.join();
  // More of them than there are connections for snapshots.
  const late = Array.from({ length: 6 }, (_, i) =>
    audience.subscribe(client, { table: "vault", where: "id > $1", params: [40 * i] }),
  );
  await ready([audience.subscribe(client, { table: "ledger" })]);
  assert(!late.some(({ isReady }) => isReady) && !witness.vault.isReady, "no snapshot can have the new form yet");
  await hold.release();
  await ready([...late, witness.vault]);
  assert(late[0]!.table?.columns.some(({ name }) => name === "extra"));
});

test("a table that joins the publication waits for those who wrote it before", async (t) => {
  await createTable(db, "late");
  const [writer] = await openTransactions(t, 1, "late");
  const client = await audience.join();
  const late = audience.subscribe(client, { table: "late" });
  await published("late");
  await writer!.query("update late set balance = balance + 1, touches = touches + 1 where id = 9");
  await ready([audience.subscribe(client, { table: "ledger", where: "id < 50" })]);
  await load.after(50);
  assert(!late.isReady, "the writer is still at it");
  await writer!.query("commit");
  await ready([late]);
});

test("a commit that was held up while its table joined is not lost either", async (t) => {
  await createTable(db, "later");
  const hold = await Hold.begin(t, stage.cluster.url);
  await hold.commit("update later set balance = balance + 1, touches = touches + 1 where id = 9");
  const client = await audience.join();
  const later = audience.subscribe(client, { table: "later" });
  await published("later");
  await ready([audience.subscribe(client, { table: "ledger", where: "id < 50" })]);
  assert(!later.isReady, "nobody can see that commit yet");
  await hold.release();
  await ready([later]);
  assert.equal(later.value("9", "balance"), "1001");
});

test("a shape whose rows are ahead of the stream is not shown before the stream is there", async () => {
  const { rows } = await db.query<{ pid: number }>(
    "select pid from pg_stat_replication where application_name = 'walcast'",
  );
  process.kill(rows[0]!.pid, "SIGSTOP");
  try {
    await load.after(50);
    const shapes = await subscribers(4);
    await rowsArrived(shapes);
    await load.after(50);
    assert(
      shapes.every((shape) => !shape.isReady),
      "the barrier has not come by",
    );
  } finally {
    process.kill(rows[0]!.pid, "SIGCONT");
  }
  await load.after(100);
  await allReady();
});

test("changes begin with what commits after the subscription, also while the stream is behind", async () => {
  await createTable(db, "news");
  const listener = await RawClient.connect(stage.engine.url);
  await listener.subscribe({ table: "news" }).ready();
  const { rows } = await db.query<{ pid: number }>(
    "select pid from pg_stat_replication where application_name = 'walcast'",
  );
  process.kill(rows[0]!.pid, "SIGSTOP");
  try {
    await db.query("insert into news values (900, 'north', 0)");
    const news = listener.subscribe({ table: "news" }, {}, true);
    const refused = listener.subscribe({ table: "not_there" });
    // It was asked for later, so by its answer the other one is under way.
    await listener.until(() => refused.status === "error", "a refusal");
    process.kill(rows[0]!.pid, "SIGCONT");
    await news.ready();
    await db.query("insert into news values (901, 'north', 0)");
    await listener.until(() => news.rows.size > 0, "news");
    assert.deepEqual([...news.rows.keys()], ["901"]);
  } finally {
    process.kill(rows[0]!.pid, "SIGCONT");
    await listener.drop();
  }
});

test("in the end every shape shows what Postgres answers", async () => {
  await load.pause();
  await audience.audit(db, stage.engine);
  assert(audience.shapes.length >= 50, `enough subscriptions: ${audience.shapes.length}`);
  assert(audience.checked > 1_000, `enough states: ${audience.checked}`);
  console.log(
    `${load.commits} commits, ${audience.clients.length} clients, ${audience.shapes.length} subscriptions, ${audience.checked} totals checked`,
  );
});

// ── Doing and waiting ────────────────────────────────────────────────────────────────────────────────────────────────

/** This many clients with the ledger in two halves, the whole of it, and something at random. */
async function subscribers(count: number): Promise<RawShape[]> {
  const shapes: RawShape[] = [];
  for (let i = 0; i < count; i++) {
    const client = await audience.join();
    shapes.push(
      ...audience.subscribeToHalves(client),
      audience.subscribe(client, { table: random.pick(["ledger", "accounts"]) }),
    );
    await load.after(random.integer(1, 20));
    shapes.push(...audience.subscribeAtRandom(client));
  }
  return shapes;
}

async function ready(shapes: readonly RawShape[]): Promise<void> {
  for (const shape of shapes) await shape.ready();
}

/** The load is paused for it: a writer that is held up would not let go of the table. */
async function beginUndisturbed(t: Releasing): Promise<Hold> {
  await load.pause();
  return Hold.begin(t, stage.cluster.url);
}

function allReady(): Promise<void> {
  return ready(audience.shapes);
}

/** Each has written, and keeps money in the air that conserves the total once it lands. */
function openTransactions(t: Releasing, count: number, table: string): Promise<Client[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const client = await stage.connect(t);
      await client.query("begin");
      const ids = table === "ledger" ? [reserved.to - 2 * i, reserved.to - 2 * i - 1] : [1 + 2 * i, 2 + 2 * i];
      await client.query("select transfer($1, $2, $1, $3, 11)", [table, ...ids]);
      return client;
    }),
  );
}

async function balanceOf(table: string, id: number): Promise<string> {
  const { rows } = await db.query<{ balance: string }>(`select balance::text from ${table} where id = $1`, [id]);
  return rows[0]!.balance;
}

function snapshotsWaitFor(table: string): Promise<void> {
  return holds(
    `select from pg_locks l join pg_stat_activity a using (pid) where relation = '${table}'::regclass and mode = 'AccessShareLock' and not granted and application_name = 'walcast snapshot'`,
  );
}

function published(table: string): Promise<void> {
  return holds(`select from pg_publication_tables where tablename = '${table}'`);
}

/** Asks until there is a row. */
function holds(query: string): Promise<void> {
  return until(async () => (await db.query(query)).rowCount !== 0);
}

/** Rows of these shapes have been sent, where there surely are some: the barrier is what is missing. */
async function rowsArrived(shapes: readonly RawShape[]): Promise<void> {
  for (const shape of shapes.filter(({ request }) => !request.where))
    await shape.client.until(() => shape.copies > 0 || shape.isReady, "its rows");
}
