/**
 * Several connections that write whatever may be written: over several tables, with keys that change, savepoints that are
 * rolled back, long pauses inside, thousands of changes at once, TRUNCATE. What fails is rolled back and forgotten: what
 * really was committed is read from the log afterwards, by the oracle.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { Random } from "../splice/random.ts";
import { longMark, type Region, regions, type SimColumn, types } from "./columns.ts";
import { movedTo } from "./partitions.ts";
import type { Schema, SimTable } from "./schema.ts";

export class Writers {
  commits = 0;
  private readonly writers: Writer[];

  constructor(url: string, schema: Schema, random: Random) {
    this.writers = ["on", "local", "off", "on"].map(
      (level) => new Writer(url, level, schema, new Random(random.integer(0, 2 ** 31)), () => this.commits++),
    );
  }

  resume(): void {
    for (const writer of this.writers) writer.resume();
  }

  /** Resolves when nobody is inside a transaction. */
  async pause(): Promise<void> {
    await Promise.all(this.writers.map((writer) => writer.pause()));
  }

  async end(): Promise<void> {
    await this.pause();
    await Promise.all(this.writers.map((writer) => writer.disconnect()));
  }
}

class Writer {
  private readonly url: string;
  private readonly options: string;
  private readonly schema: Schema;
  private readonly random: Random;
  private readonly committed: () => void;
  private client: Client | undefined;
  private running = Promise.resolve();
  private isPaused = true;

  constructor(url: string, synchronousCommit: string, schema: Schema, random: Random, committed: () => void) {
    this.url = url;
    this.options = `-c synchronous_commit=${synchronousCommit} -c lock_timeout=300 -c deadlock_timeout=40 -c TimeZone=UTC`;
    this.schema = schema;
    this.random = random;
    this.committed = committed;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.running = this.run();
  }

  pause(): Promise<void> {
    this.isPaused = true;
    return this.running;
  }

  async disconnect(): Promise<void> {
    const { client } = this;
    this.client = undefined;
    await client?.end().catch(() => {});
  }

  private async run(): Promise<void> {
    while (!this.isPaused) {
      await this.step();
      await delay(this.random.integer(0, 25));
    }
  }

  private async step(): Promise<void> {
    const work = this.plan();
    try {
      this.client ??= await connect(this.url, this.options);
      await this.transaction(this.client, work);
    } catch {
      // A deadlock, a column that is gone, a Postgres that is away: all the same to us.
      await this.client?.query("rollback").catch(() => this.disconnect());
      await delay(5);
    }
  }

  private async transaction(client: Client, { statements, pauses, rollback }: Plan): Promise<void> {
    await client.query("begin");
    for (const [i, { sql, values }] of statements.entries()) {
      await client.query(sql, [...values]);
      if (pauses.has(i)) await delay(pauses.get(i));
    }
    await client.query(rollback ? "rollback" : "commit");
    if (!rollback) this.committed();
  }

  // ── What to write ──────────────────────────────────────────────────────────────────────────────────────────────────

  private plan(): Plan {
    const { random } = this;
    const statements: Statement[] = [];
    for (let i = random.integer(1, 4); i > 0; i--) statements.push(...this.part());
    const pauses = new Map<number, number>();
    if (random.chance(0.08)) pauses.set(random.integer(0, statements.length - 1), random.integer(20, 400));
    return { statements, pauses, rollback: random.chance(0.08) };
  }

  /** One statement, or some inside a savepoint. */
  private part(): Statement[] {
    const { random } = this;
    if (!random.chance(0.15)) return [this.statement()];
    const name = `s${random.integer(1, 3)}`;
    const inner = [this.statement(), this.statement()];
    const end = random.chance(0.6) ? `rollback to ${name}` : `release ${name}`;
    return [plain(`savepoint ${name}`), ...inner, plain(end), this.statement()];
  }

  private statement(): Statement {
    const { random } = this;
    const table = random.pick(this.schema.tables);
    const chance = random.next();
    if (chance < 0.4) return this.upsert(table);
    if (chance < 0.72) return this.update(table);
    if (chance < 0.84) return plain(`delete from ${table.name} where ${this.some()}`);
    if (chance < 0.9)
      return plain(`update ${table.name} set id = id + ${random.pick([1, 100, -100])} where ${this.some()}`);
    if (chance < 0.93) return this.move(table);
    if (chance < 0.945) return plain(`update ${table.name} set id = id where id < 20`);
    if (chance < 0.96) return plain(`update ${table.name} set id = -id`);
    if (chance < 0.975) return plain(`delete from ${table.name} where abs(id) > 60`);
    if (chance < 0.985) return plain(`truncate ${random.chance(0.5) ? table.name : random.pick(leavesOf(table))}`);
    return this.many(table);
  }

