/**
 * Transactions in the order of their commits, also where one of them is not ready when those behind it are: its file is
 * still being written, say. Holds as many as one or two socket reads bring, since its owner reads no further meanwhile.
 */
import type { Transaction } from "./transaction.ts";

export class CommitOrder {
  private queue: (Transaction | Promise<Transaction>)[] = [];
  private pending = 0;
  private readonly onReady: () => void;
  private readonly onFailed: (error: unknown) => void;

  /** `onReady`: there may be something to take that was not ready before. */
  constructor(onReady: () => void, onFailed: (error: unknown) => void) {
    this.onReady = onReady;
    this.onFailed = onFailed;
  }

  /** Whether one is not ready. */
  get isWaiting(): boolean {
    return this.pending > 0;
  }

  push(transaction: Transaction | Promise<Transaction>): void {
    this.queue.push(transaction);
    if (transaction instanceof Promise) this.wait(transaction);
  }

  /** Those before the first that is not ready. */
  take(): Transaction[] {
    if (this.pending === 0) return this.takeAll();
    return this.queue.splice(0, this.queue.findIndex(isPending)) as Transaction[];
  }

  private takeAll(): Transaction[] {
    const all = this.queue as Transaction[];
    this.queue = [];
    return all;
  }

  private wait(awaited: Promise<Transaction>): void {
    this.pending++;
    awaited.then((transaction) => this.ready(awaited, transaction), this.onFailed);
  }

  private ready(awaited: Promise<Transaction>, transaction: Transaction): void {
    this.queue[this.queue.indexOf(awaited)] = transaction;
    this.pending--;
    this.onReady();
  }
}

function isPending(one: Transaction | Promise<Transaction>): boolean {
  return one instanceof Promise;
}
