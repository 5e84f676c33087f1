/** How often each thing occurred that a simulation is there to try. */
export class Tally {
  private readonly counts: Map<string, number>;

  /** What may occur is told with its 0. */
  constructor(names: readonly string[]) {
    this.counts = new Map(names.map((name) => [name, 0]));
  }

  add(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  toString(): string {
    return Array.from(this.counts, ([name, count]) => `${name} ${count}`).join(", ");
  }
}
