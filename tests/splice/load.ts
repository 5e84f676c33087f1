/**
 * Writers at full rate. Two of the four commit with synchronous_commit = on, so that a synchronous standby that never
 * answers holds them up. Nothing here waits for a clock: progress is counted in commits.
 */
import { Client } from "pg";
import { expectedRefusals, oneTransaction } from "./bank.ts";
import { Random } from "./random.ts";

export class Load {
  commits = 0;
  private readonly writers: Writer[];
  private waiting: { at: number; resolve: () => void }[] = [];

  static async start(url: string, random: Random): Promise<Load> {
    const clients = await Promise.all(["on", "on", "local", "local"].map((level) => connectWriter(url, level)));
    return new Load(clients, random);
  }

  private constructor(clients: readonly Client[], random: Random) {
    this.writers = clients.map(
      (client) => new Writer(client, new Random(random.integer(0, 2 ** 31)), () => this.committed()),
    );
    this.resume();
  }

  /** Resolves after this many more commits. */
  after(commits: number): Promise<void> {
    const at = this.commits + commits;
    return Promise.race([new Promise<void>((resolve) => this.waiting.push({ at, resolve })), this.failed()]);
  }

  /** Resolves when no writer is inside a transaction. */
  async pause(): Promise<void> {
    await Promise.all(this.writers.map((writer) => writer.pause()));
  }

  resume(): void {
    for (const writer of this.writers) writer.resume();
  }

  async end(): Promise<void> {
    await this.pause();
    await Promise.all(this.writers.map((writer) => writer.client.end()));
  }

  private committed(): void {
    this.commits++;
    const due = this.waiting.filter(({ at }) => at <= this.commits);
    this.waiting = this.waiting.filter(({ at }) => at > this.commits);
    for (const { resolve } of due) resolve();
  }

  private failed(): Promise<never> {
    return Promise.race(this.writers.map((writer) => writer.failed));
  }
}

class Writer {
  readonly client: Client;
  readonly failed: Promise<never>;
  private readonly random: Random;
  private readonly committed: () => void;
  private fail: (error: unknown) => void = () => {};
  private running = Promise.resolve();
  private paused = true;

  constructor(client: Client, random: Random, committed: () => void) {
    this.client = client;
    this.random = random;
    this.committed = committed;
    this.failed = new Promise((_, reject) => (this.fail = reject));
    this.failed.catch(() => {});
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.running = this.run();
  }

  pause(): Promise<void> {
    this.paused = true;
    return this.running;
  }

  private async run(): Promise<void> {
    while (!this.paused) await this.step();
  }

  private async step(): Promise<void> {
    try {
      await oneTransaction(this.client, this.random);
      this.committed();
    } catch (error) {
      await this.client.query("rollback");
      if (expectedRefusals.has((error as { code?: string }).code ?? "")) return;
      this.paused = true;
      this.fail(error);
    }
  }
}

/** Locks are given up soon: a commit that is held up holds its rows. */
export function connectWriter(url: string, synchronousCommit: string): Promise<Client> {
  return connect(url, { synchronous_commit: synchronousCommit, lock_timeout: "150", deadlock_timeout: "40" });
}

/** Waits for its locks as long as it takes: in a deadlock it is the writers that give way. */
export function connectPatient(url: string): Promise<Client> {
  return connect(url, { synchronous_commit: "local", lock_timeout: "0", deadlock_timeout: "60000" });
}

async function connect(url: string, settings: Readonly<Record<string, string>>): Promise<Client> {
  const options = Object.entries({ ...settings, TimeZone: "UTC" }).map(([name, value]) => `-c ${name}=${value}`);
  const client = new Client({ connectionString: url, options: options.join(" ") });
  await client.connect();
  return client;
}
