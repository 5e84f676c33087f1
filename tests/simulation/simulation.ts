/**
 * A simulation from a seed: a schema, writers, clients that come and go, changes of the schema, and one fault after
 * another, while every state that any client shows is held against what Postgres committed. All chance comes from the
 * seed; what machine and kernel do in between does not, so a seed that failed once may need a few runs to fail again.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "pg";
import type { WalcastConfig } from "../../engine/config.ts";
import { formatLsn, type Lsn } from "../../engine/protocol.ts";
import { Random } from "../splice/random.ts";
import { type Releasing, testDatabase } from "../support/postgres.ts";
import { SimulationCluster } from "./cluster.ts";
import { EngineProcess } from "./engine.ts";
import { faults } from "./faults.ts";
import { History } from "./history.ts";
import { Judge, Violation } from "./judge.ts";
import { connectAsWalcastReads, isAway, Oracle } from "./oracle.ts";
import { randomFilter } from "./predicates.ts";
import { type RemoteShape, RemoteWatcher } from "./remote.ts";
import { decodedName, everyRowOf, isLong, Schema } from "./schema.ts";
import { Watcher, type Watching } from "./watcher.ts";
import { type Target, Wire } from "./wire.ts";
import { Writers } from "./writers.ts";

const clientCount = 3;
/** Small, so that there are large ones. */
const largeTransactionBytes = 40 * 1024;
/** Small, so that a client that does not read soon falls behind. */
const backlogBytesPerConnection = 256 * 1024;
/** No progress for so long is a failure of its own. Far above what a busy machine takes. */
const progressMs = 90_000;

export class Simulation {
  readonly seed: number;
  cluster!: SimulationCluster;
  readonly engines: { readonly engine: EngineProcess; readonly postgresWire: Wire }[] = [];
  readonly wires: Wire[] = [];
  remote: RemoteWatcher | undefined;
  readonly schema: Schema;
  judge!: Judge;
  history!: History;
  private readonly random: Random;
  private readonly trace: string[] = [];
  readonly watchers: Watcher[] = [];
  private writers!: Writers;
  private oracle!: Oracle;
  private db: Client | undefined;
  private readonly releases: (() => Promise<unknown>)[] = [];
  private readonly startedAt = performance.now();

  constructor(seed: number) {
    this.seed = seed;
    this.random = new Random(seed);
    this.schema = new Schema(new Random(this.random.integer(0, 2 ** 31)));
  }

  /** Runs for about so long, then looks whether everybody ends up with what Postgres has. */
  async run(seconds: number, t: Releasing): Promise<void> {
    try {
      await this.within(this.open(t), "everything starts");
      const end = this.elapsedMs + seconds * 1_000;
      while (this.elapsedMs < end) await this.round();
      await this.settle();
    } catch (error) {
      throw new Error(
        `${await this.report()}\n\n${error instanceof Violation ? error.message : String((error as Error).stack)}`,
        {
          cause: error,
        },
      );
    } finally {
      await this.close();
    }
  }

  /** Ends connections of Postgres. */
  async terminate(which: string): Promise<void> {
    await this.query(`select pg_terminate_backend(pid) from pg_stat_activity where ${which}`);
  }

  /** Some megabytes in one transaction, to one table, which loses them in the next. Where a lock does not come, nothing. */
  async writeMuch(): Promise<void> {
    const table = this.random.pick(this.schema.tables);
    const long = table.columns.find(isLong)?.name;
    if (long === undefined) return;
    const text = `(select string_agg(md5(${table.name}.id::text || n), '') from generate_series(1, 2500) n)`;
    for (const value of [text, "null"])
      await this.query(`update ${table.name} set ${long} = ${value}`).catch((error: Error) => this.note(error.message));
  }

  summary(): string {
    const { compared, passedOver } = this.judge;
    return `${this.history.commits} commits, ${this.trace.length} events, ${compared} tables in states compared, ${passedOver} not`;
  }

  // ── Opening and closing ────────────────────────────────────────────────────────────────────────────────────────────

