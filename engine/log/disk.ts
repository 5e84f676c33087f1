/** The calls that the log makes to write its files, off the event loop. Handed in, so that a test can have a disk that is full. */
import fs from "node:fs";
import path from "node:path";

export interface Disk {
  /** Writes all of it, one part after the other, from `position` on. */
  write(fd: number, parts: readonly Buffer[], position: number): Promise<void>;
  /** Resolves when what was written to the file survives a loss of power. */
  sync(fd: number): Promise<void>;
}

export const realDisk: Disk = {
  async write(fd, parts, position) {
    let left = parts;
    for (let at = position; left.length > 0;) {
      const written = await writeOnce(fd, left, at);
      at += written;
      left = after(left, written);
    }
  },
  sync: (fd) => new Promise((resolve, reject) => fs.fdatasync(fd, (error) => (error ? reject(error) : resolve()))),
};

/** So little goes into the kernel's memory faster than another thread could be asked to do it. */
const writtenAtOnceBytesMax = 256 * 1024;

function writeOnce(fd: number, parts: readonly Buffer[], position: number): number | Promise<number> {
  if (parts.reduce((sum, { length }) => sum + length, 0) <= writtenAtOnceBytesMax)
    return fs.writevSync(fd, parts, position);
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, written: number): void => (error ? reject(error) : resolve(written));
    if (parts.length === 1) fs.write(fd, parts[0]!, 0, parts[0]!.length, position, done);
    else fs.writev(fd, parts, position, done);
  });
}

/** What of the parts is left after so many bytes: the kernel may take less than it was given. */
function after(parts: readonly Buffer[], bytes: number): readonly Buffer[] {
  let skipped = 0;
  while (skipped < parts.length && bytes >= parts[skipped]!.length) bytes -= parts[skipped++]!.length;
  if (bytes === 0) return skipped === 0 ? parts : parts.slice(skipped);
  return [parts[skipped]!.subarray(bytes), ...parts.slice(skipped + 1)];
}

/** Exactly these bytes; undefined where the file does not have them. */
export async function readAt(
  file: fs.promises.FileHandle,
  offset: number,
  length: number,
): Promise<Buffer | undefined> {
  if (offset < 0 || length < 0) return undefined;
  const bytes = Buffer.allocUnsafeSlow(length);
  let have = 0;
  while (have < length) {
    const { bytesRead } = await file.read(bytes, have, length - have, offset + have);
    if (bytesRead === 0) return undefined;
    have += bytesRead;
  }
  return bytes;
}

/** Makes the names in a directory durable: what was created, renamed or removed. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await fs.promises.open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes a file durable that somebody else has written. */
export async function syncFile(disk: Disk, file: string): Promise<void> {
  const handle = await fs.promises.open(file, "r+");
  try {
    await disk.sync(handle.fd);
  } finally {
    await handle.close();
  }
}

/** Removes a file that may be gone already. */
export async function removeFile(file: string): Promise<void> {
  await fs.promises.unlink(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
}

export function nameOf(directory: string, position: bigint, extension: string): string {
  return path.join(directory, `${position.toString(16).padStart(16, "0")}.${extension}`);
}

/**
 * A segment that is not needed any more is kept as the next one, since its room is made: the salt tells its old records from
 * new ones. There is one such file; the next takes its place.
 */
export async function setAside(directory: string, file: string): Promise<void> {
  await renameIfThere(file, path.join(directory, spareName));
}

/** Whether there was one, which now is the file of this name. */
export function reuse(directory: string, file: string): Promise<boolean> {
  return renameIfThere(path.join(directory, spareName), file);
}

const spareName = "spare";

async function renameIfThere(from: string, to: string): Promise<boolean> {
  try {
    await fs.promises.rename(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** The oldest first: what a crash leaves is then a log that begins later. */
export async function removeLogFiles(directory: string): Promise<void> {
  const names = await fs.promises.readdir(directory);
  for (const name of names.sort())
    if (/\.(?:segment|large)$|^spare$/.test(name)) await removeFile(path.join(directory, name));
}
