import assert from "node:assert/strict";
import { type ChildProcessByStdio, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { lowPort } from "../support/postgres.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const execute = promisify(execFile);

test("a supervisor that ends npm alone ends all that npm start began, in order", async (t) => {
  const dataDir = await emptyDirectory(t);
  const { npm, url } = await npmStart(t, dataDir);
  assert.equal((await fetch(url)).status, 200);
  npm.kill("SIGTERM");
  assert.deepEqual(await once(npm, "exit"), [0, null]);
  await assertNothingRuns(url, dataDir);
});

test("npm run sql says so where nothing runs", async (t) => {
  const dataDir = await emptyDirectory(t);
  await assert.rejects(npmRunSql(dataDir, "select 1"), {
    stderr: /Nothing runs in .*: run `npm start` in another terminal first\./,
  });
});

async function assertNothingRuns(url: string, dataDir: string): Promise<void> {
  await assert.rejects(fetch(url));
  const { stdout } = await execute("ps", ["-eo", "args="], { maxBuffer: 16 * 1024 * 1024 });
  assert.deepEqual(
    stdout.split("\n").filter((line) => line.includes(dataDir)),
    [],
  );
}

interface Started {
  readonly npm: ChildProcessByStdio<null, Readable, null>;
  readonly url: string;
}

async function npmStart(t: TestContext, dataDir: string): Promise<Started> {
  const args = ["start", "--", `--port=${lowPort()}`, `--postgres-port=${lowPort()}`, `--data-dir=${dataDir}`];
  const npm = spawn("npm", args, {
    cwd: repository,
    env: plainEnv(),
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => {
    if (npm.exitCode === null && npm.signalCode === null) process.kill(-npm.pid!, "SIGKILL");
  });
  let url: string | undefined;
  for await (const line of createInterface({ input: npm.stdout })) {
    url ??= /Open +(http:\S+)/.exec(line)?.[1];
    if (url === undefined || !line.includes("Ctrl-C")) continue;
    npm.stdout.resume();
    return { npm, url };
  }
  return assert.fail("npm start ended before it had started");
}

async function npmRunSql(dataDir: string, statement: string): Promise<string> {
  const args = ["run", "--silent", "sql", "--", `--data-dir=${dataDir}`, statement];
  return (await execute("npm", args, { cwd: repository, env: plainEnv() })).stdout.trim();
}

/** As in a user's shell: without what the test runner and npm set for their children. */
function plainEnv(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(WALCAST_|npm_|NODE_)/i.test(name)));
}

async function emptyDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-start-"));
  await chmod(directory, 0o755);
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}
