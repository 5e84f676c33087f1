/**
 * How much each client may have of what all share, a thread's time or connections: so much in a minute, all of it at once where it had none
 * for a minute. What nobody knows the amount of beforehand may go beyond that, and its client waits the longer for the next one.
 * https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
 */
const minuteMs = 60_000;

export class Shares<Client> {
  private readonly perMinute: number;
  /** When each has all of its share again. Who is not here has it. */
  private readonly wholeAt = new Map<Client, number>();
  private sweptAt = 0;

  constructor(perMinute: number) {
    this.perMinute = perMinute;
  }

  /** From when on this one may have more, in ms. */
  nextAt(client: Client): number {
    return (this.wholeAt.get(client) ?? 0) - minuteMs;
  }

  charge(client: Client, amount: number, nowMs: number): void {
    const from = Math.max(this.wholeAt.get(client) ?? 0, nowMs);
    this.wholeAt.set(client, from + (amount * minuteMs) / this.perMinute);
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
