/** The PGlite behind a replica: one of our own, in the place that was asked for, or one that the application has made and will close. */
import type { PGlite } from "@electric-sql/pglite";
import { WalcastError } from "../engine/protocol.ts";
import { type Claim, release } from "./claim.ts";
import { BrowserStorage } from "./storage/browser-storage.ts";
import { DirectoryStorage } from "./storage/directory-storage.ts";
import { distrust } from "./storage/empty.ts";
import { growFaster } from "./storage/growing-files.ts";
import { MemoryStorage } from "./storage/memory-storage.ts";
import { alwaysCurrent, type Storage, type StorageInspection } from "./storage/storage.ts";

export class Instance {
  pglite: PGlite;
  /** Why what was in its storage could not be opened. */
  damage: string | undefined;
  /** Nothing of an earlier process can be in it. */
  readonly isFresh: boolean;
  /** Undefined for a given one. */
  private readonly storage: Storage | undefined;

  private readonly claim: Claim;

  /** `trouble`: what is shown could not be stored. */
  constructor(claim: Claim, trouble: (error: WalcastError) => void) {
    this.claim = claim;
    this.storage = storageOf(claim, trouble);
    this.isFresh = claim.kind === "memory";
    this.pglite = claim.kind === "given" ? claim.pglite : this.storage!.create();
  }

  /** Files that PGlite cannot open are of no use; what was in them can be had again. */
  async ready(): Promise<void> {
    try {
      await this.pglite.waitReady;
      if (!this.storage) growFaster(this.pglite);
    } catch (error) {
      if (!this.storage || error instanceof WalcastError) throw error;
      const wasEmpty = this.storage.isNew;
      const aside = await this.storage.setAside();
      if (wasEmpty) distrust();
      else this.damage = `${error instanceof Error ? error.message : String(error)}; ${aside}`;
      this.pglite = this.storage.create();
      await this.pglite.waitReady;
    }
  }

  /** Before a local transaction: undefined, or a promise for when there is room for what it may write. */
  hasRoom(): Promise<void> | undefined {
    return this.storage?.hasRoom();
  }

  /** After a local transaction. A given one keeps its files where its maker wanted. */
  async committed(): Promise<void> {
    if (this.storage) await this.storage.changed();
    else await this.pglite.syncToFs();
  }

  /** Resolves when what was committed until now outlives this process. */
  async flush(): Promise<void> {
    if (this.storage) await this.storage.flush();
    else await this.pglite.syncToFs();
  }

  get isOwn(): boolean {
    return this.storage !== undefined;
  }

  inspect(): StorageInspection {
    return this.storage?.inspect() ?? alwaysCurrent("given");
  }

  /** Closes one of our own; `leave` is what is left of us in one that was given. */
  async close(leave: () => Promise<void>): Promise<void> {
    // A PGlite that is still starting cannot be closed; one that failed to start needs no closing.
    if (this.storage) return this.closeOwn(this.storage);
    await this.pglite.waitReady;
    release(this.claim);
    if (!this.pglite.closed) await leave();
  }

  private async closeOwn(storage: Storage): Promise<void> {
    try {
      await this.pglite.waitReady;
      await this.pglite.close();
    } finally {
      storage.release();
    }
  }
}

function storageOf(claim: Claim, trouble: (error: WalcastError) => void): Storage | undefined {
  switch (claim.kind) {
    case "given":
      return undefined;
    case "memory":
      return new MemoryStorage();
    case "directory":
      return new DirectoryStorage(claim.directory);
    default:
      return new BrowserStorage(claim, trouble);
  }
}
