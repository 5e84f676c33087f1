/**
 * A replica's files in the browser's own file system, through PGlite's pool of open files (OpfsAhpFS), which needs a
 * dedicated worker. Postgres reads and writes them directly: what is committed survives the worker and the browser.
 *
 * Around that pool this file keeps what it does not: a store that another worker has only just let go of is waited for,
 * one that is not whole is refused, a file that the browser refuses is an error instead of a promise that never
 * settles, and there are files to take before Postgres needs them.
 */
import type { PGlite } from "@electric-sql/pglite";
import type { Filesystem } from "@electric-sql/pglite/basefs";
import type { OpfsAhpFS } from "@electric-sql/pglite/opfs-ahp";
import { WalcastError } from "../../engine/protocol.ts";

type InitOptions = Parameters<Filesystem["init"]>[1];
type Directory = OpfsAhpFS["state"]["root"];

// An empty replica has 335 files, a table up to six; what PGlite makes where nothing is prepared has a thousand.
const FILES_AT_FIRST = 450;
const FILES_UNPREPARED = 1200;
const SPARE_FILES = 100;
const SPARE_FILES_MIN = 60;
// A worker that was ended lets go of its files soon, but not at once: in the middle of a script it has two seconds to
// end by itself, and a machine with much to do takes longer.
const BUSY_MS_MAX = 10_000;
const ASK_AGAIN_MS = 50;
// Its list is written anew in place: seldom, since a worker that ends in the middle of that leaves none.
const LIST_EVERY_MS = 600_000;

const parent = "walcast";

/** Those that could not be opened. Files that they had asked for before may still come, and are let go of then. */
const refused = new Set<FilePool>();

/** Why this platform cannot have one; undefined where it can be tried. */
export function unavailable(): string | undefined {
  const hasFiles = typeof FileSystemFileHandle !== "undefined" && navigator.storage?.getDirectory !== undefined;
  const hasHandles = hasFiles && "createSyncAccessHandle" in FileSystemFileHandle.prototype;
  return hasHandles ? undefined : "this browser has no synchronous files for workers";
}

export class FilePool {
  readonly files: OpfsAhpFS;
  private readonly name: string;

  private constructor(name: string, files: OpfsAhpFS) {
    this.name = name;
    this.files = files;
  }

  /** Rejects with the browser's own error, or where what is there is not whole. */
  static async open(
    name: string,
    pglite: PGlite,
    options: InitOptions,
  ): Promise<{ pool: FilePool; options: Awaited<ReturnType<Filesystem["init"]>> }> {
    const { OpfsAhpFS } = await import("@electric-sql/pglite/opfs-ahp");
    for (const giveUpMs = performance.now() + BUSY_MS_MAX; ; await pause()) {
      const sizes = { initialPoolSize: FILES_AT_FIRST, maintainedPoolSize: SPARE_FILES };
      const pool = new FilePool(name, new OpfsAhpFS(`${parent}/${name}`, sizes));
      try {
        const opened = await noRefusal(pool.files.init(pglite, options));
        pool.checkWhole("", pool.files.state.root);
        pool.files.checkpointInterval = LIST_EVERY_MS;
        return { pool, options: opened };
      } catch (error) {
        pool.release();
        refused.add(pool);
        if (!isBusy(error) && !(error instanceof NotWhole)) throw error;
        if (performance.now() > giveUpMs) throw isBusy(error) ? inUse(name, error) : error;
      }
    }
  }

  /** Whether Postgres could soon ask for more new files than there are. */
  get isShort(): boolean {
    return this.files.state.pool.length < SPARE_FILES_MIN;
  }

  /** As many as PGlite takes to begin by itself. */
  supplyAll(): Promise<void> {
    return noRefusal(this.files.maintainPool(FILES_UNPREPARED));
  }

  /** Supplies files, and makes what was written outlast the machine. Rejects where the store is not there any more. */
  async store(): Promise<void> {
    await noRefusal(this.files.syncToFs(false));
    const directory = await directoryOf(this.name);
    await directory.getFileHandle("state.txt");
  }

  /** Also of a pool that is half open. */
  release(): void {
    // It ends by telling a PGlite, which may not be there.
    this.files.closeFs().catch(() => {});
  }

  private checkWhole(path: string, directory: Directory): void {
    for (const [name, node] of Object.entries(directory.children)) {
      if (node.type === "directory") this.checkWhole(`${path}/${name}`, node);
      else this.checkOpen(`${path}/${name}`);
    }
  }

  /** A file that could not be opened is missing from the pool, which says so to the console only. */
  private checkOpen(path: string): void {
    try {
      this.files.lstat(path);
    } catch (cause) {
      throw new NotWhole(`open ${path}: expected a file, found none that can be opened`, { cause });
    }
  }
}

export async function removePool(name: string): Promise<void> {
  const root = await navigator.storage.getDirectory();
  const directory = await root.getDirectoryHandle(parent, { create: true });
  for (const giveUpMs = performance.now() + BUSY_MS_MAX; ; await pause()) {
    try {
      return await directory.removeEntry(name, { recursive: true });
    } catch (error) {
      if (isNamed(error, "NotFoundError")) return;
      if (performance.now() > giveUpMs || !isBusy(error)) throw error;
    }
  }
}

class NotWhole extends Error {}

function inUse(name: string, cause: unknown): WalcastError {
  return new WalcastError(
    "config_invalid",
    `open a replica: expected opfs-ahp://${name} to be this client's alone, found another one using it`,
    { cause },
  );
}

/** Files whose list is gone would never be used again. True where there is no list. */
export async function clearRemains(name: string): Promise<boolean> {
  const directory = await directoryOf(name);
  const list = await directory.getFileHandle("state.txt", { create: true });
  if ((await list.getFile()).size > 0) return false;
  await directory.removeEntry("data", { recursive: true }).catch(() => {});
  return true;
}

async function directoryOf(name: string): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  const directory = await root.getDirectoryHandle(parent, { create: true });
  return directory.getDirectoryHandle(name, { create: true });
}

/** The pool opens its files in promises that nobody looks at, and waits for ever for one that the browser refuses. */
async function noRefusal<T>(work: Promise<T>): Promise<T> {
  const { promise: refused, reject } = Promise.withResolvers<never>();
  const listener = (event: PromiseRejectionEvent): void => {
    event.preventDefault();
    reject(event.reason);
  };
  addEventListener("unhandledrejection", listener);
  try {
    return await Promise.race([work, refused]);
  } finally {
    removeEventListener("unhandledrejection", listener);
  }
}

function isBusy(error: unknown): boolean {
  return isNamed(error, "NoModificationAllowedError");
}

function isNamed(error: unknown, name: string): boolean {
  return error instanceof Error && error.name === name;
}

async function pause(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
  for (const pool of refused) pool.release();
}
