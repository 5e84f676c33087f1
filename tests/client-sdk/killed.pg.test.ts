/** Processes with a replica in a directory, killed while the real engine sends them what writers do to a real Postgres. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";
import { type Running, running } from "../sockets/running.ts";
import { processFlags } from "../support/processes.ts";
import { emptyReplicaIn } from "../support/replica.ts";
import { thorough } from "../support/thorough.ts";
import type { State } from "./witness.ts";

/** Enough for each moment to be met by each replica: a process that opens one takes a second. */
const KILLS = thorough(8, 4);
/** Of so many lives, one ends before it has shown anything, if it ends soon enough. */
const EARLY_OF = 3;
/** Replicas that live and die side by side. */
const REPLICAS = 2;
const WRITERS = 2;
const PURSES = 20;
/** Of each writer, so many orders and items are there at a time. */
const KEPT = 5;

const tables = `
  CREATE TABLE orders (id int PRIMARY KEY, note text);
  CREATE TABLE items (id int PRIMARY KEY, note text);
  CREATE TABLE purses (id int PRIMARY KEY, balance int NOT NULL);
  INSERT INTO purses SELECT n, 100 FROM generate_series(0, ${PURSES - 1}) n`;

test("a process that is killed at any moment finds the state of its position again, and goes on without a refetch", async (t) => {
  const world = await running({}, tables);
  t.after(async () => {
    await world.db.query("SELECT pg_drop_replication_slot('oracle_' || current_database())");
    await world.close();
  });
  // The order of commits, from Postgres itself and not from the engine.
  await world.db.query("SELECT pg_create_logical_replication_slot('oracle_' || current_database(), 'test_decoding')");
  const writing = new AbortController();
  const writers = Array.from({ length: WRITERS }, (_, writer) => write(world, writer, writing.signal));
  const seen = await Promise.all(Array.from({ length: REPLICAS }, () => liveAndDie(t, world, KILLS / REPLICAS)));
  writing.abort();
  await Promise.all(writers);
  const history = new History(await commits(world));
  const states = seen.flat();
  for (const state of states) history.check(state);
  assert.ok((await world.metric("walcast_snapshots_total")) <= REPLICAS * 3, "no shape is loaded twice");
  assert.ok(states.length > KILLS, `only ${states.length} states were seen`);
});

/** One replica, in one process after another. All states that they showed. */
async function liveAndDie(t: TestContext, world: Running, kills: number): Promise<State[]> {
  const parent = await mkdtemp(path.join(tmpdir(), "walcast-replica-"));
  t.after(() => rm(parent, { recursive: true, force: true }));
  const replica = path.join(parent, "replica");
  await emptyReplicaIn(replica);
  const states: State[] = [];
  let last: Lsn | undefined;
  for (let kill = 0; kill <= kills; kill++) {
    const shown = await oneLife(t, world, replica, {
      diesEarly: kill % EARLY_OF === 1 && kill !== kills,
      isLast: kill === kills,
    });
    for (const { position } of shown) {
      const now = parseLsn(position);
      assert.ok(last === undefined || now >= last, `expected no state before ${last}, found ${now}`);
      last = now;
    }
    states.push(...shown);
  }
  return states;
}

/** Killed before it has opened its replica, while it goes on from where it was, or in the middle of commits. */
async function oneLife(
  t: TestContext,
  world: Running,
  replica: string,
  { diesEarly, isLast }: { diesEarly: boolean; isLast: boolean },
): Promise<State[]> {
  const script = fileURLToPath(new URL("witness.ts", import.meta.url));
  const child = spawn(process.execPath, [...processFlags, script, world.engine.url, replica], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const die = (): void => void child.kill("SIGKILL");
  if (diesEarly) setTimeout(die, Math.random() * 1500);
  const shown: State[] = [];
  for await (const line of createInterface(child.stdout)) {
    // A line may be cut where the process was.
    if (!line.endsWith("}")) break;
    shown.push(JSON.parse(line) as State);
    if (shown.length === (isLast ? 3 : 1)) setTimeout(die, isLast ? 0 : Math.random() * 150);
  }
  return shown;
}

/** What the n-th transaction of a writer does follows from the two numbers, so whoever knows the order knows every state. */
async function write(world: Running, writer: number, signal: AbortSignal): Promise<void> {
  for (let n = 1; !signal.aborted; n++) {
    const { id, gone, from, to } = transaction(writer, n);
    await world.transaction(
      `INSERT INTO orders VALUES (${id}, repeat('x', ${n % 3 === 0 ? 20_000 : 10}))`,
      `UPDATE purses SET balance = balance - 1 WHERE id = ${from}`,
      `UPDATE purses SET balance = balance + 1 WHERE id = ${to}`,
      `DELETE FROM orders WHERE id = ${gone}`,
      `DELETE FROM items WHERE id = ${gone}`,
      `INSERT INTO items VALUES (${id})`,
    );
  }
}

function transaction(writer: number, n: number): { id: number; gone: number; from: number; to: number } {
  const id = writer * 1_000_000 + n;
  const from = n % (PURSES / 2);
  return { id, gone: id - KEPT, from, to: from + PURSES / 2 };
}

/** The ids that transactions inserted into orders, and where each commit ends. */
async function commits(world: Running): Promise<{ id: number; end: Lsn }[]> {
  const { rows } = await world.db.query(
    "SELECT lsn::text, data FROM pg_logical_slot_get_changes('oracle_' || current_database(), NULL, NULL)",
  );
  const found: { id: number; end: Lsn }[] = [];
  let id: number | undefined;
  for (const { lsn, data } of rows as { lsn: string; data: string }[]) {
    const inserted = /^table public\.orders: INSERT: id\[integer\]:(\d+)/.exec(data);
    if (inserted) id = Number(inserted[1]);
    if (!data.startsWith("COMMIT") || id === undefined) continue;
    found.push({ id, end: parseLsn(lsn) });
    id = undefined;
  }
  return found;
}

/** Every state there was, by the position of the commit that made it. */
class History {
  private readonly commits: readonly { id: number; end: Lsn }[];

  constructor(found: readonly { id: number; end: Lsn }[]) {
    this.commits = found;
  }

  check({ position, orders, items, purses, refetches }: State): void {
    const at = parseLsn(position);
    const ids = new Set<number>();
    const balances = Array<number>(PURSES).fill(100);
    for (const { id, end } of this.commits) {
      if (end > at) break;
      const { gone, from, to } = transaction(Math.floor(id / 1_000_000), id % 1_000_000);
      ids.add(id);
      ids.delete(gone);
      balances[from]! -= 1;
      balances[to]! += 1;
    }
    const expected = [...ids].sort((a, b) => a - b);
    assert.deepEqual({ orders, items, purses }, { orders: expected, items: expected, purses: balances }, position);
    assert.equal(refetches, 0);
  }
}
