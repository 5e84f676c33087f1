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
  private readonly arrived: number[] = [];

  constructor(commits: number) {
    this.commits = commits;
  }

  /** Several where commits came together, and marks of earlier commits among them. */
  saw(at: number, marks: readonly string[]): void {
    const seen = new Set(marks);
    while (seen.has(markOf(this.arrived.length))) this.arrived.push(at);
    if (this.arrived.length === this.commits) say(this.arrived);
  }
}
