/**
 * Real Postgres for tests. `testDatabase` gives a fresh database on a cluster that the whole run shares; `testCluster` a
 * cluster of one's own, for tests that restart it, kill it or need settings. Both are released when the test ends.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { Client, Pool, type QueryResult } from "pg";
import { Lock } from "../../client-sdk/lock.ts";
import { type EmbeddedPostgres, startPostgres } from "../../engine/embedded/postgres.ts";
import { programsOfMajor } from "../versions/programs.ts";
import { emptyCluster, removeLeftovers } from "./cluster.ts";
import { until } from "./until.ts";

/** What of `node:test`'s TestContext we need. Without one, things are released after the file's last test. */
export interface Releasing {
  after(release: () => Promise<void>): void;
}

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  readonly pool: Pool;
  query(sql: string, params?: readonly unknown[]): Promise<QueryResult>;
  /** Also ends whoever is connected. Called by itself after the test. */
  drop(): Promise<void>;
}

export async function testDatabase(t: Releasing = endOfFile): Promise<TestDatabase> {
  const server = await sharedServer();
  const name = `test_${randomBytes(6).toString("hex")}`;
  await once(server, `create database ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  const pool = quietPool(url.href);
  const drop = memoized(async () => {
    await pool.end();
    await dropDatabase(server, name);
  });
  t.after(drop);
  return { url: url.href, name, pool, drop, query: (sql, params = []) => pool.query(sql, [...params]) };
}

/** An engine that has ended lets go of its slot a moment later, once Postgres finds the connection closed. */
export function dropSlot(database: Pick<TestDatabase, "query">, slot: string): Promise<void> {
  return until(async () => {
    try {
      await database.query("select pg_drop_replication_slot($1)", [slot]);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code !== slotIsActive) throw error;
      return false;
    }
  });
}

const slotIsActive = "55006";

export interface TestCluster {
  readonly url: string;
  readonly port: number;
  readonly pool: Pool;
  query(sql: string, params?: readonly unknown[]): Promise<QueryResult>;
  /** Stops it as an administrator would. */
  stop(): Promise<void>;
  /** Starts it again after `stop`: same data, same port, so `url` and `pool` go on working. */
  start(): Promise<void>;
}

/** Settings as in postgresql.conf, beyond those every embedded Postgres has. */
export async function testCluster(
  flags: Readonly<Record<string, string>> = {},
  t: Releasing = endOfFile,
): Promise<TestCluster> {
  const dataDir = await emptyCluster();
  const options = { dataDir, flags: { ...fast, ...flags }, ...programsOfMajor() };
  let running = await startPostgres({ ...options, port: lowPort() });
  const { url, port } = running;
  const pool = quietPool(url);
  t.after(async () => {
    await pool.end();
    await running.stop();
    await rm(dataDir, { recursive: true, force: true });
  });
  const start = async () => void (running = await startPostgres({ ...options, port }));
  return {
    url,
    port,
    pool,
    query: (sql, params = []) => pool.query(sql, [...params]),
    stop: () => running.stop(),
    start,
  };
}

/** A cluster for a whole run of test files, found by them through WALCAST_TEST_POSTGRES. */
export async function startSharedCluster(): Promise<EmbeddedPostgres> {
  await removeLeftovers();
  const dataDir = await emptyCluster();
  const running = await startPostgres({ dataDir, flags: fast, port: lowPort(), ...programsOfMajor() });
  const stop = memoized(async () => {
    await running.stop();
    await rm(dataDir, { recursive: true, force: true });
  });
  return { ...running, stop };
}

// Nothing here has to survive a power cut.
const fast = { fsync: "off", full_page_writes: "off" };

/** Below the ports that outgoing connections take, and for as long as this process lives nobody else's among the tests. */
export function lowPort(): number {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const lock = new Lock(join(tmpdir(), `walcast-tests-port-${port}`), fs);
    if (lock.take() !== undefined) continue;
    ports.push(lock);
    return port;
  }
}

const ports: Lock[] = [];
process.once("exit", () => {
  for (const lock of ports) lock.release();
});

let shared: Promise<EmbeddedPostgres> | undefined;

async function sharedServer(): Promise<string> {
  const given = process.env.WALCAST_TEST_POSTGRES;
  if (given) return given;
  shared ??= startSharedCluster();
  return (await shared).url;
}

const releases: (() => Promise<void>)[] = [];
const endOfFile: Releasing = { after: (release) => void releases.push(release) };

after(async () => {
  for (const release of releases.reverse()) await release();
  await (await shared)?.stop();
});

/** A walsender keeps its database from being dropped until it is gone, and an engine under test may have one. */
async function dropDatabase(server: string, name: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    await once(server, `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '${name}'`);
    try {
      return await once(server, `drop database if exists ${name} with (force)`);
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
}

async function once(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** An idle connection that Postgres ends is no failure of the test. */
function quietPool(url: string): Pool {
  const pool = new Pool({ connectionString: url });
  pool.on("error", () => undefined);
  return pool;
}

function memoized(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => (running ??= work());
}
