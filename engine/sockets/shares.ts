/**
 * How much each client may have of a time that all share: so much in a minute, all of it at once where it had none for a minute. It may go
 * beyond that by one piece of work, whose length nobody knows beforehand, and waits the longer for its next one.
 * https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
 */
const minuteMs = 60_000;

export class Shares<Client> {
  private readonly msPerMinute: number;
  /** When each has all of its share again. Who is not here has it. */
  private readonly wholeAt = new Map<Client, number>();
  private sweptAt = 0;

  constructor(msPerMinute: number) {
    this.msPerMinute = msPerMinute;
  }

  /** From when on this one may have more. */
  nextAt(client: Client): number {
    return (this.wholeAt.get(client) ?? 0) - minuteMs;
  }

  charge(client: Client, ms: number, nowMs: number): void {
    const from = Math.max(this.wholeAt.get(client) ?? 0, nowMs);
    this.wholeAt.set(client, from + (ms * minuteMs) / this.msPerMinute);
    if (nowMs - this.sweptAt > minuteMs) this.sweep(nowMs);
  }

  /** How many have had something of it lately. */
  get size(): number {
    return this.wholeAt.size;
  }

  private sweep(nowMs: number): void {
    this.sweptAt = nowMs;
    for (const [client, at] of this.wholeAt) if (at <= nowMs) this.wholeAt.delete(client);
  }
}
