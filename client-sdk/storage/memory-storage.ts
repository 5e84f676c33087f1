/** A replica in memory: nothing of it survives its process. */
import { PGlite } from "@electric-sql/pglite";
import { EmscriptenBuiltinFilesystem } from "@electric-sql/pglite/basefs";
import { beginEmpty, expectEmpty } from "./empty.ts";
import { alwaysCurrent, type Storage, type StorageInspection } from "./storage.ts";

/**
 * Nothing of a replica in memory survives its process, and its files are arrays that are made anew to grow. So they grow by
 * writing, which leaves room, instead of by `fallocate`, which leaves none; and of the write-ahead log, which nobody will
 * ever read, there is as little as can be. Measured: a third off the time of a first load. Buffers are copies of what is in
 * memory anyway: a quarter of PGlite's 128 MB does as well, and need not be cleared at the start.
 */
const startParams = [
  ...PGlite.defaultStartParams,
  ...[
    "file_extend_method=write_zeros",
    "shared_buffers=32MB",
    "wal_init_zero=off",
    "wal_level=minimal",
    "max_wal_senders=0",
  ].flatMap((setting) => ["-c", setting]),
];

export class MemoryStorage implements Storage {
  readonly isNew = true;

  create(): PGlite {
    expectEmpty();
    return new PGlite({ fs: new MemoryFiles(), startParams });
  }

  setAside(): string {
    return "it is gone";
  }

  hasRoom(): undefined {
    return undefined;
  }

  changed(): void {}

  async flush(): Promise<void> {}

  inspect(): StorageInspection {
    return alwaysCurrent("memory");
  }

  release(): void {}
}

class MemoryFiles extends EmscriptenBuiltinFilesystem {
  override async initialSyncFs(): Promise<void> {
    const fs = this.pg!.Module.FS;
    growFaster((fs as unknown as { root: { mount: { type: MemoryFileSystem } } }).root.mount.type);
    await beginEmpty(fs);
  }

  override async closeFs(): Promise<void> {
    this.pg!.Module.FS.quit();
  }
}

/** As much of Emscripten's MEMFS as is needed. */
interface MemoryFileSystem {
  expandFileStorage?(file: { readonly contents: { readonly length: number } }, bytes: number): void;
}

// The most that a file has more than it needs, where Emscripten itself would not leave more.
const SPARE_BYTES_MAX = 8 << 20;

/** By half, where Emscripten makes a file anew for each eighth: a table that is loaded would be copied a dozen times. */
function growFaster(fs: MemoryFileSystem): void {
  const expand = fs.expandFileStorage?.bind(fs);
  if (!expand) return;
  fs.expandFileStorage = (file, bytes) => {
    const { length } = file.contents;
    expand(file, bytes <= length ? bytes : Math.max(bytes, length + Math.min(length >>> 1, SPARE_BYTES_MAX)));
  };
}
