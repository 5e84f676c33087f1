/**
 * One process at a time owns a log's directory: two that write the same segment would leave neither's. The lock is a file
 * that names the process, and when that process began, as pids come round again, in containers at every start.
 */
import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { WalcastError } from "../protocol.ts";

/** Of a process that was killed a moment ago, the kernel may still be closing the files. */
const endingMs = 3_000;
const askAgainMs = 20;

/** Throws `data_dir_in_use`. Gives what lets go of the directory. */
export async function lockDirectory(directory: string): Promise<() => void> {
  const file = path.join(directory, "lock");
  const mine = `${process.pid} ${startOf(process.pid)}`;
  const until = performance.now() + endingMs;
  while (!tryCreate(file, `${mine}\n`)) {
    const [pid = 0, start = ""] = read(file).trim().split(" ");
    if (!isAlive(Number(pid), start, file)) remove(file);
    else if (owned.has(file) || performance.now() > until) throw inUse(directory, pid);
    else await delay(askAgainMs);
  }
  owned.add(file);
  return () => {
    owned.delete(file);
    remove(file);
  };
}

/** The locks that this process holds: one with its own pid may also be an earlier process' that had the same. */
const owned = new Set<string>();

function tryCreate(file: string, text: string): boolean {
  try {
    writeFileSync(file, text, { flag: "wx", mode: 0o600 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function isAlive(pid: number, start: string, file: string): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  if (pid === process.pid) return owned.has(file);
  if (start !== "" && startOf(pid) !== "" && startOf(pid) !== start) return false;
  return isRunning(pid) && !hasEnded(pid);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
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
  const stat = read(`/proc/${pid}/stat`);
  // The second field is the command's name in parentheses, and may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function inUse(directory: string, pid: string | number): WalcastError {
  return new WalcastError("data_dir_in_use", `open the log in ${directory}: the process ${pid} has it open`, {
    hint: "stop that engine, or give this one another dataDir",
  });
}
