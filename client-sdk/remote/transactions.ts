/**
 * Transactions of guests. Each has the replica's turn, and everybody else waits, so whoever says nothing for a while, and
 * whoever is gone, is rolled back.
 */
import type { Results, Transaction } from "@electric-sql/pglite";
import { CompiledQuery } from "kysely";

import { WalcastError } from "../../engine/protocol.ts";
import { Deferred } from "../listeners.ts";
import type { Row } from "../row.ts";
import type { Begin, StepResult } from "./messages.ts";
import type { Core } from "./sources.ts";

interface Held {
  step(sql: string, params: readonly unknown[]): Promise<StepResult>;
  /** Of PGlite's own. */
  stepAll?(sql: string): Promise<Results[]>;
  commit(): Promise<void>;
  rollback(): Promise<void>;
}

interface Open {
  readonly held: Held;
  silence: ReturnType<typeof setTimeout> | undefined;
}

/** Between two steps a page runs its own code, and waits for nothing that takes longer. */
const SILENCE_MS = 5_000;

/** One guest's. */
export class Transactions {
  private readonly core: Core;
  private readonly silenceMs: number;
  private readonly openByNumber = new Map<number, Open>();
  private lastNumber = 0;
  private isClosed = false;

  constructor(core: Core, silenceMs = SILENCE_MS) {
    this.core = core;
    this.silenceMs = silenceMs;
  }

  async begin(how: Begin): Promise<number> {
    const held = how.kind === "kysely" ? await beginKysely(this.core, how) : await beginPglite(this.core);
    const number = ++this.lastNumber;
    this.openByNumber.set(number, { held, silence: undefined });
    // Its guest went while it waited for its turn.
    if (this.isClosed) await this.end(number, "rollback");
    else this.watch(number);
    return number;
  }

  step(number: number, sql: string, params: readonly unknown[]): Promise<StepResult> {
    return this.during(number, (held) => held.step(sql, params));
  }

  stepAll(number: number, sql: string): Promise<Results[]> {
    return this.during(number, async (held) => (await held.stepAll?.(sql)) ?? []);
  }

  async end(number: number, how: "commit" | "rollback"): Promise<void> {
    const { held, silence } = this.find(number);
    clearTimeout(silence);
    this.openByNumber.delete(number);
    await held[how]();
  }

  close(): void {
    this.isClosed = true;
    for (const number of [...this.openByNumber.keys()]) this.rollBack(number);
  }

  private async during<T>(number: number, work: (held: Held) => Promise<T>): Promise<T> {
    const { held, silence } = this.find(number);
    clearTimeout(silence);
    try {
      return await work(held);
    } finally {
      this.watch(number);
    }
  }

  private find(number: number): Open {
    const found = this.openByNumber.get(number);
    if (found) return found;
    throw new WalcastError(
      "query_failed",
      `run a step of a transaction: it was rolled back, as its page said nothing for ${this.silenceMs} ms`,
    );
  }

  private watch(number: number): void {
    const open = this.openByNumber.get(number);
    if (open) open.silence = setTimeout(() => this.rollBack(number), this.silenceMs);
  }

  private rollBack(number: number): void {
    this.end(number, "rollback").catch(() => {});
  }
}

async function beginKysely({ kysely }: Core, { isolationLevel }: Extract<Begin, { kind: "kysely" }>): Promise<Held> {
  const start = kysely.startTransaction();
  const transaction = await (isolationLevel ? start.setIsolationLevel(isolationLevel) : start).execute();
  return {
    async step(sql, params) {
      const { rows } = await transaction.executeQuery<Row>(CompiledQuery.raw(sql, [...params]));
      return { rows };
    },
    commit: () => transaction.commit().execute(),
    rollback: () => transaction.rollback().execute(),
  };
}

async function beginPglite({ pglite }: Core): Promise<Held> {
  const began = new Deferred<Transaction>();
  const ended = new Deferred<"commit" | "rollback">();
  const over = pglite.transaction(async (transaction) => {
    began.resolve(transaction);
    if ((await ended.promise) === "rollback") await transaction.rollback();
  });
  over.catch((error: unknown) => began.reject(error));
  const transaction = await began.promise;
  const end = (how: "commit" | "rollback"): Promise<void> => {
    ended.resolve(how);
    return over;
  };
  return {
    step: (sql, params) => transaction.query<Row>(sql, [...params]),
    stepAll: (sql) => transaction.exec(sql),
    commit: () => end("commit"),
    rollback: () => end("rollback"),
  };
}
