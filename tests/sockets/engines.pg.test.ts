/** Two engines on one database, each with a slot and a log of its own, and one that was killed: clients go on with either. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { pino } from "pino";
import { createEngine, type Engine } from "../../engine/main.ts";
import { type LeftOff, RawClient, shownCommits } from "./raw-client.ts";
import { processFlags } from "../support/processes.ts";
import type { TestDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { type Running, running } from "./running.ts";

const items = { table: "items" };

/** Without a log of its own that reaches back to when anybody left. */
async function freshEngine({ url, name }: TestDatabase): Promise<{ engine: Engine; close: () => Promise<void> }> {
  const dataDir = await mkdtemp(join(tmpdir(), "walcast-test-"));
  const engine = await createEngine(
    { databaseUrl: url, port: 0, tables: "all", slot: `${name}_fresh`, dataDir },
    pino({ level: "silent" }),
  );
  return { engine, close: () => engine.close().then(() => rm(dataDir, { recursive: true, force: true })) };
}

describe("two engines on one database", () => {
  let first: Running;
  let second: Engine;
  let dataDir: string;
  before(async () => {
    first = await running({ positionEveryMs: 50 }, "create table items (id int primary key)");
    dataDir = await mkdtemp(join(tmpdir(), "walcast-test-"));
    const { url, name } = first.db;
    second = await createEngine(
      { databaseUrl: url, port: 0, tables: "all", slot: `${name}_2`, dataDir, positionEveryMs: 50 },
      pino({ level: "silent" }),
    );
  });
  after(async () => {
    await second.close();
    await first.close();
    await rm(dataDir, { recursive: true, force: true });
  });

  test("a client that moves between them again and again gets every transaction once, in order", async () => {
    const written: bigint[] = [];
    let id = 0;
    const write = async (): Promise<string> => {
      const xid = await first.transaction(`insert into items values (${++id})`);
      written.push(BigInt(xid));
      return xid;
    };
    let client = await RawClient.greeted(first.engine.url);
    const { identity } = (await client.load(1, items)).table;
    const shown: bigint[] = [];
    for (let move = 0; move < 12; move++) {
      const xids = [await write(), await write()];
      // Now and then it leaves with all that was written, now and then in the middle.
      if (move % 3 !== 0) await client.awaitXid(move + 2, xids[move % 2]!);
      await client.close();
      shown.push(...shownCommits(client, 1).map(({ xid }) => xid));
      if (move % 4 === 1) await write();
      client = await returned(move % 2 === 0 ? second.url : first.engine.url, client.left, identity);
    }
    await client.awaitXid(99, await write());
    shown.push(...shownCommits(client, 1).map(({ xid }) => xid));
    assert.deepEqual(shown, written);
    await client.close();
  });

  test("a crowd that cannot go on costs Postgres one reading of each shape", async () => {
    const { left } = await first.greeted();
    await first.transaction("insert into items values (-10), (-11), (-12)");
    const { engine, close } = await freshEngine(first.db);
    const shapes = ["id < 0", "id = -10", "id = -11", "id = -12"].map((where) => ({ ...items, where }));
    const crowd = Array.from({ length: 100 }, async () => {
      const client = await RawClient.greeted(engine.url, undefined, left);
      assert.equal(client.welcome?.cause?.code, "position_too_old");
      for (const [i, shape] of shapes.entries())
        assert.equal((await client.load(i + 1, shape)).lines.length, i ? 1 : 3);
      await client.close();
    });
    await Promise.all(crowd);
    assert.equal(engine.stats().snapshotsTotal, shapes.length);
    await close();
  });

  test("a client that is ahead of the one it comes to waits, and goes on when that one gets there", async () => {
    const client = await RawClient.greeted(first.engine.url);
    const { identity } = (await client.load(1, items)).table;
    const { ahead, next } = await withoutStream(first, async () => {
      await client.awaitXid(2, await first.transaction("insert into items values (-1)"));
      await client.close();
      const there = await returned(second.url, client.left, identity);
      return { ahead: there, next: await first.transaction("insert into items values (-2)") };
    });
    await ahead.awaitXid(2, next);
    assert.deepEqual(
      shownCommits(ahead, 1).map(({ xid }) => xid),
      [BigInt(next)],
    );
    await ahead.close();
  });

  test("a client that knows a form of the table which the one it comes to has not seen yet loads nothing anew", async () => {
    // So that this one knows the table as it was.
    const other = await RawClient.greeted(second.url);
    await other.load(1, items);
    await other.close();
    const client = await RawClient.greeted(first.engine.url);
    await client.load(1, items);
    const ahead = await withoutStream(first, async () => {
      const altered = await first.transaction("alter table items add column note text");
      const { identity } = (await client.control("altered")).table;
      await client.awaitXid(2, altered);
      await client.close();
      const there = await RawClient.greeted(second.url, undefined, client.left);
      there.claim(1, items, identity);
      // Its answer says that the question before it has been dealt with, as far as that can be.
      there.subscribe(2, { table: "absent" });
      there.send({ kind: "resume" });
      await there.refused(2);
      return there;
    });
    await ahead.awaitXid(3, await first.transaction("insert into items values (-3)"));
    const answers = ahead.received.flatMap((one) => ("control" in one ? one.control.kind : []));
    assert.deepEqual(
      answers.filter((kind) => kind === "resumed" || kind === "resync"),
      ["resumed"],
    );
    await ahead.close();
  });
});

