/** Rows that must leave, together where the server is still saying which: no state may show one user's beside another's. */
import type { Backlog } from "./backlog.ts";
import type { Withdrawal } from "./work.ts";

export class Withdrawals {
  private readonly backlog: Backlog;
  private waiting: Withdrawal[] = [];
  private isHeld = false;

  constructor(backlog: Backlog) {
    this.backlog = backlog;
  }

  add(withdrawal: Withdrawal): void {
    this.waiting.push(withdrawal);
    if (!this.isHeld) this.apply();
  }

  hold(): void {
    this.isHeld = true;
  }

  release(): void {
    this.isHeld = false;
    this.apply();
  }

  apply(): void {
    if (this.waiting.length > 0) this.backlog.push({ kind: "withdraw", withdrawals: this.waiting });
    this.waiting = [];
  }
}
