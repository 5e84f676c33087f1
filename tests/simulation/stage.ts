/**
 * Who takes part in a simulation: a Postgres, engines on it, clients behind wires of their own, writers, and an oracle that
 * reads along. Everything that is opened here is closed here.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "pg";
import type { WalcastConfig } from "../../engine/config.ts";
import type { Random } from "../splice/random.ts";
import { type Releasing, testDatabase } from "../support/postgres.ts";
import { emptyReplicaIn } from "../support/replica.ts";
import { Canaries } from "./canaries.ts";
import { SimulationCluster } from "./cluster.ts";
import { isLong, longMark } from "./columns.ts";
import { EngineProcess } from "./engine.ts";
import type { Access, Asked } from "./filter.ts";
import { History } from "./history.ts";
import { connectAsWalcastReads, isAway, Oracle } from "./oracle.ts";
import { randomColumns, randomShape, type Taste } from "./predicates.ts";
import { RemoteWatcher } from "./remote.ts";
import { randomAccess } from "./rules.ts";
import { Schema } from "./schema.ts";
import { Watcher } from "./watcher.ts";
import type { Watching } from "./watching.ts";
import { type Target, Wire } from "./wire.ts";
import { Writers } from "./writers.ts";

/** The last one never asks for a long column. */
const tastes: readonly Taste[] = ["any", "any", "nothing long"];
/** Small, so that there are large ones. */
const largeTransactionBytes = 40 * 1024;
/** Small, so that a client that does not read soon falls behind. */
const backlogBytesPerConnection = 256 * 1024;

export class Stage {
  cluster!: SimulationCluster;
  readonly engines: { readonly engine: EngineProcess; readonly postgresWire: Wire }[] = [];
  readonly watchers: Watcher[] = [];
  remote: RemoteWatcher | undefined;
  /** In the clients' order. */
  readonly wires: Wire[] = [];
  readonly canaries = new Canaries();
  readonly schema: Schema;
  history!: History;
  oracle!: Oracle;
  writers!: Writers;
  private readonly random: Random;
  private readonly note: (event: string) => void;
  private db: Client | undefined;
  private readonly releases: (() => Promise<unknown>)[] = [];

  constructor(random: Random, note: (event: string) => void) {
    this.random = random;
    this.note = note;
    this.schema = new Schema(random.fork());
  }

  get everybody(): Watching[] {
    return [...this.watchers, ...(this.remote ? [this.remote] : [])];
  }

  // ── Opening and closing ────────────────────────────────────────────────────────────────────────────────────────────

  async open(t: Releasing): Promise<void> {
    this.note("Postgres starts");
    this.cluster = await SimulationCluster.create();
    this.after(() => this.cluster.close());
    this.history = await History.create((await testDatabase(t)).pool);
    this.db = await connectAsWalcastReads(this.cluster.url);
    this.oracle = await Oracle.create(this.db, this.cluster.url, this.history);
    this.after(() => this.oracle.close());
    await this.schema.create(this.db);
    this.note("the engines start");
    for (let i = this.random.chance(0.75) ? 2 : 1; i > 0; i--) await this.startEngine();
    this.note("clients start");
    this.writers = new Writers(this.cluster.url, this.schema, this.random.fork());
    this.after(() => this.writers.end());
    for (const taste of tastes) await this.openWatcher(taste);
    await this.openRemote();
    this.writers.resume();
  }

  async close(): Promise<void> {
    for (const release of this.releases.reverse()) await release();
    await this.disconnect();
  }

  /** Each on the same database, with a slot and a log of its own. */
  private async startEngine(): Promise<void> {
    const number = this.engines.length + 1;
    const postgresWire = await this.openPostgresWire();
    const databaseUrl = new URL(this.cluster.url);
    databaseUrl.port = String(postgresWire.port);
    const config: WalcastConfig = {
      databaseUrl: databaseUrl.href,
      slot: `walcast_${number}`,
      port: 0,
      dataDir: await this.directory(),
      positionEveryMs: 200,
      limits: { largeTransactionBytes, backlogBytesPerConnection },
    };
    const engine = new EngineProcess(`engine ${number}`, config);
    this.engines.push({ engine, postgresWire });
    this.after(() => engine.close());
    await engine.start();
  }

