/** A file without a name: unlinked as soon as it is open, so that it cannot be left behind. Its owner remembers what is where. */
import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, unlink } from "node:fs/promises";
import path from "node:path";

export class SpoolFile {
  private readonly file: FileHandle;

  private constructor(file: FileHandle) {
    this.file = file;
  }

  static async create(directory: string): Promise<SpoolFile> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const name = path.join(directory, `snapshot-${randomUUID()}`);
    const file = await open(name, "wx+", 0o600);
    await unlink(name);
    return new SpoolFile(file);
  }

  async write(parts: readonly Uint8Array[], at: number): Promise<void> {
    const { bytesWritten } = await this.file.writev(parts, at);
    const wanted = parts.reduce((sum, { length }) => sum + length, 0);
    if (bytesWritten < wanted) throw new Error(`wrote ${bytesWritten} of ${wanted} bytes: the disk is full`);
  }

  async read(at: number, length: number): Promise<Buffer> {
    const { buffer, bytesRead } = await this.file.read(Buffer.allocUnsafe(length), 0, length, at);
    return buffer.subarray(0, bytesRead);
  }

  /** What is under way is waited for. */
  async close(): Promise<void> {
    await this.file.close();
  }
}
