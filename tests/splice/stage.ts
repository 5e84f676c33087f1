/** What a test of the promise needs: a Postgres of its own with the bank in it, an engine, writers, and an audience. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Client } from "pg";
import { pino } from "pino";
import { createEngine, type Engine } from "../../engine/main.ts";
import { type Releasing, testCluster, type TestCluster } from "../support/postgres.ts";
import { Audience } from "./audience.ts";
import { createBank } from "./bank.ts";
import { connectPatient, Load } from "./load.ts";
import { Random } from "./random.ts";

export class Stage implements Releasing {
  /** WALCAST_SEED runs one seed again. */
  readonly random = Random.fromEnvironment();
  readonly audience = new Audience(() => this.engine.url, this.random);
  cluster!: TestCluster;
  /** For what the test does itself. Its commits wait for nobody. */
  db!: Client;
  engine!: Engine;
  load!: Load;
  private dataDir = "";
  private readonly releases: (() => Promise<void>)[] = [];

  async open(): Promise<void> {
    console.log(`WALCAST_SEED=${this.random.seed}`);
    this.cluster = await testCluster({}, this);
    this.db = await this.connect(this);
    await createBank(this.db);
    this.dataDir = await this.directory();
    await this.startEngine();
    this.after(() => this.engine.close());
    this.load = await Load.start(this.cluster.url, this.random);
    this.after(() => this.load.end());
  }

  /** Closes what was opened, the last first. */
  async close(): Promise<void> {
    for (const release of this.releases.reverse()) await release();
  }

  after(release: () => Promise<void>): void {
    this.releases.push(release);
  }

  /** Another engine on the same slot, where there was one. */
  async startEngine(): Promise<void> {
    this.engine = await createEngine(this.engineConfig, pino({ level: process.env.WALCAST_LOG ?? "fatal" }));
  }

  /** For an engine's log; gone in the end. */
  async directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), "walcast-splice-"));
    this.after(() => rm(directory, { recursive: true, force: true }));
    return directory;
  }

  get engineConfig(): { databaseUrl: string; port: number; tables: "all"; dataDir: string } {
    return { databaseUrl: this.cluster.url, port: 0, tables: "all", dataDir: this.dataDir };
  }

  /** It is closed, and what it left open is rolled back, when the test ends. */
  async connect(t: Releasing): Promise<Client> {
    const client = await connectPatient(this.cluster.url);
    t.after(() => client.end());
    return client;
  }
}