  private async openWatcher(taste: Taste): Promise<void> {
    const number = this.watchers.length;
    const name = `client ${number + 1}`;
    const access = randomAccess(this.random);
    const wire = await this.openClientWire(name, taste, () => this.watchers[number]?.tokens.access ?? access);
    const url = `ws://127.0.0.1:${wire.port}`;
    const watcher = await Watcher.open({ name, url, random: this.random.fork(), taste, access });
    this.after(() => watcher.close());
    this.watchers.push(watcher);
    for (let i = this.random.integer(1, 3); i > 0; i--) watcher.subscribe(this.random.pick(this.schema.tables));
    await watcher.follow(this.random.pick(this.schema.tables));
  }

  private async openRemote(): Promise<void> {
    const name = "the other process";
    const access = randomAccess(this.random);
    const wire = await this.openClientWire(name, "any", () => this.remote?.access ?? access);
    const directory = join(await this.directory(), "replica");
    await emptyReplicaIn(directory);
    const url = `ws://127.0.0.1:${wire.port}`;
    const remote = new RemoteWatcher({ name, url, directory }, access);
    this.remote = remote;
    this.after(() => remote.close());
    await remote.start(this.randomShapes());
  }

  /** For the client in the other process, which does not change its mind by itself. */
  randomShapes(): Asked[] {
    const { random } = this;
    const tables = [random.pick(this.schema.tables), random.pick(this.schema.tables)];
    const columns = new Map(tables.map((table) => [table, randomColumns(table, random, "any")]));
    return tables.map((table) => randomShape(table, random, columns.get(table)));
  }

  /** A client comes to any engine that runs, and to another one the next time. */
  private async openClientWire(name: string, taste: Taste, access: () => Access): Promise<Wire> {
    const random = this.random.fork();
    const target = (): Target | undefined => {
      const targets = this.engines.flatMap(({ engine }) => engine.target ?? []);
      return targets.length === 0 ? undefined : random.pick(targets);
    };
    const watch = (): ((bytes: Buffer) => void) => this.canaries.watch(name, taste, access);
    const wire = await this.openWire(target, watch);
    this.wires.push(wire);
    return wire;
  }

  private openPostgresWire(): Promise<Wire> {
    return this.openWire(() => ({ name: "Postgres", host: "127.0.0.1", port: this.cluster.port }));
  }

  private async openWire(target: () => Target | undefined, watch?: () => (bytes: Buffer) => void): Promise<Wire> {
    const wire = await Wire.open(target, this.random.fork(), watch);
    this.after(() => wire.close());
    return wire;
  }

  private async directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), "walcast-simulation-data-"));
    this.after(() => rm(directory, { recursive: true, force: true }));
    return directory;
  }

  private after(release: () => Promise<unknown>): void {
    this.releases.push(release);
  }

  // ── Postgres ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Ends connections of Postgres. */
  async terminate(which: string): Promise<void> {
    await this.query(`select pg_terminate_backend(pid) from pg_stat_activity where ${which}`);
  }

  /** Some megabytes in one transaction, to one table, which loses them in the next. Where a lock does not come, nothing. */
  async writeMuch(): Promise<void> {
    const table = this.random.pick(this.schema.tables);
    const long = table.columns.find(isLong)?.name;
    if (long === undefined) return;
    const text = `region || '${longMark}' || (select string_agg(md5(${table.name}.id::text || n), '') from generate_series(1, 2500) n)`;
    for (const value of [text, "null"])
      await this.query(`update ${table.name} set ${long} = ${value}`).catch((error: Error) => this.note(error.message));
  }

  /** On the last connection, where it still lives. */
  async query(sql: string): Promise<void> {
    for (;;) {
      const db = await this.connection();
      try {
        return void (await db.query(sql));
      } catch (error) {
        if (!isAway(error)) throw error;
        await this.disconnect();
      }
    }
  }

  async connection(): Promise<Client> {
    while (!this.db) this.db = await connectAsWalcastReads(this.cluster.url).catch(() => delay(20, undefined));
    return this.db;
  }

  async disconnect(): Promise<void> {
    const { db } = this;
    this.db = undefined;
    await db?.end().catch(() => {});
  }
}
