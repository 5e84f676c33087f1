/**
 * After each connect Postgres sends again what it was not told to forget, and the log has that already: it has to be the
 * same, one by one. Where it is not, Postgres is not where it was: the files of an older state took its place, under the
 * same name and timeline, and have gone on differently since. Nothing else tells, once its write-ahead log is longer than
 * ours again.
 */
import type { Log } from "../log/log.ts";
import type { Lsn } from "../protocol.ts";
import type { Transaction } from "./transaction.ts";

type Commit = Pick<Transaction, "commitEnd" | "xid" | "commitTime">;

/** More than an engine is ever behind with its acknowledgements; another history shows at its first commit. */
const commitsMax = 10_000;

export class Repeated {
  /** Where the slot was at the connect. */
  readonly confirmed: Lsn;
  private readonly expected: readonly Commit[];
  /** Whatever comes at or before it is in `expected`. */
  private readonly until: Lsn;
  private met = 0;

  /** Reads what the log has after the slot's position. */
  static async after(log: Log, confirmed: Lsn): Promise<Repeated> {
    const from = confirmed > log.start ? confirmed : log.start;
    const expected: Commit[] = [];
    for await (const { transactions } of log.read(from)) {
      for (const { commitEnd, xid, commitTime } of transactions) expected.push({ commitEnd, xid, commitTime });
      if (expected.length >= commitsMax) break;
    }
    // What lies before the log's start is nobody's to compare.
    return new Repeated(confirmed, confirmed < log.start ? [] : expected);
  }

  private constructor(confirmed: Lsn, expected: readonly Commit[]) {
    this.confirmed = confirmed;
    this.expected = expected;
    this.until = expected.at(-1)?.commitEnd ?? confirmed;
  }

  /** Until then nothing may be acknowledged: it would be about another history. */
  get isDone(): boolean {
    return this.met === this.expected.length;
  }

  /** False where something else came than the log has. */
  areMet(transactions: readonly Commit[]): boolean {
    return transactions.every((transaction) => this.isMet(transaction));
  }

  /** False where all up to here has come, and not what the log has. */
  mayBeQuiet(walEnd: Lsn): boolean {
    return this.isDone || walEnd < this.until;
  }

  private isMet({ commitEnd, xid, commitTime }: Commit): boolean {
    const next = this.expected[this.met];
    if (!next) return true;
    this.met++;
    return next.commitEnd === commitEnd && next.xid === xid && next.commitTime === commitTime;
  }
}
