/** What many ask for and one does: everybody's turn comes as often as everybody else's, however much somebody asks for. */
export class FairQueue<Asker, Job> {
  private readonly jobs = new Map<Asker, Job[]>();
  private readonly max: number;
  private size = 0;

  constructor(max: number) {
    this.max = max;
  }

  /** Gives the job for which there is no room: this one, or the last of whoever has most waiting. */
  add(asker: Asker, job: Job): Job | undefined {
    const own = this.jobs.get(asker) ?? [];
    if (own.length === 0) this.jobs.set(asker, own);
    own.push(job);
    if (++this.size <= this.max) return undefined;
    return this.dropOne();
  }

  next(): Job | undefined {
    const turn = this.jobs.entries().next().value;
    if (!turn) return undefined;
    const [asker, own] = turn;
    const job = own.shift();
    this.size--;
    // Behind all others.
    this.jobs.delete(asker);
    if (own.length > 0) this.jobs.set(asker, own);
    return job;
  }

  /** All that this one is waiting for. */
  remove(asker: Asker): readonly Job[] {
    const own = this.jobs.get(asker) ?? [];
    this.jobs.delete(asker);
    this.size -= own.length;
    return own;
  }

  removeAll(): readonly Job[] {
    return [...this.jobs.keys()].flatMap((asker) => this.remove(asker));
  }

  private dropOne(): Job | undefined {
    const [asker, own] = [...this.jobs].reduce((a, b) => (a[1].length > b[1].length ? a : b));
    const job = own.pop();
    this.size--;
    if (own.length === 0) this.jobs.delete(asker);
    return job;
  }
}
