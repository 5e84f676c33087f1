/** A replica in a directory, in Node, set aside where PGlite cannot open what is in it. */
import { PGlite } from "@electric-sql/pglite";
import type { Directory } from "../directory.ts";
import { preparedFile } from "./empty.ts";
import { alwaysCurrent, type Storage, type StorageInspection } from "./storage.ts";

export class DirectoryStorage implements Storage {
  isNew = false;
  private readonly directory: Directory;

  constructor(directory: Directory) {
    this.directory = directory;
  }

  create(): PGlite {
    this.isNew = !this.directory.fs.existsSync(`${this.directory.path}/PG_VERSION`);
    const loadDataDir = this.isNew ? preparedFile(this.directory.fs) : undefined;
    return new PGlite(this.directory.path, loadDataDir ? { loadDataDir } : {});
  }

  /** Under another name, for whoever wants to look into it. */
  setAside(): string {
    const aside = `${this.directory.path}.damaged-${new Date().toISOString().replaceAll(":", "-")}`;
    this.directory.fs.renameSync(this.directory.path, aside);
    return `it is kept as ${aside}`;
  }

  hasRoom(): undefined {
    return undefined;
  }

  /** Postgres has written it, and the operating system has it. */
  changed(): void {}

  async flush(): Promise<void> {}

  inspect(): StorageInspection {
    return alwaysCurrent("directory");
  }

  release(): void {
    this.directory.release();
  }
}
