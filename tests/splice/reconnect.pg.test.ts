/**
 * The same load, with everything that can be cut being cut: the replication connection, the engine's other connections,
 * clients' sockets, the engine itself. Whoever stays must not miss a row nor get one twice; whoever comes must find what
 * Postgres has, also what no SELECT shows yet.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, truncate } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test, type TestContext } from "node:test";
import type { Engine } from "../../engine/main.ts";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";
import { processFlags } from "../support/processes.ts";
import { thorough } from "../support/thorough.ts";
import { until } from "../support/until.ts";
import { Audience } from "./audience.ts";
import { reserved } from "./bank.ts";
import { Hold } from "./hold.ts";
import { Stage } from "./stage.ts";

const stage = new Stage();
const { audience, random } = stage;
/** What nobody caught: outside of a test it would have ended the engine's process. */
const uncaught: unknown[] = [];
process.on("uncaughtExceptionMonitor", (error) => uncaught.push(error));
let witness: Awaited<ReturnType<Audience["joinWithTotals"]>>;

before(async () => {
  await stage.open();
  witness = await audience.joinWithTotals();
});

after(() => stage.close());

test("the replication connection breaks again and again, and nobody misses a row or gets one twice", async () => {
  for (let i = 0; i < thorough(5, 3); i++) {
    await someJoin(2);
    const states = witness.client.states;
    await terminate("application_name = 'walcast'");
    await stage.load.after(random.integer(1, 60));
    await witness.client.until(() => witness.client.states > states, "the stream goes on");
  }
  assert.equal(witness.client.closed, undefined, "clients stay connected meanwhile");
  await settle();
});

test("sockets are cut at random, whatever their shapes are doing", async () => {
  for (let i = 0; i < thorough(12, 6); i++) {
    await someJoin(1);
    await stage.load.after(random.integer(1, 15));
    const others = audience.clients.filter((client) => client !== witness.client);
    await audience.drop(random.pick(others));
  }
  await settle();
});

test("all connections of the engine break while shapes load", async () => {
  for (let i = 0; i < thorough(6, 3); i++) {
    await someJoin(2);
    await terminate("application_name like 'walcast%'");
    await stage.load.after(20);
  }
  assert.equal(witness.client.closed, undefined, "clients stay connected meanwhile");
  await settle();
  assert.deepEqual(uncaught, []);
});

test("a commit that no SELECT shows yet may be acknowledged: whoever follows a killed engine has it, once", async (t) => {
  const first = await startEngineProcess(t, "held");
  let { url } = first;
  const crowd = new Audience(() => url, random);
  const before = await crowd.joinWithTotals();
  await before.ledger.ready();
  const hold = await Hold.begin(t, stage.cluster.url);
  const [giver, taker] = [reserved.from + 1, reserved.from + 2];
  const { xid } = await hold.commit(`select transfer('ledger', ${giver}, 'ledger', ${taker}, 1)`);
  await before.client.until(() => before.ledger.xids.has(xid), "the held commit streams by");
  await until(async () => (await confirmed("held")) >= before.ledger.xids.get(xid)!);
  await kill(first, crowd);

  ({ url } = await startEngineProcess(t, "held", first.dataDir));
  const later = await crowd.joinWithTotals();
  await later.ledger.ready();
  assert.equal(later.ledger.value(String(giver), "balance"), "999", "it is read back from the log");
  assert((await hold.count()) > 0, "and SELECT does not show it yet");
  await hold.release();
  await audit(crowd);
});

test("a killed engine whose last file is damaged has lost such a commit: its table is loaded once SELECT shows it", async (t) => {
  await stage.db.query("create table quiet (id int primary key)");
  const first = await startEngineProcess(t, "damaged");
  let { url } = first;
  const crowd = new Audience(() => url, random);
  const before = await crowd.joinWithTotals();
  await before.ledger.ready();
  const hold = await Hold.begin(t, stage.cluster.url);
  const [giver, taker] = [reserved.from + 5, reserved.from + 6];
  const { xid } = await hold.commit(`select transfer('ledger', ${giver}, 'ledger', ${taker}, 5)`);
  await before.client.until(() => before.ledger.xids.has(xid), "the held commit streams by");
  await until(async () => (await confirmed("damaged")) >= before.ledger.xids.get(xid)!);
  await kill(first, crowd);
  await loseRecords(join(first.dataDir, "log", "damaged"));

  ({ url } = await startEngineProcess(t, "damaged", first.dataDir));
  const later = await crowd.joinWithTotals();
  for (const id of ["1", "2"]) await later.client.subscribe({ table: "quiet", where: `id = ${id}` }).ready();
  assert((await hold.count()) > 0, "SELECT does not show it yet");
  assert.equal(later.ledger.isReady, false, "and what is loaded meanwhile is another table");
  await hold.release();
  await later.ledger.ready();
  assert.equal(later.ledger.value(String(giver), "balance"), "995");
  await audit(crowd);
});