  private async open(t: Releasing): Promise<void> {
    this.note("Postgres starts");
    this.cluster = await SimulationCluster.create();
    this.after(() => this.cluster.close());
    this.history = await History.create((await testDatabase(t)).pool);
    this.judge = new Judge(this.history);
    this.db = await connectAsWalcastReads(this.cluster.url);
    this.oracle = await Oracle.create(this.db, this.cluster.url, this.history);
    this.after(() => this.oracle.close());
    await this.schema.create(this.db);
    this.note("the engines start");
    for (let i = this.random.integer(1, 2); i > 0; i--) await this.startEngine();
    this.note("clients start");
    this.writers = new Writers(this.cluster.url, this.schema, this.fork());
    this.after(() => this.writers.end());
    for (let i = 0; i < clientCount; i++) await this.openWatcher();
    await this.openRemote();
    this.writers.resume();
    this.note("everything runs");
  }

  /** Each on the same database, with a slot and a log of its own. */
  private async startEngine(): Promise<void> {
    const number = this.engines.length + 1;
    const dataDir = await this.directory();
    const postgresWire = await this.openWire(() => ({ host: "127.0.0.1", port: this.cluster.port }));
    const databaseUrl = new URL(this.cluster.url);
    databaseUrl.port = String(postgresWire.port);
    const config: WalcastConfig = {
      databaseUrl: databaseUrl.href,
      slot: `walcast_${number}`,
      port: 0,
      tables: "all",
      dataDir,
      positionEveryMs: 200,
      limits: { largeTransactionBytes, backlogBytesPerConnection },
    };
    const engine = new EngineProcess(`engine ${number}`, config);
    this.engines.push({ engine, postgresWire });
    this.after(() => engine.close());
    await engine.start();
  }

  private async openWatcher(): Promise<void> {
    const wire = await this.openClientWire();
    const watcher = await Watcher.open(`client ${this.wires.length}`, `ws://127.0.0.1:${wire.port}`, this.fork());
    this.after(() => watcher.close());
    this.watchers.push(watcher);
    for (let i = this.random.integer(1, 3); i > 0; i--) watcher.subscribe(this.random.pick(this.schema.tables));
  }

  private async openRemote(): Promise<void> {
    const wire = await this.openClientWire();
    const directory = join(await this.directory(), "replica");
    const remote = new RemoteWatcher({ name: "the other process", url: `ws://127.0.0.1:${wire.port}`, directory });
    this.remote = remote;
    this.after(() => remote.close());
    await remote.start(this.randomShapes());
  }

  /** For the client in the other process, which does not change its mind by itself. */
  randomShapes(): RemoteShape[] {
    const tables = [this.random.pick(this.schema.tables), this.random.pick(this.schema.tables)];
    return tables.map((table) => ({ ...randomFilter(table, this.random), table: table.name }));
  }

  /** A client comes to any engine that runs, and to another one the next time. */
  private async openClientWire(): Promise<Wire> {
    const random = this.fork();
    const wire = await this.openWire(() => {
      const targets = this.engines.flatMap(({ engine }) => engine.target ?? []);
      return targets.length === 0 ? undefined : random.pick(targets);
    });
    this.wires.push(wire);
    return wire;
  }

