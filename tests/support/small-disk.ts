/** A file system of a few MB, in memory, that a test can fill up and make room on. Mounting one takes root. */
import { execFile } from "node:child_process";
import { mkdtemp, open, rmdir, statfs, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const zeros = Buffer.alloc(64 * 1024);

export class SmallDisk {
  readonly directory: string;
  private readonly filler: string;

  /** Or why there is none. */
  static async mount(megabytes: number): Promise<SmallDisk | string> {
    const directory = await mkdtemp(join(tmpdir(), "walcast-disk-"));
    try {
      await run("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", directory]);
      return new SmallDisk(directory);
    } catch (error) {
      await rmdir(directory);
      return `a small file system cannot be mounted here: ${(error as Error).message}`;
    }
  }

  private constructor(directory: string) {
    this.directory = directory;
    this.filler = join(directory, "filler");
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.directory);
    return bavail * bsize;
  }

  /** Takes all the room but about so much. */
  async fill(leftBytes = 0): Promise<void> {
    const file = await open(this.filler, "w");
    try {
      for (let free = Infinity; free > leftBytes; free = await this.freeBytes())
        await file.write(zeros, 0, Math.min(zeros.length, free - leftBytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    } finally {
      await file.close();
    }
  }

  async makeRoom(): Promise<void> {
    await unlink(this.filler);
  }

  async unmount(): Promise<void> {
    await run("umount", [this.directory]);
    await rmdir(this.directory);
  }
}
