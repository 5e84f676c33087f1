/**
 * The file system that PGlite gets in a browser. Which one it is turns out when it is opened: IndexedDB is there for
 * `opfs-ahp://` where the platform has no files for it.
 */
import { PGlite } from "@electric-sql/pglite";
import type { Filesystem } from "@electric-sql/pglite/basefs";
import { beginEmpty } from "./empty.ts";
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
  private readonly place: BrowserPlace;
  private readonly hooks: BrowserFilesHooks;
  /** There was nothing of a replica in it. */
  isNew = false;
  private pglite: PGlite | undefined;
  private files: Filesystem | undefined;
  private pages: PageStore | undefined;

  constructor(place: BrowserPlace, hooks: BrowserFilesHooks) {
    this.place = place;
    this.kind = place.kind;
    this.hooks = hooks;
  }

  async init(pglite: PGlite, options: InitOptions): ReturnType<Filesystem["init"]> {
    this.pglite = pglite;
    const { MemfsFrontendFS } = await import("@electric-sql/pglite/memfs-frontend");
    const files = new MemoryFiles(() => pglite.Module.FS);
    this.pages = new PageStore(this.databaseName, files, (reason) => this.hooks.lost(reason));
    this.files = new MemfsFrontendFS(this.pages);
    return this.files.init(pglite, options);
  }

  async initialSyncFs(): Promise<void> {
    this.isNew = false;
    await this.opened.initialSyncFs();
    const fs = this.pglite!.Module.FS;
    this.isNew = !fs.analyzePath(`${PGlite.paths.PGDATA}/PG_VERSION`).exists;
    await beginEmpty(fs);
  }

  /** PGlite asks for it after every query of its own. */
  async syncToFs(): Promise<void> {
    this.hooks.changed();
  }

  store(): Promise<void> {
    return this.opened.syncToFs(true);
  }

  dumpTar(...args: Parameters<Filesystem["dumpTar"]>): ReturnType<Filesystem["dumpTar"]> {
    return this.opened.dumpTar(...args);
  }

  closeFs(): Promise<void> {
    return this.opened.closeFs();
  }

  /** Also where it could not be opened. */
  release(): void {
    void this.pages?.close();
  }

  async remove(): Promise<void> {
    this.release();
    await remove(this.databaseName);
  }

  private get databaseName(): string {
    return `walcast/${this.place.name}`;
  }

  private get opened(): Filesystem {
    if (!this.files) throw new Error("expected the files of the replica to be open");
    return this.files;
  }
}