test("an engine that starts while a commit is held up shows it too", async (t) => {
  const hold = await Hold.begin(t, stage.cluster.url);
  const [giver, taker] = [reserved.from + 3, reserved.from + 4];
  const { xid } = await hold.commit(`select transfer('ledger', ${giver}, 'ledger', ${taker}, 77)`);
  await witness.client.until(() => witness.ledger.xids.has(xid), "the held commit streams by");
  await stage.load.after(30);
  await stage.engine.close();
  await witness.client.until(() => witness.client.closed !== undefined, "the engine says goodbye");
  assert.equal(witness.client.closed?.code, 1001);
  await audience.dropAll();
  await stage.load.after(30);
  await stage.startEngine();
  witness = await audience.joinWithTotals();
  await witness.ledger.ready();
  assert.equal(witness.ledger.value(String(giver), "balance"), "923");
  await someJoin(2);
  await hold.release();
  await settle();
});

test("a slot that is lost while shapes load makes everybody start anew, and nobody waits for what will not come", async () => {
  const client = await audience.join();
  const [stream] = (await stage.db.query<{ pid: number }>(`select pid ${ofStream}`)).rows;
  process.kill(stream!.pid, "SIGSTOP");
  const loading = audience.subscribe(client, { table: "ledger", where: "id < 77" });
  await client.until(() => loading.copies > 0, "its rows");
  await stage.db.query(`select pg_terminate_backend(pid) ${ofStream}`);
  process.kill(stream!.pid, "SIGCONT");
  await dropSlot();
  await client.until(() => client.closed !== undefined, "everybody is sent away");
  await audience.dropAll();
  witness = await audience.joinWithTotals();
  await audience.subscribe(witness.client, { table: "ledger", where: "id < 77" }).ready();
  await stage.load.after(50);
  await settle();
});

test("an engine that is killed is followed by one that misses nothing", async (t) => {
  let url = "";
  let dataDir: string | undefined;
  const crowd = new Audience(() => url, random);
  const kills = thorough(3, 2);
  for (let i = 1; i <= kills; i++) {
    const engine = await startEngineProcess(t, "killed", dataDir);
    ({ url, dataDir } = engine);
    const { ledger } = await crowd.joinWithTotals();
    crowd.subscribeAtRandom(await crowd.join());
    await ledger.ready();
    await stage.load.after(60);
    if (i === kills) await audit(crowd);
    await kill(engine, crowd);
  }
});

// ── Doing and waiting ────────────────────────────────────────────────────────────────────────────────────────────────

async function someJoin(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const client = await audience.join();
    audience.subscribeToHalves(client);
    audience.subscribeAtRandom(client);
    await stage.load.after(random.integer(1, 10));
  }
}

/** Everybody shows what Postgres answers, and goes on. */
function settle(): Promise<void> {
  return audit(audience, stage.engine);
}

async function audit(who: Audience, engine?: Engine): Promise<void> {
  await stage.load.pause();
  await who.audit(stage.db, engine).finally(() => stage.load.resume());
}

/** Waits for such a connection, if need be, without a pause: it may be short. */
async function terminate(which: string): Promise<void> {
  const query = `select pg_terminate_backend(pid) from pg_stat_activity where ${which}`;
  while ((await stage.db.query(query)).rowCount === 0);
}

const ofStream = "from pg_stat_replication where application_name = 'walcast'";

/** The engine is quick to take it again. */
async function dropSlot(): Promise<void> {
  for (;;) {
    try {
      await stage.db.query(`select pg_terminate_backend(pid, 1000) ${ofStream}`);
      await stage.db.query("select pg_drop_replication_slot('walcast')");
      return;
    } catch (error) {
      if ((error as { code?: string }).code !== "55006") throw error;
    }
  }
}

async function confirmed(slot: string): Promise<Lsn> {
  const { rows } = await stage.db.query<{ lsn: string }>(
    "select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1",
    [slot],
  );
  return parseLsn(rows[0]!.lsn);
}

interface EngineProcess {
  readonly process: ChildProcess;
  readonly url: string;
  readonly dataDir: string;
}

/** Beside the stage's own, on a slot and a log of its own. */
async function startEngineProcess(t: TestContext, slot: string, dataDir?: string): Promise<EngineProcess> {
  dataDir ??= await stage.directory();
  const config = JSON.stringify({ ...stage.engineConfig, slot, dataDir });
  const script = new URL("engine-process.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [...processFlags, script, config], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const [url] = (await once(createInterface({ input: child.stdout }), "line", { signal: t.signal })) as [string];
  return { process: child, url, dataDir };
}

/** All but the first bytes of the newest file, as if the disk had forgotten what it had. */
async function loseRecords(directory: string): Promise<void> {
  const segments = (await readdir(directory)).filter((name) => name.endsWith(".segment")).sort();
  await truncate(join(directory, segments.at(-1)!), 300);
}

async function kill(engine: EngineProcess, crowd: Audience): Promise<void> {
  engine.process.kill("SIGKILL");
  await crowd.dropAll();
  await once(engine.process, "close");
}
