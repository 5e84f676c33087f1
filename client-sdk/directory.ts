/**
 * A replica's directory, in Node: one process at a time, since two would destroy it, and set aside where PGlite cannot
 * open what is in it. Node's modules are asked for at run time only: the same code runs in browsers.
 */
import type * as FileSystem from "node:fs";
import type * as Path from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { WalcastError } from "../engine/protocol.ts";
import { Lock } from "./lock.ts";
import { preparedFile } from "./storage/empty.ts";
import { alwaysCurrent, type Storage, type StorageInspection } from "./storage/storage.ts";

export class Directory implements Storage {
  isNew = false;
  private readonly path: string;
  private readonly lock: Lock;
  private readonly fs: typeof FileSystem;

  /** Takes it for this process. Throws `config_invalid`. */
  constructor(text: string) {
    const { fs, path } = nodeModules(text);
    this.fs = fs;
    this.path = path.resolve(text);
    fs.mkdirSync(path.dirname(this.path), { recursive: true });
    const lock = `${this.path}.lock`;
    this.lock = new Lock(lock, fs);
    const holder = this.lock.take();
    if (holder !== undefined) throw inUse(this.path, lock, holder);
  }

  create(): PGlite {
    this.isNew = !this.fs.existsSync(`${this.path}/PG_VERSION`);
    const loadDataDir = this.isNew ? preparedFile(this.fs) : undefined;
    return new PGlite(this.path, loadDataDir ? { loadDataDir } : {});
  }

  /** Under another name, for whoever wants to look into it. */
  setAside(): string {
    const aside = `${this.path}.damaged-${new Date().toISOString().replaceAll(":", "-")}`;
    this.fs.renameSync(this.path, aside);
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
    this.lock.release();
  }
}

function nodeModules(text: string): { fs: typeof FileSystem; path: typeof Path } {
  const builtin = (globalThis as { process?: Partial<NodeJS.Process> }).process?.getBuiltinModule;
  if (!builtin)
    throw new WalcastError(
      "config_invalid",
      `create a client: expected a replica that is possible here, found the directory ${JSON.stringify(text)}`,
      { hint: 'A directory can be one in Node 20.16 or later. In a browser, take "opfs-ahp://name" or "idb://name".' },
    );
  return { fs: builtin("node:fs"), path: builtin("node:path") };
}

function inUse(path: string, lock: string, holder: number): WalcastError {
  return new WalcastError(
    "config_invalid",
    `open a replica: expected ${path} to be this client's alone, found process ${holder} using it`,
    { hint: `If that process is none of ours, remove ${lock}.` },
  );
}
