/** What an Instance needs of the place where its files are; and what can be said about that place. */
import type { PGlite } from "@electric-sql/pglite";

export interface Storage {
  /** There was nothing in it when it was opened. */
  readonly isNew: boolean;
  create(): PGlite;
  /** What could not be opened is put out of the way. Says what has become of it. */
  setAside(): Promise<string> | string;
  /** Undefined where more may be written; a promise for when it may. */
  hasRoom(): Promise<void> | undefined;
  /** Something has been written that is to last. A promise where nothing more may be written before it resolves. */
  changed(): Promise<void> | void;
  /** Resolves when everything until now will outlive this process. */
  flush(): Promise<void>;
  inspect(): StorageInspection;
  release(): void;
}

export interface StorageInspection {
  /** `given`: a PGlite of the application's. */
  readonly kind: "memory" | "directory" | "idb" | "opfs-ahp" | "given";
  /**
   * - `current`: what is shown is stored, as far as this storage stores.
   * - `behind`: something has changed that is not stored yet.
   * - `full`: there is no room for it. What was stored before stays, and storing is tried again.
   * - `failed`: it could not be stored for another reason (`lastError` says which), and is tried again.
   */
  readonly status: "current" | "behind" | "full" | "failed";
  /** Why it is not the kind that was asked for. */
  readonly fallback: string | undefined;
}

/** A process' memory, or a directory whose files Postgres writes itself. */
export function alwaysCurrent(kind: StorageInspection["kind"]): StorageInspection {
  return { kind, status: "current", fallback: undefined };
}
