/**
 * The file system that PGlite gets in a browser. Which one it is turns out when it is opened: where `opfs-ahp://` cannot
 * be had there is IndexedDB, under the same name.
 */
import { PGlite } from "@electric-sql/pglite";
import type { Filesystem } from "@electric-sql/pglite/basefs";
import { WalcastError } from "../../engine/protocol.ts";
import { beginEmpty, expectEmpty } from "./empty.ts";
import { clearRemains, FilePool, removePool, unavailable } from "./file-pool.ts";
import { remove } from "./indexed-db.ts";
import { MemoryFiles } from "./memory-files.ts";
import { PageStore } from "./page-store.ts";
import type { Place } from "./place.ts";

export type BrowserPlace = Extract<Place, { name: string }>;

export interface BrowserFilesHooks {
  changed(): void;
  /** What was stored is gone; what is in memory is not. */
  lost(reason: string): void;
}

type InitOptions = Parameters<Filesystem["init"]>[1];

export class BrowserFiles implements Filesystem {
  kind: BrowserPlace["kind"];
  fallback: string | undefined;
  /** There was nothing of a replica in it. */
  isNew = false;
  private readonly place: BrowserPlace;
  private readonly hooks: BrowserFilesHooks;
  private pglite: PGlite | undefined;
  private files: Filesystem | undefined;
  private pages: PageStore | undefined;
  private pool: FilePool | undefined;

  constructor(place: BrowserPlace, hooks: BrowserFilesHooks) {
    this.place = place;
    this.kind = place.kind;
    this.hooks = hooks;
  }

  async init(pglite: PGlite, options: InitOptions): ReturnType<Filesystem["init"]> {
    this.pglite = pglite;
    if (this.kind === "opfs-ahp") this.fallback = unavailable();
    if (this.kind === "idb" || this.fallback !== undefined) return this.initPages(pglite, options);
    const isNew = await clearRemains(this.place.name);
    if (isNew) expectEmpty();
    try {
      return await this.initPool(pglite, options);
    } catch (error) {
      // What is there and cannot be opened is damage. Where nothing is, the browser does not give enough files.
      if (!isNew || error instanceof WalcastError) throw error;
      this.fallback = `the browser did not give enough files: ${error instanceof Error ? error.message : String(error)}`;
      await removePool(this.place.name);
      return this.initPages(pglite, options);
    }
  }

  async initialSyncFs(): Promise<void> {
    this.isNew = false;
    await this.opened.initialSyncFs();
    const fs = this.pglite!.Module.FS;
    this.isNew = !fs.analyzePath(`${PGlite.paths.PGDATA}/PG_VERSION`).exists;
    if (!(await beginEmpty(fs))) await this.pool?.supplyAll();
  }

  /** PGlite asks for it after every query of its own. */
  async syncToFs(): Promise<void> {
    this.hooks.changed();
  }

  /** Whether Postgres may soon lack something that only `store` can supply. */
  get isShort(): boolean {
    return this.pool?.isShort ?? false;
  }

  store(): Promise<void> {
    return this.pool ? this.pool.store() : this.opened.syncToFs(true);
  }

  dumpTar(...args: Parameters<Filesystem["dumpTar"]>): ReturnType<Filesystem["dumpTar"]> {
    return this.opened.dumpTar(...args);
  }

  closeFs(): Promise<void> {
    return this.opened.closeFs();
  }

  /** Also where it could not be opened. */
  release(): void {
    this.pool?.release();
    void this.pages?.close();
  }

  async remove(): Promise<void> {
    this.release();
    if (this.kind === "opfs-ahp") await removePool(this.place.name);
    else await remove(this.databaseName);
  }

  private async initPool(pglite: PGlite, options: InitOptions): ReturnType<Filesystem["init"]> {
    const { pool, options: opened } = await FilePool.open(this.place.name, pglite, options);
    this.pool = pool;
    this.files = pool.files;
    return opened;
  }

  private async initPages(pglite: PGlite, options: InitOptions): ReturnType<Filesystem["init"]> {
    this.kind = "idb";
    const { MemfsFrontendFS } = await import("@electric-sql/pglite/memfs-frontend");
    const files = new MemoryFiles(() => pglite.Module.FS);
    this.pages = new PageStore(this.databaseName, files, (reason) => this.hooks.lost(reason));
    this.files = new MemfsFrontendFS(this.pages);
    return this.files.init(pglite, options);
  }

  private get databaseName(): string {
    return `walcast/${this.place.name}`;
  }

  private get opened(): Filesystem {
    if (!this.files) throw new Error("expected the files of the replica to be open");
    return this.files;
  }
}
