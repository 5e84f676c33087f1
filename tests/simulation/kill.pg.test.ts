/**
 * Engines that are killed right after a commit, two hundred times: what was committed is shown to who follows, once, in
 * order, and nobody ever has to load anything again. Several engines share a process, each with a database, a slot and a
 * log of its own, since every kill of a process costs the start of another.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { Random } from "../splice/random.ts";
import { testCluster } from "../support/postgres.ts";
import { thorough } from "../support/thorough.ts";
import { EngineProcess } from "./engine.ts";
import { Follower } from "./follower.ts";

const databases = thorough(20, 10);
const rounds = thorough(10, 4);

test(`${databases * rounds} engines are killed 1 to 50 ms after a commit: nothing is lost, nothing comes twice, nothing is fetched again`, async (t) => {
  const random = Random.fromEnvironment();
  console.log(`WALCAST_SEED=${random.seed}`);
  const cluster = await testCluster({}, t);
  const stage = await Stage.open(cluster.url);
  try {
    for (let round = 0; round < rounds; round++) await killAfterCommits(stage, random);
    await stage.untilShown();
    stage.check();
  } finally {
    await stage.close();
  }
});

async function killAfterCommits(stage: Stage, random: Random): Promise<void> {
  const { engines, writers } = stage;
  engines.prepare();
  // Some kills come while clients still catch up with what the kill before left them.
  if (random.chance(0.6)) await stage.untilShown();
  const commits = writers.map(async (writer) => {
    await delay(leadMs - random.integer(1, 50));
    await writer.commit(random.integer(1, 3));
  });
  await Promise.all([...commits, delay(leadMs)]);
  await engines.kill();
  stage.disconnect();
  // What is committed while no engine runs is there as well.
  if (random.chance(0.3)) await Promise.all(writers.map((writer) => writer.commit(2)));
  await engines.start();
  stage.connect();
}

/** A little more than the longest time from a commit to a kill. */
const leadMs = 60;

/** Databases with a writer each, their engines in one process, and who follows. */
class Stage {
  readonly engines: EngineProcess;
  readonly writers: readonly Writer[];
  private readonly followers: readonly Follower[];
  private readonly dataDir: string;

  static async open(cluster: string): Promise<Stage> {
    const writers = await Promise.all(Array.from({ length: databases }, (_, i) => Writer.open(cluster, `db${i}`)));
    const stage = new Stage(writers, await mkdtemp(join(tmpdir(), "walcast-kill-")));
    await stage.engines.start();
    stage.connect();
    for (const follower of stage.followers) await follower.untilJoined();
    return stage;
  }

  private constructor(writers: readonly Writer[], dataDir: string) {
    this.writers = writers;
    this.dataDir = dataDir;
    this.followers = writers.map(() => new Follower("numbers"));
    this.engines = new EngineProcess(
      "the engines",
      ...writers.map(({ url, name }) => ({
        databaseUrl: url,
        slot: `walcast_${name}`,
        port: 0,
        tables: "all" as const,
        dataDir: join(dataDir, name),
        positionEveryMs: 100,
      })),
    );
  }

  connect(): void {
    for (const [i, follower] of this.followers.entries()) follower.connect(this.engines.urls[i]!);
  }

  disconnect(): void {
    for (const follower of this.followers) follower.disconnect();
  }

  async untilShown(): Promise<void> {
    await Promise.all(this.followers.map((follower, i) => follower.untilShown(this.writers[i]!.committed)));
  }

  check(): void {
    for (const [i, { shown, refetches }] of this.followers.entries()) {
      assert.deepEqual(refetches, []);
      assert.deepEqual(
        shown,
        Array.from({ length: this.writers[i]!.committed }, (_, n) => String(n + 1)),
      );
    }
  }

  async close(): Promise<void> {
    this.disconnect();
    await this.engines.close();
    for (const { client } of this.writers) await client.end();
    await rm(this.dataDir, { recursive: true, force: true });
  }
}

/** Commits 1, 2, 3… */
class Writer {
  readonly name: string;
  readonly url: string;
  readonly client: Client;
  committed = 0;

  static async open(cluster: string, name: string): Promise<Writer> {
    const maintenance = new Client({ connectionString: cluster });
    await maintenance.connect();
    await maintenance.query(`create database ${name}`);
    await maintenance.end();
    const url = new URL(cluster);
    url.pathname = `/${name}`;
    const client = new Client({ connectionString: url.href });
    await client.connect();
    await client.query("create table numbers (n int primary key)");
    return new Writer(name, url.href, client);
  }

  private constructor(name: string, url: string, client: Client) {
    this.name = name;
    this.url = url;
    this.client = client;
  }

  async commit(times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      await this.client.query("insert into numbers values ($1)", [this.committed + 1]);
      this.committed++;
    }
  }
}
