/**
 * Who watches the watchers: one frame is dropped, swapped with the next or rewritten on its way to a client. With its
 * checks passed by, the simulation must see it; with them, the client must, before it shows anything.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "pg";
import { pino } from "pino";
import { createEngine, type Engine } from "../../engine/main.ts";
import type { Lsn } from "../../engine/protocol.ts";
import { Random } from "../splice/random.ts";
import { type TestCluster, testCluster, testDatabase } from "../support/postgres.ts";
import { emptyReplica } from "../support/replica.ts";
import { History } from "./history.ts";
import { Judge, Violation } from "./judge.ts";
import { inTransaction } from "./layout.ts";
import { connectAsWalcastReads, Oracle } from "./oracle.ts";
import { type Lie, Relay } from "./relay.ts";
import { types } from "./columns.ts";
import { createTable, type SimTable } from "./schema.ts";
import { Watcher } from "./watcher.ts";

const lies = ["drop", "swap", "rewrite"] as const satisfies readonly Lie[];
const column = { type: types.int4, nullable: false };
const ledger: SimTable = {
  name: "ledger",
  columns: [
    { ...column, name: "id" },
    { ...column, name: "n" },
  ],
  key: ["id"],
};

let cluster: TestCluster;
let db: Client;
let engine: Engine;
let history: History;
let oracle: Oracle;
let dataDir: string;
let count = 0;

before(async () => {
  cluster = await testCluster();
  history = await History.create((await testDatabase()).pool);
  db = await connectAsWalcastReads(cluster.url);
  oracle = await Oracle.create(db, cluster.url, history);
  await createTable(db, ledger);
  await db.query("insert into ledger values (0, 0)");
  dataDir = await mkdtemp(join(tmpdir(), "walcast-lies-"));
  const config = { databaseUrl: cluster.url, port: 0, tables: "all", dataDir, positionEveryMs: 50 } as const;
  engine = await createEngine(config, pino({ level: "silent" }));
});

after(async () => {
  await oracle.close();
  await engine.close();
  await db.end();
  await rm(dataDir, { recursive: true, force: true });
});

for (const lie of lies) {
  test(`${lie}: one frame, and its client cannot know: the simulation does`, async (t) => {
    const { watcher } = await deceived(t, lie, true);
    assert.equal(watcher.client.inspect().breaches, 0);
    await assert.rejects(judged(watcher), (error) => error instanceof Violation && /never was/.test(error.message));
  });

  test(`${lie}: one frame, and its client notices before it shows anything, and goes on without loading anew`, async (t) => {
    const { watcher } = await deceived(t, lie, false);
    assert.equal(watcher.client.inspect().breaches, 1);
    await judged(watcher);
    assert.deepEqual(watcher.takeRefetches(), []);
  });
}

test("a table changes where a client is killed: that its rows come again is no violation, though the client is not there yet", async (t) => {
  const table = { ...ledger, name: "altered" };
  const asked = { table: "public.altered" };
  await createTable(db, table);
  const replica = await emptyReplica();
  t.after(() => replica.close());
  const random = new Random(1);
  const first = await Watcher.open({ name: "the first", url: engine.url, random, replica });
  first.subscribe(table, asked);
  await oracle.readToTheEnd();
  await reached(first, history.lastChange([asked.table]));
  const completeAt = first.position;
  await first.client.close();
  // It was told of the change, and killed before it got there.
  await replica.exec("begin read write; update walcast.members set identity = null; commit");
  const walsender = await db.query<{ pid: number }>(
    "select pid from pg_stat_replication where application_name = 'walcast'",
  );
  process.kill(walsender.rows[0]!.pid, "SIGSTOP");
  const columns = [ledger.columns[0]!, { ...column, name: "m" }];
  await inTransaction(db, ["alter table altered rename n to m"], [], [{ ...table, columns }]);
  await oracle.readToTheEnd();
  const second = await Watcher.open({ name: "the second", url: engine.url, random, replica });
  t.after(() => second.client.close());
  second.claim(asked, { completeAt });
  while (
    !(await second.client.pglite.query("select from pg_class where relkind = 'r' and relname like 'load %'")).rows
      .length
  )
    await delay(5);
  process.kill(walsender.rows[0]!.pid, "SIGCONT");
  await reached(second, history.lastChange([asked.table]));
  const refetches = second.takeRefetches();
  assert.deepEqual(
    refetches.map(({ from }) => from),
    [completeAt],
  );
  await oracle.readToTheEnd();
  const judge = new Judge(history);
  judge.takeRefetches(refetches);
  await judge.judge();
  assert.equal(judge.pending, 0);
});

test("a client starts again while the rows of a changed table come: that its next life loads them is no violation, though it begins after the change", async (t) => {
  const table = { ...ledger, name: "locked" };
  const asked = { table: "public.locked" };
  await createTable(db, table);
  const watcher = await Watcher.open({ name: "the restarted", url: engine.url, random: new Random(1) });
  t.after(() => watcher.close());
  watcher.subscribe(table, asked);
  await oracle.readToTheEnd();
  await reached(watcher, history.lastChange([asked.table]));
  const columns = [ledger.columns[0]!, { ...column, name: "m" }];
  const locking = await lockOnceChanged("alter table locked rename n to m", { ...table, columns });
  t.after(() => locking.end());
  await oracle.readToTheEnd();
  const changedAt = history.lastChange([asked.table]);
  while (watcher.position < changedAt) await delay(5);
  await watcher.restart();
  await watcher.client.pglite.query("select");
  await locking.query("commit");
  await reached(watcher, changedAt);
  const refetches = watcher.takeRefetches();
  assert.deepEqual(
    refetches.map(({ from }) => from < changedAt),
    [true],
  );
  await oracle.readToTheEnd();
  const judge = new Judge(history);
  judge.takeRefetches(refetches);
  await judge.judge();
  assert.equal(judge.pending, 0);
});

/** The table gets another form; from its commit on nobody can read it until who has locked it then, and is returned, commits. */
async function lockOnceChanged(alter: string, after: SimTable): Promise<Client> {
  const gate = await connectAsWalcastReads(cluster.url);
  const locking = await connectAsWalcastReads(cluster.url);
  await gate.query("select pg_advisory_lock(1)");
  const changed = inTransaction(db, [alter], [], [after], ["select pg_advisory_xact_lock(1)"]);
  await waiting(gate, "advisory");
  await locking.query("begin");
  const locked = locking.query(`lock table ${after.name}`);
  await waiting(gate, "relation");
  await gate.end();
  await Promise.all([changed, locked]);
  return locking;
}