  private async directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), "walcast-simulation-data-"));
    this.after(() => rm(directory, { recursive: true, force: true }));
    return directory;
  }

  private async openWire(target: () => Target | undefined): Promise<Wire> {
    const wire = await Wire.open(target, this.fork());
    this.after(() => wire.close());
    return wire;
  }

  private async close(): Promise<void> {
    for (const release of this.releases.reverse()) await release();
    await this.disconnect();
  }

  private after(release: () => Promise<unknown>): void {
    this.releases.push(release);
  }

  /** Chance of its own, so that what one part does with it leaves the others' alone. */
  private fork(): Random {
    return new Random(this.random.integer(0, 2 ** 31));
  }

  // ── Running ────────────────────────────────────────────────────────────────────────────────────────────────────────

  private async round(): Promise<void> {
    const chance = this.random.next();
    if (chance < 0.45) await this.changeMinds();
    else if (chance < 0.6) await this.changeSchema();
    else if (chance < 0.95) await this.fault();
    else await this.settle();
    await delay(this.random.integer(20, 300));
    await this.check();
  }

  private async changeMinds(): Promise<void> {
    const watcher = this.random.pick(this.watchers);
    this.note(`${watcher.name} changes its mind`);
    await this.within(watcher.changeMind(this.schema.tables), "a client changes its mind");
  }

  private async changeSchema(): Promise<void> {
    try {
      const db = await this.connection();
      await db.query("set lock_timeout = '2s'");
      this.note(await this.schema.change(db));
    } catch (error) {
      this.note(`a schema change failed: ${(error as Error).message}`);
      await this.disconnect();
    }
  }

  private async fault(): Promise<void> {
    const name = this.random.pick(Object.keys(faults));
    this.note(name);
    await this.within(faults[name]!(this, this.random), name);
    this.note(`${name}: over`);
  }

  /** With nobody writing, every client ends up with every commit. */
  private async settle(): Promise<void> {
    this.note("everything settles");
    await this.writers.pause();
    // Flushes what writers committed without waiting for it: until then no slot tells it.
    await this.query("set synchronous_commit = on; select pg_logical_emit_message(true, 'settled', '')");
    await this.oracle.readToTheEnd();
    for (const watcher of this.everybody) {
      const end = this.history.lastChange(watcher.tables);
      await this.within(this.reach(watcher, end), `${watcher.name} reaches ${formatLsn(end)}`);
    }
    await this.check();
    while (this.judge.pending > 0) await this.check();
    await this.compareOracle();
    this.writers.resume();
    this.note("everything has settled");
  }

  /** The oracle itself: what it has learned from the log is what the tables have. */
  private async compareOracle(): Promise<void> {
    for (const table of this.schema.tables) {
      const { rows } = await (await this.connection()).query<(string | null)[]>(everyRowOf(table.name));
      const known = await this.history.rows(decodedName(table.name), [{}]);
      assert.deepEqual(known.map((row) => JSON.stringify(row)).sort(), rows.map((row) => JSON.stringify(row)).sort());
    }
  }

  private get everybody(): Watching[] {
    return [...this.watchers, ...(this.remote === undefined ? [] : [this.remote])];
  }

  private async reach(watcher: Watching, end: Lsn): Promise<void> {
    while (!this.stopped && !watcher.hasReached(end)) await delay(20);
  }

  private async check(): Promise<void> {
    for (const { engine } of this.engines) if (engine.died !== undefined) throw new Violation(engine.died);
    await this.oracle.read();
    for (const watcher of this.everybody) {
      this.judge.take(watcher.takeObservations());
      this.judge.takeRefetches(watcher.takeRefetches());
    }
    await this.judge.judge();
  }

  private stopped = false;

  /** Fails where nothing comes of it for very long. */
  private async within(work: Promise<void>, doing: string): Promise<void> {
    const timer = new AbortController();
    const late = delay(progressMs, undefined, { signal: timer.signal }).then(
      () => {
        this.stopped = true;
        throw new Violation(`no progress: ${doing}`);
      },
      () => {},
    );
    await Promise.race([work, late]).finally(() => timer.abort());
  }

  /** On the last connection, where it still lives. */
  private async query(sql: string): Promise<void> {
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

  private async connection(): Promise<Client> {
    while (!this.db) this.db = await connectAsWalcastReads(this.cluster.url).catch(() => delay(20, undefined));
    return this.db;
  }

  private async disconnect(): Promise<void> {
    const { db } = this;
    this.db = undefined;
    await db?.end().catch(() => {});
  }

  // ── Telling ────────────────────────────────────────────────────────────────────────────────────────────────────────

  get elapsedMs(): number {
    return performance.now() - this.startedAt;
  }

  private note(event: string): void {
    this.trace.push(`${(this.elapsedMs / 1_000).toFixed(2).padStart(7)} ${event}`);
    if (process.env.WALCAST_TRACE) console.log(this.trace.at(-1));
  }

  private async report(): Promise<string> {
    const engines = this.engines.map(async ({ engine }) => [
      `what ${engine.name} said last:`,
      ...engine.said.split("\n").slice(-20),
      `its counts: ${await engine.resyncs()}`,
      "",
    ]);
    return [
      `seed ${this.seed} failed. Again: node --conditions=@walcast/source tests/simulation/run.ts --seed ${this.seed} --seconds ${Math.ceil(this.elapsedMs / 1_000)}`,
      "",
      "what happened last:",
      ...this.trace.slice(-25),
      "",
      ...this.everybody.map((watcher) => watcher.describe()),
      "",
      ...(await Promise.all(engines)).flat(),
    ].join("\n");
  }
}