describe("an engine that is killed before what it sent is durable", () => {
  test("is waited for by who has it already, and nothing is loaded again", async (t) => {
    const world = await running({}, "create table items (id int primary key)");
    t.after(() => world.close());
    const { db } = world;
    const slot = `${db.name}_killed`;
    const dataDir = await mkdtemp(join(tmpdir(), "walcast-test-"));
    t.after(() => rm(dataDir, { recursive: true, force: true }));
    const log = { segmentBytes: 64 * 1024 };
    const config = { databaseUrl: db.url, port: 0, tables: "all", slot, dataDir: join(dataDir, "live"), log };
    const state = async (): Promise<{ at: string; active: boolean }> => {
      const { rows } = await db.query(
        `select confirmed_flush_lsn::text as at, active from pg_replication_slots where slot_name = '${slot}'`,
      );
      return rows[0] as { at: string; active: boolean };
    };

    let engine = await startProcess(config, t.signal);
    let client = await RawClient.greeted(engine.url);
    const { identity } = (await client.load(1, items)).table;
    const [shown, written]: [bigint[], bigint[]] = [[], []];
    let lost = 0;
    for (let id = 1; lost < 3; id++) {
      assert.ok(id < 50, "most kills come before an acknowledgement");
      const before = await state();
      await cp(config.dataDir, join(dataDir, "before"), { recursive: true });
      const xid = await world.transaction(`insert into items values (${id})`);
      written.push(BigInt(xid));
      await client.awaitXid(id + 1, xid);
      await engine.kill();
      // The walsender reads to its end what was sent to it.
      await until(async () => !(await state()).active);
      shown.push(...shownCommits(client, 1).map((commit) => commit.xid));
      // As the power going leaves it: what the disk had not taken is gone. What was acknowledged it has taken.
      if ((await state()).at === before.at) {
        await rm(config.dataDir, { recursive: true });
        await cp(join(dataDir, "before"), config.dataDir, { recursive: true });
        lost++;
      }
      await rm(join(dataDir, "before"), { recursive: true });
      engine = await startProcess(config, t.signal);
      client = await returned(engine.url, client.left, identity);
    }
    const last = await world.transaction("insert into items values (0)");
    await client.awaitXid(99, last);
    shown.push(...shownCommits(client, 1).map((commit) => commit.xid));
    assert.deepEqual(shown, [...written, BigInt(last)]);
    await client.close();
    await engine.kill();
  });
});

/** Meanwhile the second engine gets nothing from Postgres. */
async function withoutStream<T>({ db }: Running, work: () => Promise<T>): Promise<T> {
  const { rows } = await db.query(
    `select active_pid as pid from pg_replication_slots where slot_name = '${db.name}_2'`,
  );
  const { pid } = rows[0] as { pid: number };
  process.kill(pid, "SIGSTOP");
  try {
    return await work();
  } finally {
    process.kill(pid, "SIGCONT");
  }
}

/** Goes on with the shape it has: nothing is loaded. */
async function returned(url: string, left: LeftOff, identity: string): Promise<RawClient> {
  const client = await RawClient.greeted(url, undefined, left);
  assert.equal(client.welcome!.resumes, true, client.welcome!.cause?.message);
  client.claim(1, items, identity);
  client.send({ kind: "resume" });
  await client.control("resumed");
  return client;
}

async function startProcess(config: object, signal: AbortSignal): Promise<{ url: string; kill(): Promise<void> }> {
  const script = join(import.meta.dirname, "../splice/engine-process.ts");
  const child: ChildProcess = spawn(process.execPath, [...processFlags, script, JSON.stringify(config)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  signal.addEventListener("abort", () => child.kill("SIGKILL"));
  const closed = once(child, "close");
  const [url] = (await once(createInterface({ input: child.stdout! }), "line")) as [string];
  return {
    url,
    async kill() {
      child.kill("SIGKILL");
      await closed;
    },
  };
}
