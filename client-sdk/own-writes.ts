/**
 * What the application writes into tables of its own, through the replica's PGlite: noticed at the end of its turn, so that live
 * queries follow, and that it is stored. Whatever PGlite offers for it takes a turn by this one function.
 */
import type { PGlite } from "@electric-sql/pglite";

export interface OwnWritesHooks {
  /** How far transactions that wrote something have come. Undefined within one that has failed. */
  writtenUntil(): string | undefined;
  /** In the application's turn. Returns what tells of it when the turn is over. */
  wrote(): Promise<() => void>;
}

export class OwnWrites {
  private readonly pglite: PGlite;
  private readonly hooks: OwnWritesHooks;
  private readonly original: (work: () => Promise<unknown>) => Promise<unknown>;

  constructor(pglite: PGlite, hooks: OwnWritesHooks) {
    this.pglite = pglite;
    this.hooks = hooks;
    this.original = pglite._runExclusiveTransaction.bind(pglite);
    pglite._runExclusiveTransaction = (work) => this.watched(work);
  }

  /** A turn that is not the application's. */
  unwatched<T>(work: () => Promise<T>): Promise<T> {
    return this.original(work) as Promise<T>;
  }

  /** What PGlite's class has is in sight again. */
  close(): void {
    Reflect.deleteProperty(this.pglite, "_runExclusiveTransaction");
  }

  private async watched<T>(work: () => Promise<T>): Promise<T> {
    let tell = (): void => {};
    const turn = async (): Promise<T> => {
      const before = await this.writtenUntil();
      try {
        return await work();
      } finally {
        if (before !== (await this.writtenUntil())) tell = await this.hooks.wrote();
      }
    };
    try {
      return await this.unwatched(turn);
    } finally {
      tell();
    }
  }

  /** Not between the messages of somebody else's query. */
  private writtenUntil(): Promise<string | undefined> {
    return this.pglite._runExclusiveQuery(async () => this.hooks.writtenUntil());
  }
}
