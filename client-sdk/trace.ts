/** What has happened to a client, for `inspect()`: all of it as counts, and the last of it one by one. */
import type { WalcastError } from "../engine/protocol.ts";
import type { Changed } from "./changed.ts";
import type { ClientStatus, Inspection, TransactionTrace } from "./index.ts";

// Enough to see what happened lately, little enough to keep for ever.
const HISTORY_MAX = 50;

export class Trace {
  readonly counts = {
    connections: 0,
    authentications: 0,
    breaches: 0,
    transactions: 0,
    resumes: 0,
    resyncs: 0,
    purges: 0,
    refetches: 0,
  };
  lastError: WalcastError | undefined;
  private readonly statuses: Inspection["statusHistory"][number][] = [];
  private readonly transactions: TransactionTrace[] = [];

  get isEmpty(): boolean {
    return this.statuses.length === 0;
  }

  status(status: ClientStatus): void {
    keepLast(this.statuses, { status, at: new Date() });
  }

  transaction(position: string, changed: Changed): void {
    this.counts.transactions++;
    keepLast(this.transactions, { position, tables: [...changed.tables], keys: changed.keyCount, at: new Date() });
  }

  inspect(): Pick<Inspection, keyof Trace["counts"] | "lastError" | "lastTransactions" | "statusHistory"> {
    return {
      ...this.counts,
      lastError: this.lastError?.toJSON(),
      lastTransactions: [...this.transactions],
      statusHistory: [...this.statuses],
    };
  }
}

function keepLast<T>(list: T[], item: T): void {
  list.push(item);
  if (list.length > HISTORY_MAX) list.shift();
}
