/**
 * Whose the rows are, and which of them must leave for that: together where the server is still saying which, as no state may show
 * one user's beside another's.
 */
import type { Backlog } from "./backlog.ts";
import type { Withdrawal } from "./work.ts";

export class Withdrawals {
  private readonly backlog: Backlog;
  private readonly changed: () => void;
  private waiting: Withdrawal[] = [];
  private isHeld = false;
  private leaving = 0;

  /** `changed`: called when there is something to leave. */
  constructor(backlog: Backlog, changed: () => void) {
    this.backlog = backlog;
    this.changed = changed;
  }

  /** Nothing is in sight that has to leave. */
  get areDone(): boolean {
    return this.leaving === 0;
  }

  add({ done, ...withdrawal }: Withdrawal): void {
    this.leaving++;
    const left = (): void => {
      this.leaving--;
      done();
    };
    this.waiting.push({ ...withdrawal, done: left });
    if (!this.isHeld) this.apply();
    this.changed();
  }

  /** A new token was sent: what it does not allow leaves together, once the server has said all of it. */
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

  /** Nobody has asked the server whether this client may still see them. */
  removeUnclaimed(): void {
    this.backlog.push({ kind: "removeUnclaimed" });
  }

  /** Whose the rows are, after what has come until now. */
  ownedBy(owner: string | undefined): void {
    this.backlog.push({ kind: "owner", owner });
  }
}
