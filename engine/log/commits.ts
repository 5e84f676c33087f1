/** Those who wait for transactions that are known to have committed, and have not been streamed yet. */
import { type Lsn, WalcastError } from "../protocol.ts";

export class Commits {
  private readonly waiting = new Map<bigint, PromiseWithResolvers<Lsn>>();

  wait(xid: bigint): Promise<Lsn> {
    const waiting = this.waiting.get(xid) ?? Promise.withResolvers<Lsn>();
    this.waiting.set(xid, waiting);
    return waiting.promise;
  }

  streamed(xid: bigint, commitEnd: Lsn): void {
    this.waiting.get(xid)?.resolve(commitEnd);
    this.waiting.delete(xid);
  }

  /** None of them will come. */
  abandon(): void {
    for (const { reject } of this.waiting.values())
      reject(new WalcastError("snapshot_failed", "wait for a transaction: the history that it belongs to is over"));
    this.waiting.clear();
  }
}