  /** To another region: somebody else's rows then, in some tables with another key or in another partition. */
  private move(table: SimTable): Statement {
    const to = `'${this.random.pick(regions)}'`;
    const long = table.columns.filter(({ type }) => type === types.long);
    const set = [`region = ${to}`, ...long.map(({ name }) => `${name} = ${movedTo(to, name)}`)];
    return plain(`update ${table.name} set ${set.join(", ")} where ${this.some()}`);
  }

  private some(): string {
    const from = this.random.integer(1, 60);
    return `id between ${from} and ${from + this.random.integer(0, 2)}`;
  }

  private upsert(table: SimTable): Statement {
    const names = table.columns.map(({ name }) => name);
    const rest = names.filter((name) => !table.key.includes(name));
    const region = this.random.pick(regions);
    const values = table.columns.map((column) => this.valueOf(column, region));
    const list = table.columns.map(({ type }, i) => `$${i + 1}::text::${type.sql}`);
    const conflict =
      rest.length > 0 ? `do update set ${rest.map((name) => `${name} = excluded.${name}`).join(", ")}` : "do nothing";
    return {
      sql: `insert into ${table.name} (${names.join(", ")}) values (${list.join(", ")}) on conflict (${table.key.join(", ")}) ${conflict}`,
      values,
    };
  }

  private update(table: SimTable): Statement {
    const rest = table.columns.filter(({ name }) => name !== "region" && !table.key.includes(name));
    if (rest.length === 0) return this.upsert(table);
    const column = this.random.pick(rest);
    const value = column.type === types.long ? "region || $1::text" : `$1::text::${column.type.sql}`;
    return {
      sql: `update ${table.name} set ${column.name} = ${value} where ${this.some()}`,
      values: [this.plainValueOf(column)],
    };
  }

  /** More than logical_decoding_work_mem: it is streamed while it runs. The rows of the time before leave. */
  private many(table: SimTable): Statement {
    const names = table.columns.map(({ name }) => name);
    const region = this.random.pick(regions);
    const list = table.columns.map((column) => {
      if (column.name === "id") return "n";
      if (column.type === types.long) return `'${region}${longMark}' || md5(n::text)`;
      return literal(this.valueOf(column, region), column.type.sql);
    });
    const from = this.random.pick([3000, 5000, 7000]);
    return plain(
      `with old as (delete from ${table.name} where id > 2000 returning id)
       insert into ${table.name} (${names.join(", ")}) select ${list.join(", ")}
       from generate_series(${from} + (select count(*)::int * 0 from old), ${from + this.random.integer(200, 800)}) n on conflict do nothing`,
    );
  }

  /** In a row of this region. */
  private valueOf(column: SimColumn, region: Region): string | null {
    if (column.name === "id") return String(this.random.integer(1, 60));
    if (column.name === "region") return region;
    const value = this.plainValueOf(column);
    return column.type === types.long && value !== null ? region + value : value;
  }

  private plainValueOf({ type, nullable }: SimColumn): string | null {
    return nullable && this.random.chance(0.2) ? null : type.value(this.random);
  }
}

interface Statement {
  readonly sql: string;
  readonly values: readonly (string | null)[];
}

interface Plan {
  readonly statements: readonly Statement[];
  /** Milliseconds to wait after a statement. */
  readonly pauses: ReadonlyMap<number, number>;
  readonly rollback: boolean;
}

function plain(sql: string): Statement {
  return { sql, values: [] };
}

function leavesOf({ name, leaves }: SimTable): string[] {
  return leaves ? Object.values(leaves) : [name];
}

function literal(value: string | null, type: string): string {
  return value === null ? "null" : `${quoted(value)}::${type}`;
}

function quoted(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}

async function connect(connectionString: string, options: string): Promise<Client> {
  const client = new Client({ connectionString, options });
  client.on("error", () => {});
  await client.connect();
  return client;
}
