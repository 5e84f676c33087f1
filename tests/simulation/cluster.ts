/** A Postgres of the simulation's own, which can crash. What it wrote is in the kernel's hands then, as after any crash of a process. */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type EmbeddedPostgres, startPostgres } from "../../engine/embedded/postgres.ts";
import { emptyCluster } from "../support/cluster.ts";
import { lowPort } from "../support/postgres.ts";

const flags = {
  fsync: "off",
  full_page_writes: "off",
  // Transactions above it are streamed while they run.
  logical_decoding_work_mem: "64kB",
  // A peer that is gone without a word is noticed within the run.
  wal_sender_timeout: "3s",
  max_wal_size: "256MB",
};

export class SimulationCluster {
  readonly url: string;
  readonly port: number;
  private readonly dataDir: string;
  private running: EmbeddedPostgres;

  static async create(): Promise<SimulationCluster> {
    const dataDir = await emptyCluster();
    return new SimulationCluster(dataDir, await startPostgres({ dataDir, flags, port: lowPort() }));
  }

  private constructor(dataDir: string, running: EmbeddedPostgres) {
    this.dataDir = dataDir;
    this.running = running;
    this.url = running.url;
    this.port = running.port;
  }

  /** As `pg_ctl stop -m immediate`: no checkpoint, no goodbye; the next start replays the log. */
  async crash(): Promise<void> {
    const file = await readFile(join(this.running.clusterDir, "postmaster.pid"), "utf8");
    process.kill(Number(file.split("\n")[0]), "SIGQUIT");
    await this.running.ended;
  }

  async start(): Promise<void> {
    this.running = await startPostgres({ dataDir: this.dataDir, flags, port: this.port });
  }

  async close(): Promise<void> {
    await this.running.stop();
    await rm(this.dataDir, { recursive: true, force: true });
  }
}
