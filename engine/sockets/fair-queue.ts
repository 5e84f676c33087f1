/** What many ask for and one does: every client's turn comes as often as every other's, however much it asks for. */
export class FairQueue<Client, Job> {
  private readonly jobs = new Map<Client, Job[]>();
  private readonly max: number;
  private size = 0;

  constructor(max: number) {
    this.max = max;
  }

  /** Gives the job for which there is no room: this one, or the last of whoever has most waiting. */
  add(client: Client, job: Job): Job | undefined {
    const own = this.jobs.get(client) ?? [];
    if (own.length === 0) this.jobs.set(client, own);
    own.push(job);
    if (++this.size <= this.max) return undefined;
    return this.dropOne();
  }

  /** Of the first whose turn it is and who may have one. */
  next(may: (client: Client) => boolean = () => true): Job | undefined {
    const client = [...this.jobs.keys()].find(may);
    if (client === undefined) return undefined;
    const own = this.jobs.get(client)!;
    const job = own.shift();
    this.size--;
    // Behind all others.
    this.jobs.delete(client);
    if (own.length > 0) this.jobs.set(client, own);
    return job;
  }

  /** It does not wait any more. */
  remove(client: Client, job: Job): void {
    const own = this.jobs.get(client) ?? [];
    const at = own.indexOf(job);
    if (at < 0) return;
    own.splice(at, 1);
    this.size--;
    if (own.length === 0) this.jobs.delete(client);
  }

  removeAll(): readonly Job[] {
    const all = [...this.jobs.values()].flat();
    this.jobs.clear();
    this.size = 0;
    return all;
  }

  /** Who waits, and for how much. */
  get sizes(): ReadonlyMap<Client, number> {
    return new Map([...this.jobs].map(([client, own]) => [client, own.length]));
  }

  private dropOne(): Job | undefined {
    const [client, own] = [...this.jobs].reduce((a, b) => (a[1].length > b[1].length ? a : b));
    const job = own.pop();
    this.size--;
    if (own.length === 0) this.jobs.delete(client);
    return job;
  }
}
