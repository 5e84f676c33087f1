/** A replica in memory: nothing of it survives its process. */
import { PGlite } from "@electric-sql/pglite";
import { EmscriptenBuiltinFilesystem } from "@electric-sql/pglite/basefs";
import { beginEmpty, expectEmpty } from "./empty.ts";
import { growFaster } from "./growing-files.ts";
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
    growFaster(this.pg!);
    await beginEmpty(this.pg!.Module.FS);
  }

  override async closeFs(): Promise<void> {
    this.pg!.Module.FS.quit();
  }
}
