/**
 * The SDK under the same load: replicas with shapes that overlap, subscribed at random instants. Every state that a live
 * query tells of is checked against the totals, and in the end each replica holds exactly what its shapes ask for.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Client, createClient, type Shape } from "../../client-sdk/index.ts";
import { emptyReplica } from "../support/replica.ts";
import { complements, jointTotal, ledgerTotal } from "./bank.ts";
import { Hold } from "./hold.ts";
import { Stage } from "./stage.ts";

const stage = new Stage();
const { random } = stage;
const clients: Client[] = [];
const failures: unknown[] = [];
let checked = 0;

// A live query tells of changed results only, and the totals never change: the touches do.
const ofLedger = "select sum(balance)::text as total, sum(touches) from ledger";
const ofBoth = `select sum(balance)::text as total, sum(touches) from (select balance, touches from accounts union all select balance, touches from vault)`;

before(() => stage.open());

after(() => stage.close());

test("replicas with overlapping shapes conserve the totals in every state they tell of", async (t) => {
  const { load, db } = stage;
  const whole = await start();
  const shapes = [whole.sync({ table: "ledger" }), whole.sync({ table: "accounts" }), whole.sync({ table: "vault" })];
  watch(whole, ofLedger, [shapes[0]!], ledgerTotal);
  watch(whole, ofBoth, shapes.slice(1), jointTotal);

  const halves = await start();
  const parts: Shape[] = [];
  for (const request of complements("ledger", random)) {
    await load.after(random.integer(1, 30));
    parts.push(halves.sync(request));
  }
  watch(halves, ofLedger, parts, ledgerTotal);

  const overlap = await start();
  const [north, poor] = [
    { table: "ledger", where: "region = $1", params: ["north"] },
    { table: "ledger", where: "balance < $1", params: [950] },
  ];
  overlap.sync(north);
  await load.after(random.integer(1, 30));
  const given = overlap.sync(poor);
  await allReady();
  await load.after(100);

  const hold = await Hold.begin(t, stage.cluster.url);
  await hold.commit("select transfer('ledger', 1002, 'ledger', 1003, 77)");
  const extra = whole.sync(north);
  await extra.ready;
  await given.unsubscribe();
  await load.after(30);
  overlap.sync(poor);
  await hold.release();

  const altering = await stage.connect(t);
  await altering.query("begin; lock table ledger, accounts in access exclusive mode");
  await altering.query("alter table accounts add lucky double precision default random()");
  await altering.query("select refill('ledger')");
  await altering.query("commit");
  await extra.unsubscribe();
  await db.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'walcast'");
  await load.after(100);
  await allReady();

  await load.pause();
  const { rows } = await db.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
  for (const client of clients) await client.awaitPosition(rows[0]!.lsn);
  for (const table of ["ledger", "accounts", "vault"]) await assertSame(whole, table, "true");
  await assertSame(halves, "ledger", "true");
  await assertSame(overlap, "ledger", "region = 'north' or balance < 950");
  assert.deepEqual(failures, []);
  assert(checked > 50, `enough states: ${checked}`);
  assert.deepEqual(
    clients.map((client) => client.inspect().breaches),
    [0, 0, 0],
  );
  console.log(`${load.commits} commits, ${checked} totals checked`);
});

async function start(): Promise<Client> {
  const replica = await emptyReplica();
  const client = createClient({ url: stage.engine.url, replica });
  stage.after(() => replica.close());
  stage.after(() => client.close());
  clients.push(client);
  return client;
}

/** The total is checked whenever all of these shapes are there. */
function watch(client: Client, query: string, shapes: readonly Shape[], total: number): void {
  client.live<{ total: string }>(query).subscribe((rows) => {
    if (!shapes.every(({ status }) => status === "ready")) return;
    checked++;
    if (rows[0]?.total !== String(total)) failures.push({ query, found: rows[0]?.total, position: client.position });
  });
}

async function allReady(): Promise<void> {
  for (const client of clients) await live(client);
}

function live(client: Client): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (client.status !== "live") return;
      stop();
      resolve();
    };
    const stop = client.onStatus(check);
    check();
  });
}

async function assertSame(client: Client, table: string, where: string): Promise<void> {
  const query = `select id, region, balance::text, touches, note from ${table} where ${where} order by id`;
  const { rows } = await stage.db.query(query);
  assert.deepEqual(await client.query(query.replace(where, "true")), rows, `${table} where ${where}`);
}
