/**
 * One process at a time owns a log's directory: two that write the same segment would leave neither's. The lock is a file
 * that names the process, and when that process began, as pids come round again, in containers at every start.
 */
import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { WalcastError } from "../protocol.ts";

/** Throws `data_dir_in_use`. Gives what lets go of the directory. */
export function lockDirectory(directory: string): () => void {
  const file = path.join(directory, "lock");
  const mine = `${process.pid} ${startOf(process.pid)}`;
  while (!tryCreate(file, `${mine}\n`)) {
    const [pid = 0, start = ""] = read(file).trim().split(" ");
    if (isAlive(Number(pid), start, file)) throw inUse(directory, pid);
    remove(file);
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
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** In clock ticks since the machine started, as Linux tells; empty elsewhere. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html */
function startOf(pid: number): string {
  const stat = read(`/proc/${pid}/stat`);
  // The second field is the command's name in parentheses, and may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
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
