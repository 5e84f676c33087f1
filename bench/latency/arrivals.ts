/**
 * When each commit was seen, by the mark that the writer leaves in its row. A part that looks makes one of these and shows
 * it what it sees; after the last commit it says them all.
 */
import { say } from "../processes.ts";

/** Followed by the commit's number in eight digits. */
export const marker = "commit-";
const digits = 8;

export function markOf(commit: number): string {
  return marker + String(commit).padStart(digits, "0");
}

/** All marks in some bytes. */
export function marksIn(bytes: Buffer): string[] {
  const marks: string[] = [];
  for (let found = bytes.indexOf(marker); found >= 0; found = bytes.indexOf(marker, found + 1))
    marks.push(bytes.toString("latin1", found, found + marker.length + digits));
  return marks;
}

export class Arrivals {
  private readonly commits: number;
  private readonly done: (arrived: readonly number[]) => void;
  private readonly arrived: number[] = [];

  constructor(commits: number, done: (arrived: readonly number[]) => void = say) {
    this.commits = commits;
    this.done = done;
  }

  /** Several where commits came together, and marks of earlier commits among them. */
  saw(at: number, marks: readonly string[]): void {
    if (this.arrived.length === this.commits) return;
    const seen = new Set(marks);
    while (seen.has(markOf(this.arrived.length))) this.arrived.push(at);
    if (this.arrived.length === this.commits) this.done(this.arrived);
  }
}

/** One for each of many clients in a process; together they say what each has seen. */
export function arrivalsOfEach(clients: number, commits: number): Arrivals[] {
  const all: (readonly number[])[] = [];
  const done = (arrived: readonly number[]): void => {
    if (all.push(arrived) === clients) say(all);
  };
  return Array.from({ length: clients }, () => new Arrivals(commits, done));
}
