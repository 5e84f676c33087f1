/** The PGlite behind a replica: one of our own, in memory or in a directory, or one that the application has made and will close. */
import { PGlite } from "@electric-sql/pglite";
import { WalcastError } from "../engine/protocol.ts";
import { Directory } from "./directory.ts";

/**
 * Nothing of a replica in memory survives its process, and its files are arrays that are made anew to grow. So they grow by
 * writing, which leaves room, instead of by `fallocate`, which leaves none; and of the write-ahead log, which nobody will
 * ever read, there is as little as can be. Measured: a third off the time of a first load. Buffers are copies of what is in
 * memory anyway: a quarter of PGlite's 128 MB does as well, and need not be cleared at the start.
 */
const inMemory = [
  ...PGlite.defaultStartParams,
  ...[
    "file_extend_method=write_zeros",
    "shared_buffers=32MB",
    "wal_init_zero=off",
    "wal_level=minimal",
    "max_wal_senders=0",
  ].flatMap((setting) => ["-c", setting]),
];

const inUse = new WeakSet<PGlite>();

export class Instance {
  pglite: PGlite;
  /** Why what was in its directory could not be opened. */
  damage: string | undefined;
  /** Nothing of an earlier process can be in it. */
  readonly isFresh: boolean;
  readonly isOwn: boolean;
  private readonly directory: Directory | undefined;

  /** Throws `config_invalid`. */
  constructor(replica: string | PGlite) {
    const given = typeof replica === "object" ? replica : undefined;
    if (given && inUse.has(given))
      throw new WalcastError(
        "config_invalid",
        "open a replica: expected a PGlite of its own, found one that another client uses",
      );
    if (given) inUse.add(given);
    this.isFresh = typeof replica === "string" && replica.startsWith("memory:");
    this.directory = given || this.isFresh ? undefined : new Directory(replica as string);
    this.pglite = given ?? this.create();
    this.isOwn = given === undefined;
  }

  /** Files that PGlite cannot open are of no use; what was in them can be had again. */
  async ready(): Promise<void> {
    try {
      await this.pglite.waitReady;
    } catch (error) {
      if (!this.directory) throw error;
      this.damage = `${error instanceof Error ? error.message : String(error)}; it is kept as ${this.directory.setAside()}`;
      this.pglite = this.create();
      await this.pglite.waitReady;
    }
  }

  /** Closes one of our own; `leave` is what is left of us in one that was given. */
  async close(leave: () => Promise<void>): Promise<void> {
    // A PGlite that is still starting cannot be closed; one that failed to start needs no closing.
    if (this.isOwn) return this.closeOwn();
    await this.pglite.waitReady;
    inUse.delete(this.pglite);
    if (!this.pglite.closed) await leave();
  }

  private create(): PGlite {
    return this.directory ? new PGlite(this.directory.path) : new PGlite("memory://", { startParams: inMemory });
  }

  private async closeOwn(): Promise<void> {
    try {
      await this.pglite.waitReady;
      await this.pglite.close();
    } finally {
      this.directory?.release();
    }
  }
}
