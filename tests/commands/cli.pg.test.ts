import assert from "node:assert/strict";
import { type ChildProcess, type ChildProcessByStdio, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { processFlags } from "../support/processes.ts";
import { lowPort, testCluster, testDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { isNewest } from "../versions/programs.ts";

const root = new URL("../../", import.meta.url);
const cli = fileURLToPath(new URL("../../engine/walcast.ts", import.meta.url));

test("a start that cannot succeed says in one sentence what to do, and exits 1", async (t) => {
  const dir = await emptyDirectory(t);
  await writeFile(join(dir, "no-config.ts"), "export const config = {};");
  await writeFile(join(dir, "throws.ts"), "throw new Error('no secret');");
  const url = "postgresql://127.0.0.1:1/shop";
  const refusals: readonly (readonly [args: string[], says: RegExp])[] = [
    [
      ["begin"],
      /^walcast: there is no command "begin": the commands are start, dev, doctor, migrate, types; walcast --help/,
    ],
    [["start", "dev"], /^walcast: expected one command, found start dev;/],
    [["start", "--prot", "1"], /^walcast: Unknown option '--prot'/],
    [["start", "--drop-slot"], /--drop-slot belongs to walcast doctor/],
    [["start", "--out", "x.ts"], /--out belongs to walcast types/],
    [["start"], /^walcast: read the config: databaseUrl is missing; give --database-url/],
    [["start", "--database-url", url, "--port", "0"], /^walcast: connect to Postgres: .*ECONNREFUSED.*--database-url/],
    [["start", "--database-url", url, "--port", "http"], /port: expected a whole number from 0 to 65535/],
    [["start", "--database-url", url, "--config", "missing.ts"], /there is no file .*missing\.ts/],
    [["start", "--database-url", url, "--config", "no-config.ts"], /expected `export default defineConfig/],
    [["start", "--database-url", url, "--config", "throws.ts"], /throws\.ts: no secret\n$/],
    [["dev", "--host", "0.0.0.0"], /expected a loopback address/],
  ];
  for (const [args, says] of refusals) {
    const { code, stderr } = await run(args, dir);
    assert.equal(code, 1, args.join(" "));
    assert.match(stderr, says);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
  }
});

test("an older Node is told which one is needed", async () => {
  const older = 'data:text/javascript,Object.defineProperty(process.versions, "node", { value: "20.19.0" })';
  const [command, ...args] = [process.execPath, "--import", older, cli, "--version"];
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  const [stderr, [code]] = await Promise.all([textOf(child.stderr), once(child, "close") as Promise<[number]>]);
  assert.match(stderr, /^walcast: expected Node 24 or newer, found 20\.19\.0; [^\n]*\n$/);
  assert.equal(code, 1);
});

test("--help and --version answer and exit 0", async (t) => {
  const dir = await emptyDirectory(t);
  assert.match((await run(["--help"], dir)).stdout, /walcast doctor/);
  assert.match((await run(["--version"], dir)).stdout, /^\d+\.\d+\.\d+\n$/);
});

test("dev brings its own Postgres, serves, and a signal ends all of it with 0", async (t) => {
  const dir = await emptyDirectory(t);
  const { child, url } = await startCli(t, ["dev", "--port", "0", "--data-dir", "data"], dir);
  assert.equal((await fetch(`${url}/health`)).status, 200);
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
  await assert.rejects(fetch(`${url}/health`));
  // A third process could not start on these files if a Postgres were left on them.
  const again = await startCli(t, ["dev", "--port", "0", "--data-dir", "data"], dir);
  again.child.kill("SIGINT");
  assert.deepEqual(await once(again.child, "exit"), [0, null]);
});

test("the slot outlives the engine; doctor reports it and removes it", async (t) => {
  const dir = await emptyDirectory(t);
  const { url, query, name } = await testDatabase(t);
  const flags = ["--database-url", url, "--slot", name];
  await query("create table orders (id int primary key)");
  await writeFile(
    join(dir, "walcast.config.ts"),
    "export default { tables: { orders: { read: true }, missing: { read: true } } };",
  );
  const { child } = await startCli(t, ["start", "--port", "0", ...flags], dir);
  const busy = await run(["doctor", "--drop-slot", ...flags], dir);
  assert.match(busy.stderr, /an engine uses it \(Postgres process \d+\); stop that engine first/);
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
  // Postgres lets go of it a moment later.
  await until(async () => !(await query(slotIsActive, [name])).rows[0]!.active);
  const { stdout, code } = await run(["doctor", ...flags], dir);
  assert.match(stdout, new RegExp(`^ok    the slot ${name} is idle and keeps`, "m"));
  assert.match(stdout, /^ok    "public"\."orders" can be served$/m);
  assert.match(stdout, /^fail  there is no table "public"\."missing"; create it, or take it out of the config$/m);
  assert.equal(code, 1);
  assert.equal((await run(["doctor", "--drop-slot", ...flags], dir)).code, 0);
  assert.equal((await query("select 1 from pg_replication_slots where slot_name = $1", [name])).rowCount, 0);
});

const slotIsActive = "select active from pg_replication_slots where slot_name = $1";

test("a port in use is a sentence that names it", async (t) => {
  const { url, name } = await testDatabase(t);
  const port = lowPort();
  const squatter = createServer().listen(port, "127.0.0.1");
  await once(squatter, "listening");
  t.after(() => void squatter.close());
  const { code, stderr } = await run(
    ["start", "--database-url", url, "--slot", name, "--port", String(port)],
    await emptyDirectory(t),
  );
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`^walcast: listen on 127\\.0\\.0\\.1:${port}: .*--port`));
});

test("doctor finds what is wrong with a server, a role and its tables", async (t) => {
  const unfit = { wal_level: "replica", max_slot_wal_keep_size: "-1", wal_sender_timeout: "0" };
  const cluster = await testCluster({ ...unfit, ...(isNewest ? { idle_replication_slot_timeout: "2d" } : {}) }, t);
  await cluster.query("create table keyless (x int)");
  await cluster.query("create table secured (id int primary key)");
  await cluster.query("alter table secured enable row level security");
  await cluster.query("create table policed (id int primary key)");
  await cluster.query("alter table policed enable row level security");
  await cluster.query("create view seen as select 1 as x");
  await cluster.query("create role app login password 'app'");
  await cluster.query("alter table policed owner to app");
  await cluster.query("grant select on keyless, seen to app");
  await cluster.query("revoke create on database postgres from public");
  await cluster.query("create publication walcast for table keyless where (x > 1) with (publish = 'insert')");
  const dir = await emptyDirectory(t);
  await writeFile(
    join(dir, "walcast.config.ts"),
    "export default { tables: { keyless: { read: true }, secured: { read: true }, policed: { read: true, columns: ['idd'] }, seen: { read: true } } };",
  );
  const { code, stdout } = await run(["doctor", "--database-url", asRole(cluster.url, "app")], dir);
  for (const line of expectedOfDoctor) assert.match(stdout, line);
  assert.equal(/^warn  the slot of an engine that is stopped for longer than 2d is given up/m.test(stdout), isNewest);
  assert.equal(code, 1);
});

const expectedOfDoctor = [
  /^fail  wal_level is replica; run ALTER SYSTEM SET wal_level = logical/m,
  /^fail  a replication connection is refused: .*; run ALTER ROLE … REPLICATION/m,
  /^fail  the role may not make .*; run GRANT CREATE ON DATABASE "postgres" TO "app"$/m,
  /^warn  a stopped engine makes Postgres keep WAL until the disk is full; set max_slot_wal_keep_size/m,
  /^warn  wal_sender_timeout is 0/m,
  /^warn  the role may not make event triggers/m,
  /^fail  the publication walcast does not publish every operation; run ALTER PUBLICATION walcast SET/m,
  /^fail  the publication walcast has row filters or column lists/m,
  /^fail  "public"\."keyless" has no primary key; run ALTER TABLE "public"\."keyless" ADD PRIMARY KEY/m,
  /^fail  "public"\."secured" may not be read; run GRANT SELECT ON "public"\."secured"/m,
  /^fail  "public"\."secured" has row-level security/m,
  /^fail  "public"\."policed" has no column "idd", which its list of columns names/m,
  /^fail  "public"\."policed" cannot be served without "id", which is part of its key/m,
  /^warn  "public"\."policed" has row-level security, which says nothing about what clients read/m,
  /^fail  "public"\."seen" is not a table/m,
  /^warn  "public"\."secured" does not have REPLICA IDENTITY FULL/m,
];

test("a start on a server without logical WAL, or with a role without rights, names the mend", async (t) => {
  const dir = await emptyDirectory(t);
  const cluster = await testCluster({ wal_level: "replica" }, t);
  const unfit = await run(["start", "--port", "0", "--database-url", cluster.url], dir);
  assert.match(
    unfit.stderr,
    /^walcast: .*expected wal_level = logical, found replica; .*ALTER SYSTEM SET wal_level = logical/,
  );
  const { url, query, name } = await testDatabase(t);
  await query(`create role ${name} login password 'app'`);
  const denied = await run(["start", "--port", "0", "--database-url", asRole(url, name), "--slot", name], dir);
  assert.match(denied.stderr, /^walcast: .*permission denied.*ALTER ROLE … REPLICATION; GRANT CREATE ON DATABASE/);
  assert.deepEqual([unfit.code, denied.code], [1, 1]);
});

test("migrate makes Walcast's schema, and again changes nothing", async (t) => {
  const dir = await emptyDirectory(t);
  const { url, query } = await testDatabase(t);
  for (const _ of [1, 2]) assert.equal((await run(["migrate", "--database-url", url], dir)).code, 0);
  assert.equal(
    (await query("select to_regclass('walcast.schema_changes') as made")).rows[0]!.made,
    "walcast.schema_changes",
  );
});

test("types writes the interface Database of what is served, which Kysely takes", async (t) => {
  const dir = await emptyDirectory(t);
  const { url, query } = await testDatabase(t);
  await query("create schema sales");
  await query("create type mood as enum ('fine', 'so so')");
  await query(
    "create table sales.orders (id int8 primary key, note text not null, mood mood, secret text, at timestamptz not null)",
  );
  await query(
    "create table products (id int primary key, picture bytea, took interval, tags text[] not null default '{}')",
  );
  await query("create view seen as select 1 as one");
  await writeFile(
    join(dir, "walcast.config.ts"),
    "export default { tables: { 'sales.orders': { read: true, columns: ['id', 'note', 'mood', 'at'] } } };",
  );
  const one = await run(["types", "--database-url", url, "--out", "database.ts"], dir);
  assert.deepEqual(one, { code: 0, stdout: "", stderr: "" });
  const written = await readFile(join(dir, "database.ts"), "utf8");
  assert.match(written, /^export interface Database \{\n {2}"sales\.orders": SalesOrders;\n\}$/m);
  assert.match(written, /^ {2}id: number \| bigint;$/m);
  assert.match(written, /"fine" \| "so so"/);
  assert.doesNotMatch(written, /secret|products/i);

  // Without a list of tables, all of them.
  await rm(join(dir, "walcast.config.ts"));
  const { stdout } = await run(["types", "--database-url", url], dir);
  assert.match(stdout, /^ {2}products: Products;$/m);
  assert.match(stdout, /^ {2}picture: Uint8Array \| null;$/m);
  assert.match(stdout, /^ {2}took: string \| null;$/m);
  assert.doesNotMatch(stdout, /seen|walcast/i);

  await writeFile(join(dir, "walcast.config.ts"), "export default { tables: { nowhere: { read: true } } };");
  const none = await run(["types", "--database-url", url], dir);
  assert.match(none.stderr, /^walcast: write types: there is no table "public"\."nowhere"; create it/);
  assert.equal(none.code, 1);
  await compiles(t, written);
});

/** Beside the packages, so that they are found as in an application's folder. */
async function compiles(t: TestContext, database: string): Promise<void> {
  const folder = join(fileURLToPath(root), "node_modules", ".cache", `types-${process.pid}`);
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "database.ts"), database);
  await writeFile(
    join(folder, "app.ts"),
    `import { createClient } from "@walcast/client";
     import type { Database } from "./database.ts";
     const client = createClient<Database>({ url: "ws://localhost:4437", shapes: { "sales.orders": { table: "sales.orders" } } });
     const live = client.live((db) => db.selectFrom("sales.orders").select(["id", "mood", "at"]).orderBy("at"));
     export const first: { id: number | bigint; mood: "fine" | "so so" | null; at: Date } | undefined = live.rows[0];
     // @ts-expect-error: it is not served
     client.live((db) => db.selectFrom("sales.orders").select("secret"));`,
  );
  const options = {
    extends: relative(folder, fileURLToPath(new URL("tsconfig.json", root))),
    include: ["*"],
    exclude: [],
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(options));
  const tsc = fileURLToPath(new URL("node_modules/typescript/bin/tsc", root));
  const { stdout } = await promisify(execFile)(process.execPath, [tsc, "-p", folder]).catch(
    (error: { stdout: string }) => error,
  );
  assert.equal(stdout, "");
}

function asRole(url: string, role: string): string {
  const changed = new URL(url);
  changed.username = role;
  changed.password = "app";
  return changed.href;
}

async function emptyDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-cli-"));
  await chmod(directory, 0o755);
  await mkdir(join(directory, "data"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

function spawnCli(args: readonly string[], cwd: string): ChildProcessByStdio<null, Readable, Readable> {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith("WALCAST_") && name !== "NODE_TEST_CONTEXT"),
  );
  return spawn(process.execPath, [...processFlags, cli, ...args], {
    cwd,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function run(args: readonly string[], cwd: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawnCli(args, cwd);
  const [stdout, stderr, [code]] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    once(child, "close") as Promise<[number]>,
  ]);
  return { code, stdout, stderr };
}

/** Resolves when it streams, with the URL it logs. */
async function startCli(
  t: TestContext,
  args: readonly string[],
  cwd: string,
): Promise<{ child: ChildProcess; url: string }> {
  const child = spawnCli(args, cwd);
  t.after(() => void child.kill("SIGKILL"));
  const said = textOf(child.stderr);
  for await (const line of createInterface({ input: child.stdout })) {
    const { msg, url } = JSON.parse(line) as { msg: string; url?: string };
    if (msg === "streaming" && url !== undefined) {
      child.stdout.resume();
      return { child, url };
    }
  }
  throw new Error(`walcast ${args.join(" ")} ended: ${await said}`);
}

async function textOf(stream: NodeJS.ReadableStream): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return text;
}
