/** `npm start` as a user runs it: what it prints works, Ctrl-C ends all of it, and the next start finds the rows. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { lowPort } from "../support/postgres.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));

describe("npm start", () => {
  let dataDir: string;
  const port = lowPort();
  let started: Started;

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), "walcast-start-"));
    // As root, Postgres runs under an account that has to get there.
    await chmod(dataDir, 0o755);
    started = await start();
  });

  after(async () => {
    await started.interrupt();
    await rm(dataDir, { recursive: true, force: true });
  });

  const env = () => ({
    ...process.env,
    WALCAST_PORT: String(port),
    WALCAST_DATA_DIR: dataDir,
    WALCAST_POSTGRES_PORT: String(lowPort()),
  });
  const start = () => Started.ready(env());
  const sql = (statement: string) =>
    execFileSync("npm", ["run", "--silent", "sql", "--", statement], { cwd: repository, env: env(), encoding: "utf8" });

  test("prints a page that answers, with the shop's orders behind it", async () => {
    assert.match(started.output, /12,000 orders made/);
    const url = /Open +(\S+)/.exec(started.output)![1]!;
    assert.equal(url, `http://localhost:${port}/`);
    assert.match(await (await fetch(url)).text(), /<div id="root">/);
    assert.match(sql("SELECT count(*) FROM orders"), /\b12000\b/);
  });

  test("prints a psql connection string and an UPDATE that npm run sql runs", () => {
    assert.match(started.output, /psql postgresql:\/\/postgres:\w+@127\.0\.0\.1:\d+\/postgres/);
    const statement = /npm run sql -- "(.+)"/.exec(started.output)![1]!;
    assert.match(sql(statement), /UPDATE 1/);
    assert.match(sql("SELECT status FROM orders WHERE id = 12000"), /shipped/);
  });

  test("a second one says in one sentence that the port is in use, and what to do", async () => {
    const second = new Started(env());
    assert.equal(await second.ended, 1);
    assert.match(second.errors, new RegExp(`^\\s*Port ${port} is in use: [^\\n]+npm start -- --port \\d+\`\\.\\s*$`));
  });

  test("Ctrl-C ends everything with exit code 0 and leaves no process", async () => {
    assert.equal(await started.interrupt(), 0);
    assert.equal(processesWith(dataDir), "");
  });

  test("the next start finds the rows as they were left", async () => {
    started = await start();
    assert.match(started.output, /kept from last time/);
    assert.match(sql("SELECT status FROM orders WHERE id = 12000"), /shipped/);
    assert.equal(await started.interrupt(), 0);
  });

  test("a start that is killed leaves nothing that keeps the next one from working", async () => {
    started = await start();
    started.kill();
    await started.ended;
    started = await start();
    assert.match(started.output, /kept from last time/);
    assert.equal(await started.interrupt(), 0);
    assert.equal(processesWith(dataDir), "");
  });

  test("a port somebody else listens on is refused before anything is started", async () => {
    const server = createServer().listen(port, "127.0.0.1");
    await once(server, "listening");
    const refused = new Started(env());
    assert.equal(await refused.ended, 1);
    assert.doesNotMatch(refused.output, /PostgreSQL/);
    server.close();
  });

  test("a choice that makes no sense is refused in one sentence", async () => {
    const refused = new Started({ ...env(), WALCAST_PORT: "eighty" });
    assert.equal(await refused.ended, 1);
    assert.equal(refused.errors.trim(), 'A port is a number from 1 to 65535, not "eighty".');
  });
});

/** One run of `npm start`, in a process group of its own, as a terminal would have it. */
class Started {
  output = "";
  errors = "";
  readonly ended: Promise<number | null>;
  private readonly child: ChildProcess;
  private readonly isReady: Promise<void>;

  constructor(env: NodeJS.ProcessEnv) {
    this.child = spawn("npm", ["start"], { cwd: repository, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    this.ended = once(this.child, "close").then(([code]) => code as number | null);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.isReady = promise;
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.output += text;
      if (this.output.includes("Ctrl-C stops everything")) resolve();
    });
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.errors += withoutNpm(text)));
  }

  static async ready(env: NodeJS.ProcessEnv): Promise<Started> {
    const started = new Started(env);
    const hasEnded = await Promise.race([started.isReady.then(() => false), started.ended.then(() => true)]);
    assert.ok(!hasEnded, `npm start ended: ${started.output}${started.errors}`);
    return started;
  }

  /** Ctrl-C reaches the whole group. */
  interrupt(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) process.kill(-this.child.pid!, "SIGINT");
    return this.ended;
  }

  kill(): void {
    process.kill(-this.child.pid!, "SIGKILL");
  }
}

/** npm has its own opinions about the machine's configuration. */
function withoutNpm(text: string): string {
  return text.replaceAll(/^npm .*\n/gm, "");
}

/** The command lines that mention the text. */
function processesWith(text: string): string {
  const lines = execFileSync("ps", ["-ww", "-eo", "args="], { encoding: "utf8" }).split("\n");
  return lines.filter((line) => line.includes(text)).join("\n");
}
