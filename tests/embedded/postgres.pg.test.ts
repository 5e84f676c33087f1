import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, type TestContext, test } from "node:test";
import { Client } from "pg";
import { startPostgres } from "../../engine/embedded/postgres.ts";
import { emptyCluster } from "../support/cluster.ts";
import { lowPort } from "../support/postgres.ts";
import { until } from "../support/until.ts";

test("rows outlive a stop, and a stop leaves no process and no record", async (t) => {
  const dataDir = await emptyDirectory();
  const first = await startPostgres({ dataDir, port: lowPort() });
  await query(first.url, "create table kept as select 42 as answer");
  const pid = await postmasterPid(first.clusterDir);
  await first.stop();
  assert.equal(isAlive(pid), false);
  await assert.rejects(readFile(join(dataDir, "postgres.json")), { code: "ENOENT" });
  const second = await startPostgres({ dataDir, port: lowPort() });
  t.after(() => second.stop());
  assert.deepEqual(await query(second.url, "select answer from kept"), [{ answer: 42 }]);
});

test("it decodes logically, is safe against a power cut by default, and takes the caller's settings", async (t) => {
  const postgres = await startPostgres({
    dataDir: await emptyDirectory(),
    port: lowPort(),
    flags: { work_mem: "7MB" },
  });
  t.after(() => postgres.stop());
  const settings =
    "select current_setting('wal_level') wal, current_setting('fsync') fsync, current_setting('work_mem') mem, current_setting('listen_addresses') host";
  assert.deepEqual(await query(postgres.url, settings), [
    { wal: "logical", fsync: "on", mem: "7MB", host: "127.0.0.1" },
  ]);
});

test("a busy port makes way for the next free one", async (t) => {
  const busy = lowPort();
  const squatter = createServer().listen(busy, "127.0.0.1");
  await once(squatter, "listening");
  t.after(() => void squatter.close());
  const postgres = await startPostgres({ dataDir: await directoryWithCluster(), port: busy });
  t.after(() => postgres.stop());
  assert.ok(postgres.port > busy);
  assert.deepEqual(await query(postgres.url, "select 1 as one"), [{ one: 1 }]);
});

test("a second start on a data directory in use is refused by name", async (t) => {
  const dataDir = await directoryWithCluster();
  const { child } = await startInChild(t, dataDir, lowPort());
  await assert.rejects(startPostgres({ dataDir, port: lowPort() }), {
    code: "database_unsuitable",
    message: new RegExp(`in use by process ${child.pid}`),
  });
});

test("killing the process that started it ends Postgres too", async (t) => {
  const { child, clusterDir } = await startInChild(t, await directoryWithCluster(), lowPort());
  const supervisor = parentOf(await postmasterPid(clusterDir));
  child.kill("SIGKILL");
  await gone(supervisor);
  await assert.rejects(readFile(join(clusterDir, "postmaster.pid")), { code: "ENOENT" });
});

test("a Postgres that was left behind is ended by the next start, with its rows", async (t) => {
  const dataDir = await directoryWithCluster();
  const { child, clusterDir, url } = await startInChild(t, dataDir, lowPort());
  await query(url, "create table kept as select 42 as answer");
  const orphan = await postmasterPid(clusterDir);
  const supervisor = parentOf(orphan);
  const watchers = childrenOf(supervisor).filter((pid) => pid !== orphan);
  for (const pid of [supervisor, ...watchers]) process.kill(pid, "SIGKILL");
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.equal(isAlive(orphan), true);
  const next = await startPostgres({ dataDir, port: lowPort() });
  t.after(() => next.stop());
  // It is until whoever inherits processes has noticed its end.
  await gone(orphan);
  assert.deepEqual(await query(next.url, "select answer from kept"), [{ answer: 42 }]);
});

test("a cluster of another major version is refused with what to do", async () => {
  const dataDir = await directoryWithCluster();
  const postgres = await startPostgres({ dataDir, port: lowPort() });
  await postgres.stop();
  await writeFile(join(postgres.clusterDir, "PG_VERSION"), "16\n");
  await assert.rejects(startPostgres({ dataDir, port: lowPort() }), {
    code: "database_unsuitable",
    message: /made by Postgres 16 and this is Postgres 18: move .* away/,
  });
});

test(
  "root's private directory makes way for one that Postgres can enter, and says so",
  { skip: process.getuid?.() !== 0 },
  async (t) => {
    const dataDir = await emptyDirectory(0o700);
    const notices: string[] = [];
    const postgres = await startPostgres({ dataDir, port: lowPort(), notice: (line) => notices.push(line) });
    t.after(async () => {
      await postgres.stop();
      await rm(join(postgres.clusterDir, ".."), { recursive: true });
    });
    assert.match(notices.join("\n"), /its data is kept in/);
    assert.ok(!postgres.clusterDir.startsWith(dataDir));
  },
);

async function emptyDirectory(mode = 0o755): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-embedded-"));
  await chmod(directory, mode);
  directories.push(directory);
  return directory;
}

/** To make one takes longer than what most tests here do with it. */
async function directoryWithCluster(): Promise<string> {
  const directory = await emptyCluster();
  directories.push(directory);
  return directory;
}

// Removed last: a test's own releases run in the order in which they were asked for, and Postgres must have stopped.
const directories: string[] = [];
after(() => Promise.all(directories.map((directory) => rm(directory, { recursive: true, force: true }))));

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

async function startInChild(
  t: TestContext,
  dataDir: string,
  port: number,
): Promise<{ child: ChildProcess; url: string; clusterDir: string }> {
  const module = JSON.stringify(new URL("../../engine/embedded/postgres.ts", import.meta.url).href);
  const script = `const { startPostgres } = await import(${module});
    const { url, clusterDir, ended } = await startPostgres(${JSON.stringify({ dataDir, port })});
    console.log(JSON.stringify({ url, clusterDir }));
    await ended;`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  return { child, ...(JSON.parse(line) as { url: string; clusterDir: string }) };
}

async function postmasterPid(clusterDir: string): Promise<number> {
  return Number((await readFile(join(clusterDir, "postmaster.pid"), "utf8")).split("\n")[0]);
}

function parentOf(pid: number): number {
  return Number(execFileSync("ps", ["-o", "ppid=", "-p", String(pid)], { encoding: "utf8" }));
}

function childrenOf(parent: number): number[] {
  const lines = execFileSync("ps", ["-eo", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
  const pairs = lines.map((line) => line.trim().split(/\s+/).map(Number) as [number, number]);
  return pairs.filter(([, ppid]) => ppid === parent).map(([pid]) => pid);
}

/** Not our child, so its absence is all there is to wait for. */
function gone(pid: number): Promise<void> {
  return until(() => !isAlive(pid));
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
