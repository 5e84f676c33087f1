/**
 * A replica in the browser's storage. In IndexedDB nothing is stored per change: what has changed is stored together, soon
 * after (flusher.ts). Whatever is lost when a page ends in between can be had again from the server.
 */
import { PGlite } from "@electric-sql/pglite";
import { WalcastError } from "../../engine/protocol.ts";
import { BrowserFiles, type BrowserPlace } from "./browser-files.ts";
import { Flusher } from "./flusher.ts";
import { Room } from "./room.ts";
import type { Storage, StorageInspection } from "./storage.ts";

/**
 * What is written ahead is stored, too, and read back: it is kept short, and holds no more than recovery needs. Files
 * that grow by writing have no holes.
 */
const startParams = [
  ...PGlite.defaultStartParams,
  ...[
    "file_extend_method=write_zeros",
    "shared_buffers=32MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=32MB",
  ].flatMap((setting) => ["-c", setting]),
];

// What the platform tells a page before it stops it, perhaps for ever.
const endings = ["visibilitychange", "freeze", "pagehide"] as const;

export class BrowserStorage implements Storage {
  private readonly files: BrowserFiles;
  private readonly flusher: Flusher;
  private readonly trouble: (error: WalcastError) => void;
  private failure: "full" | "failed" | undefined;
  private changes = 0;
  private storedChanges = 0;
  private readonly room: Room;

  constructor(place: BrowserPlace, trouble: (error: WalcastError) => void) {
    this.trouble = trouble;
    this.flusher = new Flusher({
      store: () => this.store(),
      stored: () => (this.failure = undefined),
      failed: (error) => this.failed(error as WalcastError),
    });
    this.room = new Room({ full: () => trouble(noRoom("write the replica")) });
    this.files = new BrowserFiles(place, { changed: () => void this.changed(), lost: (reason) => this.lost(reason) });
    if (typeof document !== "undefined") for (const name of endings) addEventListener(name, this.ending, true);
  }

  get isNew(): boolean {
    return this.files.isNew;
  }

  create(): PGlite {
    return new PGlite({ fs: this.files, startParams });
  }

  /** It is not kept: a browser's storage has no place for what nobody can look into. */
  async setAside(): Promise<string> {
    await this.files.remove();
    return "it is deleted";
  }

  /** Files in memory have room; what is wrong with storing them is found when they are. */
  hasRoom(): Promise<void> | undefined {
    return this.files.kind === "opfs-ahp" ? this.room.wait() : undefined;
  }

  changed(): Promise<void> | void {
    this.changes++;
    this.flusher.changed();
    if (this.files.isShort) return this.flush().catch(() => {});
  }

  flush(): Promise<void> {
    return this.flusher.flush();
  }

  inspect(): StorageInspection {
    const { kind, fallback } = this.files;
    return { kind, status: this.status, fallback };
  }

  release(): void {
    this.flusher.close();
    this.room.close();
    this.files.release();
    if (typeof document !== "undefined") for (const name of endings) removeEventListener(name, this.ending, true);
  }

  /** What could be written before may be stored well while there is no room for more. */
  private get status(): StorageInspection["status"] {
    if (this.room.isFull) return "full";
    return this.failure ?? (this.changes > this.storedChanges ? "behind" : "current");
  }

  private readonly ending = (): void => void this.flush().catch(() => {});

  private async store(): Promise<void> {
    const { changes } = this;
    await this.files.store().catch((error: unknown) => {
      throw storeError(`store the replica in ${this.files.kind}`, error);
    });
    this.storedChanges = changes;
  }

  private lost(reason: string): void {
    this.trouble(
      new WalcastError("replica_failed", `keep the replica stored: ${reason}; it is stored again from memory`),
    );
    void this.changed();
  }

  private failed(error: WalcastError): void {
    this.failure = error.code === "storage_full" ? "full" : "failed";
    this.trouble(error);
  }
}

function storeError(doing: string, cause: unknown): WalcastError {
  if (cause instanceof Error && cause.name === "QuotaExceededError") return noRoom(doing, cause);
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new WalcastError("replica_failed", `${doing}: ${reason}`, { cause });
}

function noRoom(doing: string, cause?: unknown): WalcastError {
  const message = `${doing}: the browser gives the site no more room; what was stored before stays`;
  return new WalcastError("storage_full", message, { cause });
}
