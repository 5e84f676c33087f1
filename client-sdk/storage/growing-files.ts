/**
 * Emscripten's files in memory are arrays, made anew to grow: by an eighth where they are written, and by no more than is asked for
 * where room is made ahead. A table that is loaded would be copied again and again.
 */
import type { PGlite } from "@electric-sql/pglite";

/** As much of Emscripten's MEMFS as is needed. */
interface MemoryFileSystem {
  /** Room for that many bytes, of which those that were not there are zero. */
  expandFileStorage?(file: MemoryFile, bytes: number): void;
  /** The file's size is another. */
  resizeFileStorage?(file: MemoryFile, bytes: number): void;
}

interface MemoryFile {
  readonly contents: { readonly length: number };
  usedBytes: number;
}

// The most that a file has more than it needs, where Emscripten itself would not leave more.
const SPARE_BYTES_MAX = 8 << 20;

const grown = new WeakSet<MemoryFileSystem>();

/** By half, from here on, where its files are in memory. */
export function growFaster({ Module }: Pick<PGlite, "Module">): void {
  const root = Module?.FS as { readonly root?: { readonly mount: { readonly type: MemoryFileSystem } } } | undefined;
  const fs = root?.root?.mount.type;
  if (!fs?.expandFileStorage || !fs.resizeFileStorage || grown.has(fs)) return;
  grown.add(fs);
  const expand = fs.expandFileStorage.bind(fs);
  const resize = fs.resizeFileStorage.bind(fs);
  const grow = (file: MemoryFile, bytes: number): void => {
    const { length } = file.contents;
    expand(file, bytes <= length ? bytes : Math.max(bytes, length + Math.min(length >>> 1, SPARE_BYTES_MAX)));
  };
  fs.expandFileStorage = grow;
  fs.resizeFileStorage = (file, bytes) => {
    if (bytes <= file.usedBytes) return resize(file, bytes);
    grow(file, bytes);
    file.usedBytes = bytes;
  };
}
