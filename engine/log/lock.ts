/**
 * One process at a time owns a log's directory: two that write the same segment would leave neither's. The lock is a link
 * whose target names the process, and when that process began, as pids come round again, in containers at every start.
 */
import { lstatSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { WalcastError } from "../protocol.ts";

/** Of a process that was killed a moment ago, the kernel may still be closing the files. */
const endingMs = 3_000;
const askAgainMs = 20;

/** Throws `data_dir_in_use`. Gives what lets go of the directory. */
export async function lockDirectory(directory: string): Promise<() => void> {
  const file = path.join(directory, "lock");
  const until = performance.now() + endingMs;
  while (!tryCreate(file)) {
    const holder = holderIn(read(file), file) ?? clear(file);
    if (holder === undefined) continue;
    if (owned.has(file) || performance.now() > until) throw inUse(directory, holder);
    await delay(askAgainMs);
  }
  owned.add(file);
  return () => {
    owned.delete(file);
    remove(file);
  };
}

/** The locks that this process holds: one with its own pid may also be an earlier process' that had the same. */
const owned = new Set<string>();

/**
 * Only one of several that come at once makes it. A symbolic link is there with all that it says or not at all, and needs no room on a
 * disk that is full; where there can be none it is a file, which is there before it is written.
 */
function tryCreate(file: string): boolean {
  const mine = `${process.pid} ${startOf(process.pid)}`;
  try {
    symlinkSync(mine, file);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
  }
  try {
    writeFileSync(file, mine, { flag: "wx", mode: 0o600 });
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

/**
 * What nobody holds goes. One at a time looks, and removes what it found, or somebody's might go who has taken it since: gives the pid
 * of another who is at it.
 */
function clear(file: string): number | undefined {
  const guard = `${file}.guard`;
  if (!tryCreate(guard)) return removeLeft(guard);
  removeLeft(file);
  remove(guard);
  return undefined;
}

/** Where it is nobody's. Gives the pid of whose it is. */
function removeLeft(file: string): number | undefined {
  const text = read(file);
  const holder = holderIn(text, file);
  if (text !== undefined && holder === undefined) remove(file);
  return holder;
}

/** The process that it names, where that lives. */
function holderIn(text: string | undefined, file: string): number | undefined {
  const [name, start = ""] = (text ?? "").trim().split(" ");
  const pid = Number(name);
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  if (pid === process.pid) return owned.has(file) ? pid : undefined;
  if (start !== "" && startOf(pid) !== "" && startOf(pid) !== start) return undefined;
  return isRunning(pid) && !hasEnded(pid) ? pid : undefined;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM";
  }
}

/** In clock ticks since the machine started, as Linux tells; empty elsewhere. */
function startOf(pid: number): string {
  return statOf(pid)[19] ?? "";
}

/** A zombie, which nobody has waited for, is but an exit code; unless it is a first thread that others outlive. */
function hasEnded(pid: number): boolean {
  const stat = statOf(pid);
  return /^[ZX]/.test(stat[0] ?? "") && Number(stat[17]) <= 1;
}

/** From the third field on. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html */
function statOf(pid: number): string[] {
  const stat = read(`/proc/${pid}/stat`) ?? "";
  // The second field is the command's name in parentheses, and may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Undefined where it is not there; empty where it cannot be read. */
function read(file: string): string | undefined {
  try {
    return lstatSync(file).isSymbolicLink() ? readlinkSync(file) : readFileSync(file, "utf8");
  } catch (error) {
    return codeOf(error) === "ENOENT" ? undefined : "";
  }
}

function remove(file: string): void {
  rmSync(file, { force: true });
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

function inUse(directory: string, pid: number): WalcastError {
  return new WalcastError("data_dir_in_use", `open the log in ${directory}: the process ${pid} has it open`, {
    hint: "stop that engine, or give this one another dataDir",
  });
}
