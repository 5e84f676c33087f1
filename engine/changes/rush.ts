/**
 * Whether commits come so close together that they are better taken several at a time. Each that is read, logged and sent alone wakes
 * four processes, and where the server has few cores that time is missing to whoever commits. By the times at which they committed.
 */
const commits = 32;
/** Above 2,000 a second. */
const withinUs = 16_000;

export class Rush {
  private readonly times = new Float64Array(commits);
  private next = 0;
  private spanUs = Infinity;

  /** In microseconds; any clock that commits share. */
  note(committedUs: number): void {
    this.spanUs = committedUs - this.times[this.next]!;
    this.times[this.next] = committedUs;
    this.next = (this.next + 1) % commits;
  }

  get isOn(): boolean {
    return this.spanUs < withinUs;
  }
}
