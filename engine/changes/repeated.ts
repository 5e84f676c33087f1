/**
 * After each connect Postgres sends again what it was not told to forget, and the log has that already: it has to be the
 * same, one by one. Where it is not, Postgres is not where it was: the files of an older state took its place, under the
 * same name and timeline, and have gone on differently since. Nothing else tells, once its write-ahead log is longer than
 * ours again.
 */
import type { Log } from "../log/log.ts";
import { formatLsn, type Lsn, type WalcastError } from "../protocol.ts";
import type { Transaction } from "./transaction.ts";

/** `bytes` and `large` only tell whether there is anything in it. */
type Commit = Pick<Transaction, "commitEnd" | "xid" | "commitTime" | "bytes" | "large">;
type Head = Pick<Transaction, "commitEnd" | "xid" | "commitTime">;

/** More than an engine is ever behind with its acknowledgements; another history shows at its first commit. */
const commitsMax = 10_000;

export class Repeated {
  /** Where the slot was at the connect. */
  readonly confirmed: Lsn;
  private readonly expected: readonly Head[];
  /** Whatever comes at or before it is in `expected`. */
  private readonly until: Lsn;
  private met = 0;
  /** What came in another's place. */
  difference: string | undefined;

  /** Reads what the log has after the slot's position. Where that is damaged, the log begins behind it, and it is read from there. */
  static async after(log: Log, confirmed: Lsn): Promise<Repeated> {
    try {
      return await Repeated.read(log, confirmed);
    } catch (error) {
      if ((error as WalcastError).code !== "position_too_old") throw error;
      return Repeated.after(log, confirmed);
    }
  }

  private static async read(log: Log, confirmed: Lsn): Promise<Repeated> {
    const from = confirmed > log.start ? confirmed : log.start;
    const expected: Head[] = [];
    for await (const { transactions } of log.read(from)) {
      expected.push(...transactions.filter(hasChanges).map(headOf));
      if (expected.length >= commitsMax) break;
    }
    // What lies before the log's start is nobody's to compare.
    return new Repeated(confirmed, confirmed < log.start ? [] : expected);
  }

  private constructor(confirmed: Lsn, expected: readonly Head[]) {
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
    return this.isDone || transactions.filter(hasChanges).every((transaction) => this.isMet(transaction));
  }

  /** False where all up to here has come, and not what the log has. */
  mayBeQuiet(walEnd: Lsn): boolean {
    return this.isDone || walEnd < this.until;
  }

  private isMet(found: Head): boolean {
    const next = this.expected[this.met];
    if (!next) return true;
    this.met++;
    const { commitEnd, xid, commitTime } = found;
    const isSame = next.commitEnd === commitEnd && next.xid === xid && next.commitTime === commitTime;
    if (!isSame) this.difference ??= `expected ${describe(next)}, found ${describe(found)}`;
    return isSame;
  }
}

/**
 * Whose changes were all rolled back, or are of tables that are not published: whether it comes is chance. Postgres leaves it
 * out where it decodes it after its commit, and cannot where it had begun to send it while it ran, for want of memory.
 */
function hasChanges({ bytes, large }: Commit): boolean {
  return large !== undefined || bytes.length > 0;
}

function headOf({ commitEnd, xid, commitTime }: Commit): Head {
  return { commitEnd, xid, commitTime };
}

function describe({ commitEnd, xid }: Head): string {
  return `transaction ${xid} up to ${formatLsn(commitEnd)}`;
}