async function waiting(gate: Client, locktype: string): Promise<void> {
  const query = "select from pg_locks where locktype = $1 and not granted";
  while ((await gate.query(query, [locktype])).rowCount === 0) await delay(5);
}

/** Each commit adds a row, and leaves its mark on the one that all share. Two are told wrongly where it takes two. */
async function deceived(
  t: { after(release: () => Promise<void>): void },
  lie: Lie,
  covered: boolean,
): Promise<{ watcher: Watcher }> {
  const relay = await Relay.open(engine.url, covered);
  const watcher = await Watcher.open({ name: `the client of ${lie}`, url: relay.url, random: new Random(1) });
  t.after(async () => {
    await watcher.close();
    await relay.close();
  });
  watcher.subscribe(ledger, { table: "public.ledger" });
  await reached(watcher, await commit());
  await reached(watcher, await commit());
  const told = relay.lie(lie);
  await commit();
  await told;
  if (lie === "swap") await commit();
  // What is dropped is told by nothing but what comes after it.
  if (lie === "drop") await commit();
  await oracle.readToTheEnd();
  await reached(watcher, history.lastChange(["public.ledger"]));
  return { watcher };
}

async function commit(): Promise<Lsn> {
  count++;
  await db.query("begin");
  await db.query("insert into ledger values ($1, $1)", [count]);
  await db.query("update ledger set n = $1 where id = 0", [count]);
  await db.query("commit");
  await oracle.readToTheEnd();
  return history.lastChange(["public.ledger"]);
}

async function reached(watcher: Watcher, position: Lsn): Promise<void> {
  while (!watcher.hasReached(position)) await delay(5);
}

async function judged(watcher: Watcher): Promise<void> {
  const judge = new Judge(history);
  judge.take(watcher.takeObservations());
  await judge.judge();
  assert.equal(judge.pending, 0);
  assert(judge.compared > 0);
}
