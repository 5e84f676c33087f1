/**
 * Whether commits come so fast that reads had better wait a moment for more. To be woken, route and send for each of thousands a second
 * takes cores that whoever commits has to do without; for those of a millisecond together it takes a fraction of that. Network cards
 * hold back their interrupts for the same reason.
 *
 * It begins by how often a read brings a commit, as that is what costs: one read that brings hundreds is no rush. It is over where few
 * commits come, or none for a while, so whoever commits now and then never waits.
 */

/** It is counted for so long, and as long a silence ends it. */
const windowMs = 20;

export interface RushOptions {
  /** Reads that bring commits, in a second: from here on it is one. */
  readonly beginsAt?: number;
  /** Commits in a second: below, it is none any more. */
  readonly endsBelow?: number;
}

export class Rush {
  isOn = false;
  private readonly beginsAt: number;
  private readonly endsBelow: number;
  private windowAt = 0;
  private broughtAt = 0;
  private reads = 0;
  private commits = 0;

  /** Where each commit waits for the one before, a thousand a second are no rush; where a few sessions do not, it is one soon. */
  constructor({ beginsAt = 2_000, endsBelow = 1_000 }: RushOptions = {}) {
    this.beginsAt = beginsAt;
    this.endsBelow = endsBelow;
  }

  /** A read brought so many commits. */
  note(commits: number, nowMs: number): void {
    if (nowMs - this.broughtAt > windowMs) this.begin(nowMs, false);
    else if (nowMs - this.windowAt >= windowMs) this.begin(nowMs, this.goesOn(nowMs));
    if (commits === 0) return;
    this.broughtAt = nowMs;
    this.reads++;
    this.commits += commits;
  }

  private begin(nowMs: number, isOn: boolean): void {
    this.isOn = isOn;
    this.windowAt = nowMs;
    this.reads = 0;
    this.commits = 0;
  }

  private goesOn(nowMs: number): boolean {
    const seconds = (nowMs - this.windowAt) / 1_000;
    return this.isOn ? this.commits >= this.endsBelow * seconds : this.reads >= this.beginsAt * seconds;
  }
}
