/** A standby takes over: where it has everything, nobody loads again; where it lacks a commit, the row that was lost goes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { appendFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { type EmbeddedPostgres, startPostgres } from "../../engine/embedded/postgres.ts";
import type { Engine } from "../../engine/main.ts";
import { emptyCluster } from "../support/cluster.ts";
import { lowPort } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { engines, goesOn, healthSays, query, startsAnew, visit } from "./returning.ts";

const flags = {
  fsync: "off",
  hot_standby_feedback: "on",
  primary_slot_name: "standby",
  wal_keep_size: "64MB",
};

interface Pair {
  readonly primary: EmbeddedPostgres;
  readonly standby: EmbeddedPostgres;
  /** The primary is gone, and the standby takes its place, at its address. */
  failOver(): Promise<void>;
}

/** A standby is a copy of its primary's files that was told so. */
async function pair(t: TestContext): Promise<Pair> {
  const a = await emptyCluster();
  const b = `${a}-standby`;
  const running = new Set<EmbeddedPostgres>();
  const start = async (dataDir: string, port: number): Promise<EmbeddedPostgres> => {
    const server = await startPostgres({ dataDir, port, flags });
    running.add(server);
    return server;
  };
  const stop = async (server: EmbeddedPostgres): Promise<void> => {
    running.delete(server);
    await server.stop();
  };
  t.after(async () => {
    for (const server of running) await server.stop();
    for (const directory of [a, b]) await rm(directory, { recursive: true, force: true });
  });
  const first = await start(a, lowPort());
  await query(first.url, "create table items (id int primary key); insert into items values (1)");
  await query(first.url, "select pg_create_physical_replication_slot('standby', true)");
  await stop(first);
  await promisify(execFile)("cp", ["-a", a, b]);
  const primary = await start(a, first.port);
  const { password, port } = new URL(primary.url);
  const conninfo = `host=127.0.0.1 port=${port} user=postgres password=${password} dbname=postgres`;
  const clusterDir = join(b, "postgres");
  await appendFile(join(clusterDir, "postgresql.auto.conf"), `primary_conninfo = '${conninfo}'\n`);
  await writeFile(join(clusterDir, "standby.signal"), "");
  const standby = await start(b, lowPort());
  return {
    primary,
    standby,
    async failOver() {
      if (running.has(primary)) await stop(primary);
      await query(standby.url, "select pg_promote()");
      await stop(standby);
      await start(b, primary.port);
    },
  };
}

test("a failover that lost nothing keeps the history: the slot came along, and clients go on", async (t) => {
  const { primary, standby, failOver } = await pair(t);
  const shop = await engines(primary.url, "shop", t);
  const engine = await shop.start();
  const visited = await visit(engine);
  // What sync_replication_slots = on does by itself, every few seconds.
  await until(async () => {
    await query(primary.url, "select pg_log_standby_snapshot()");
    await query(standby.url, "select pg_sync_replication_slots()");
    const rows = await query(
      standby.url,
      "select from pg_replication_slots where slot_name = 'shop' and synced and not temporary",
    );
    return rows.length === 1;
  });
  await query(primary.url, "insert into items values (2)");
  await failOver();
  await healthSays(engine.url, /"live"/);
  await query(primary.url, "insert into items values (3)");
  assert.deepEqual(await goesOn(engine, visited, 2), [["2"], ["3"]]);
  const after = await visit(engine);
  assert.match(after.left.epoch, /:2$/);
  await query(primary.url, "insert into items values (4)");
  assert.deepEqual(await goesOn(engine, after, 1), [["4"]]);
  assert.ok(shop.logged.some((line) => line.includes("a failover lost nothing")));
});

test("a failover that lost a commit is another history, and the row that never was goes", async (t) => {
  const { primary, standby, failOver } = await pair(t);
  const shop = await engines(primary.url, "shop", t);
  const engine = await shop.start();
  const streamed = await streamedSince(engine, "-1");
  const early = await visit(engine);
  await query(standby.url, "alter system set primary_conninfo = ''");
  await query(standby.url, "select pg_reload_conf()");
  await until(async () => (await query(standby.url, "select from pg_stat_wal_receiver")).length === 0);
  await query(primary.url, "insert into items values (2)");
  assert.deepEqual(await goesOn(engine, early, 1), [["2"]]);
  const told = await streamedSince(engine, streamed.next);
  assert.deepEqual([streamed.events, told.events], [["insert 1"], ["insert 2"]]);
  const visited = await visit(engine);
  await failOver();
  await healthSays(engine.url, /"live"/);
  const moved = await streamedSince(engine, told.next);
  assert.deepEqual(moved.events, ["delete 2", "insert 1"], "a durable stream's reader is told what is not so");
  const { cause, rows } = await startsAnew(engine, visited);
  assert.deepEqual([cause.code, rows], ["history_changed", [["1"]]]);
  await query(primary.url, "insert into items values (3)");
  assert.deepEqual((await startsAnew(engine, visited)).rows, [["1"], ["3"]]);
  assert.deepEqual((await streamedSince(engine, moved.next)).events, ["insert 3"]);
  // The timeline tells, whatever the engine still knows.
  await engine.close();
  await rm(shop.dataDir, { recursive: true });
  const fresh = await startsAnew(await shop.start(), visited);
  assert.deepEqual([fresh.cause.code, fresh.rows], ["history_changed", [["1"], ["3"]]]);
});

/** What a reader of the table's durable stream is told, and where it goes on. */
async function streamedSince({ url }: Engine, offset: string): Promise<{ events: readonly string[]; next: string }> {
  const response = await fetch(`${url}/v1/stream/items?offset=${offset}`);
  const events = (await response.json()) as { key: string; headers: { operation: string } }[];
  return {
    events: events.map(({ key, headers }) => `${headers.operation} ${key}`),
    next: response.headers.get("stream-next-offset")!,
  };
}
