/**
 * One process at a time has a replica's directory, in Node: a link beside it names the process, and when that process
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
    while (!this.tryCreate(this.file)) {
      const holder = this.holderIn(this.read(this.file)) ?? this.clear();
      if (holder !== undefined) return holder;
    }
    owned.add(this.file);
    return undefined;
  }

  release(): void {
    if (owned.delete(this.file)) this.remove(this.file);
  }

  /**
   * Only one of several that come at once makes it. A symbolic link is there with all that it says or not at all, and needs no room on a
   * disk that is full; where there can be none it is a file, which is there before it is written.
   */
  private tryCreate(file: string): boolean {
    const mine = `${process.pid} ${this.startOf(process.pid)}`;
    try {
      this.fs.symlinkSync(mine, file);
      return true;
    } catch (error) {
      if (codeOf(error) === "EEXIST") return false;
    }
    try {
      this.fs.writeFileSync(file, mine, { flag: "wx", mode: 0o600 });
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
  private clear(): number | undefined {
    const guard = `${this.file}.guard`;
    if (!this.tryCreate(guard)) return this.removeLeft(guard);
    this.removeLeft(this.file);
    this.remove(guard);
    return undefined;
  }

  /** Where it is nobody's. Gives the pid of whose it is. */
  private removeLeft(file: string): number | undefined {
    const text = this.read(file);
    const holder = this.holderIn(text);
    if (text !== undefined && holder === undefined) this.remove(file);
    return holder;
  }

  private remove(file: string): void {
    this.fs.rmSync(file, { force: true });
  }

  /** The process that it names, where that lives. */
  private holderIn(text = ""): number | undefined {
    const [name, start = ""] = text.trim().split(" ");
    const pid = Number(name);
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
    const stat = this.read(`/proc/${pid}/stat`) ?? "";
    // The second field is the command's name in parentheses, and may hold anything.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  }

  /** Undefined where it is not there; empty where it cannot be read. */
  private read(file: string): string | undefined {
    try {
      const isLink = this.fs.lstatSync(file).isSymbolicLink();
      return isLink ? this.fs.readlinkSync(file) : this.fs.readFileSync(file, "utf8");
    } catch (error) {
      return codeOf(error) === "ENOENT" ? undefined : "";
    }
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it is somebody else's, but it is.
    return codeOf(error) === "EPERM";
  }
}
