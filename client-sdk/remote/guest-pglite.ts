/**
 * `client.pglite` of a replica in a worker: `query`, `exec`, `transaction` and `waitReady`, each over the link. All else
 * throws: it would need the PGlite itself, which is in another thread, perhaps in another page.
 */
import type { PGlite, Results, Transaction } from "@electric-sql/pglite";

import { WalcastError } from "../../engine/protocol.ts";
import type { Link } from "./link.ts";

type Served = Pick<PGlite, "query" | "exec" | "transaction" | "waitReady" | "ready" | "closed">;

export function createGuestPglite(link: Link): PGlite {
  const served: Served = {
    query: async (sql, params) => (await link.call("pgliteQuery", sql, params)) as Results<never>,
    exec: async (sql) => [...(await link.call("pgliteExec", sql))],
    transaction: (work) => runTransaction(link, work),
    waitReady: Promise.resolve(),
    ready: true,
    closed: false,
  };
  return new Proxy(served, {
    get(target, name) {
      if (name in target) return target[name as keyof Served];
      // What asks every object these means no PGlite.
      if (typeof name === "symbol" || name === "then" || name === "toJSON") return undefined;
      throw new WalcastError("config_invalid", `use client.pglite.${name}: the replica is in a worker`, {
        hint: "There are query, exec and transaction; for all else give createClient a PGlite of this page.",
      });
    },
  }) as unknown as PGlite;
}

async function runTransaction<T>(link: Link, work: (transaction: Transaction) => Promise<T>): Promise<T> {
  const number = await link.call("begin", { kind: "pglite" });
  let isOver = false;
  const end = async (how: "commit" | "rollback"): Promise<void> => {
    if (isOver) return;
    isOver = true;
    await link.call("end", number, how);
  };
  const transaction: Pick<Transaction, "query" | "exec" | "rollback" | "closed"> = {
    query: async (sql, params) => (await link.call("step", number, sql, params ?? [])) as Results<never>,
    exec: async (sql) => [...(await link.call("stepAll", number, sql))],
    rollback: () => end("rollback"),
    get closed() {
      return isOver;
    },
  };
  try {
    const result = await work(transaction as Transaction);
    await end("commit");
    return result;
  } catch (error) {
    await end("rollback").catch(() => {});
    throw error;
  }
}
