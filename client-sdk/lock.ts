/**
 * One process at a time has a replica's directory, in Node: a file beside it names the process, and when that process
 * began, as pids come round again, in containers at every start. The engine's log has the like for its own; nothing of
 * Node can be in what the two share.
 */
import type * as FileSystem from "node:fs";

/** In this process, where the operating system could not tell two clients apart: also an earlier process may have had its pid. */
const owned = new Set<string>();

export class Lock {
  private readonly file: string;
  private readonly fs: typeof FileSystem;

  constructor(file: string, fs: typeof FileSystem) {
    this.file = file;
    this.fs = fs;
  }

  /** Gives the pid of whoever has it; undefined where it is ours from now on. */
  take(): number | undefined {
    if (owned.has(this.file)) return process.pid;
    while (!this.tryCreate()) {
      const holder = this.holder();
      if (holder !== undefined) return holder;
      this.remove();
    }
    owned.add(this.file);
    return undefined;
  }

  release(): void {
    if (owned.delete(this.file)) this.remove();
  }

  /** Only one of several that come at once makes the file. */
  private tryCreate(): boolean {
    try {
      this.fs.writeFileSync(this.file, `${process.pid} ${this.startOf(process.pid)}\n`, { flag: "wx", mode: 0o600 });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw error;
    }
  }

  private remove(): void {
    this.fs.rmSync(this.file, { force: true });
  }

  /** The process that it names, where that lives. */
  private holder(): number | undefined {
    const [text, start = ""] = this.read(this.file).trim().split(" ");
    const pid = Number(text);
    if (!Number.isSafeInteger(pid) || pid <= 0 || pid === process.pid) return undefined;
    if (start !== "" && this.startOf(pid) !== "" && this.startOf(pid) !== start) return undefined;
    return isRunning(pid) && !this.hasEnded(pid) ? pid : undefined;
  }

  /** In clock ticks since the machine started, as Linux tells; empty elsewhere. */
  private startOf(pid: number): string {
    return this.statOf(pid)[19] ?? "";
  }

  /** A zombie, which nobody has waited for, is but an exit code; unless it is a first thread that others outlive. */
  private hasEnded(pid: number): boolean {
    const stat = this.statOf(pid);
    return /^[ZX]/.test(stat[0] ?? "") && Number(stat[17]) <= 1;
  }

  /** From the third field on. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html */
  private statOf(pid: number): string[] {
    const stat = this.read(`/proc/${pid}/stat`);
    // The second field is the command's name in parentheses, and may hold anything.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  }

  private read(file: string): string {
    try {
      return this.fs.readFileSync(file, "utf8");
    } catch {
      return "";
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it is somebody else's, but it is.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
