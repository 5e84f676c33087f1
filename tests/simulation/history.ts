/**
 * What is true: every version of every row with the commits it lived between, learned from a second slot. Which rows a
 * predicate keeps is Postgres' own answer, asked on another database with the columns' own types. From both comes a
 * timeline per predicate: how many rows it has after each commit, and their hash.
 */
import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import type { Pool } from "pg";
import { formatLsn, type Lsn } from "../../engine/protocol.ts";
import type { Change, DecodedCommit, Tuple } from "./decoding.ts";
import { laterLabels, type Layout, type SchemaMessage } from "./schema.ts";

type Row = readonly (string | null)[];

export interface Filter {
  readonly where?: string;
  readonly params?: readonly unknown[];
}

/** One form of a table, from one commit to another. */
interface Era {
  readonly id: number;
  readonly layout: Layout;
  readonly from: number;
  to: number;
  readonly live: Map<string, { readonly id: number; readonly row: Row }>;
}

export interface Expected {
  readonly columns: readonly string[];
  readonly count: number;
  readonly hash: number;
}

/** A moment no commit reaches. */
const never = 2 ** 31 - 1;

export class History {
  private readonly pool: Pool;
  /** Where each commit ends, in order: the commit with number n ends at `ends[n - 1]`. */
  private readonly ends: Lsn[] = [];
  private readonly eras = new Map<string, Era[]>();
  private readonly partitions = new Map<string, { readonly root: string; readonly region: string }>();
  private readonly emptied: { readonly root: string; readonly at: number }[] = [];
  private readonly timelines = new Map<string, Timeline>();
  /** The last commit that touched a table. */
  private readonly touched = new Map<string, number>();
  private versions = 0;
  private eraCount = 0;
  private born: Version[] = [];
  private died: { id: number; at: number }[] = [];
  /** Everything that ends at or before it is known. */
  knownTo: Lsn = 0n as Lsn;

  static async create(pool: Pool): Promise<History> {
    const labels = ["calm", "glad", "sad", ...laterLabels].map((label) => `'${label}'`).join(", ");
    await pool.query(`create type mood as enum (${labels})`);
    await pool.query(
      `create table version (id int primary key, era int not null, born int not null, died int not null default ${never}, hash int8 not null, fields text[] not null)`,
    );
    await pool.query("create index on version (era, born); create index on version (era, died)");
    return new History(pool);
  }

  private constructor(pool: Pool) {
    this.pool = pool;
  }

  get commits(): number {
    return this.ends.length;
  }

  /** How many commits a replica at this position has seen. */
  commitAt(position: Lsn): number {
    let [low, high] = [0, this.ends.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ends[middle]! <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Commits that are known already are passed over: after a crash the slot tells some again. */
  async append(commits: readonly DecodedCommit[], knownTo: Lsn): Promise<void> {
    for (const { end, changes } of commits) {
      if (end <= (this.ends.at(-1) ?? 0n)) continue;
      this.ends.push(end);
      for (const change of changes) this.apply(change);
    }
    await this.save();
    this.knownTo = knownTo;
  }

  /** What the rows of a table that any of the filters keeps are after a commit; undefined where there is no such table or column. */
  async expected(table: string, filters: readonly Filter[], commit: number): Promise<Expected | undefined> {
    const era = this.eraOf(table, commit);
    if (!era) return undefined;
    const timeline = this.timeline(era, filters);
    if (!(await timeline.advance(this.pool, this.commits))) return undefined;
    return { columns: era.layout.columns.map(({ name }) => name), ...timeline.at(commit) };
  }

  /** The rows themselves, for a message that says what is wrong. */
  async rows(table: string, filters: readonly Filter[], commit = this.commits): Promise<Row[]> {
    const era = this.eraOf(table, commit);
    return era ? this.timeline(era, filters).rows(this.pool, commit) : [];
  }

  /** The end of the last commit that touched one of the tables. */
  lastChange(tables: Iterable<string>): Lsn {
    const commits = [...tables].map((table) => this.touched.get(table) ?? 0);
    return this.ends[Math.max(0, ...commits) - 1] ?? (0n as Lsn);
  }

  /** Whether the table got another form, or lost a partition's rows, in one of the commits after `from` up to `to`. */
  changedBetween(table: string, from: number, to: number): boolean {
    const isWithin = (commit: number): boolean => commit > from && commit <= to;
    const emptied = this.emptied.some(({ root, at }) => root === table && isWithin(at));
    return emptied || (this.eras.get(table) ?? []).some((era) => isWithin(era.from) || isWithin(era.to));
  }

  describe(commit: number): string {
    return `commit ${commit} of ${this.commits}, which ends at ${formatLsn(this.ends[commit - 1] ?? (0n as Lsn))}`;
  }

  private eraOf(table: string, commit: number): Era | undefined {
    return this.eras.get(table)?.find((era) => era.from <= commit && commit < era.to);
  }

  private timeline(era: Era, filters: readonly Filter[]): Timeline {
    const key = JSON.stringify([era.id, filters]);
    const timeline = this.timelines.get(key) ?? new Timeline(era, filters);
    this.timelines.set(key, timeline);
    return timeline;
  }

  // ── Applying commits ───────────────────────────────────────────────────────────────────────────────────────────────

  private apply(change: Change): void {
    switch (change.kind) {
      case "message":
        return this.changeSchema(JSON.parse(change.content) as SchemaMessage);
      case "truncate":
        return this.truncateAll(change.tables);
      case "insert":
        return this.withEra(change.table, (era) => this.add(era, complete(era, change.row, undefined)));
      case "delete":
        return this.withEra(change.table, (era) => void this.remove(era, keyOf(era, change.old)));
      case "update":
        return this.withEra(change.table, (era) => {
          const before = this.remove(era, keyOf(era, change.old ?? change.row));
          this.add(era, complete(era, change.row, before));
        });
    }
  }

  /** Tables that are not the simulation's own have no era. */
  private withEra(decoded: string, work: (era: Era) => void): void {
    const table = this.partitions.get(decoded)?.root ?? decoded;
    const era = this.eraOf(table, this.commits);
    if (!era) return;
    this.touched.set(table, this.commits);
    work(era);
  }

  private changeSchema({ gone, layouts }: SchemaMessage): void {
    for (const table of [...gone, ...layouts.map(({ decoded }) => decoded)]) this.endEra(table);
    for (const layout of layouts) {
      const era: Era = { id: ++this.eraCount, layout, from: this.commits, to: never, live: new Map() };
      for (const [leaf, region] of Object.entries(layout.leaves))
        this.partitions.set(leaf, { root: layout.decoded, region });
      this.eras.set(layout.decoded, [...(this.eras.get(layout.decoded) ?? []), era]);
      for (const row of layout.rows) this.add(era, row);
    }
  }

  private endEra(table: string): void {
    this.withEra(table, (era) => {
      this.truncate(table);
      era.to = this.commits;
      for (const leaf of Object.keys(era.layout.leaves)) this.partitions.delete(leaf);
    });
  }

  private truncateAll(tables: readonly string[]): void {
    for (const table of tables) {
      const partition = this.partitions.get(table);
      this.truncate(table, partition?.region);
      const siblings = [...this.partitions].filter(([, { root }]) => root === partition?.root);
      // Which rows go with one partition, only Postgres knows.
      if (siblings.some(([leaf]) => !tables.includes(leaf)))
        this.emptied.push({ root: partition!.root, at: this.commits });
    }
  }

  /** `region`: of the partition, where only that is emptied. */
  private truncate(table: string, region?: string): void {
    this.withEra(table, (era) => {
      const at = era.layout.columns.findIndex(({ name }) => name === "region");
      for (const [key, { row }] of era.live) if (region === undefined || row[at] === region) this.remove(era, key);
    });
  }

  private add(era: Era, row: Row): void {
    const id = ++this.versions;
    const key = keyText(era, row);
    assert(!era.live.has(key), `expected no row ${key} in ${era.layout.table} at ${this.describe(this.commits)}`);
    era.live.set(key, { id, row });
    this.born.push({ id, era: era.id, born: this.commits, hash: hashOf(row), fields: row });
  }

  private remove(era: Era, key: string): Row {
    const version = era.live.get(key);
    assert(version, `expected a row ${key} in ${era.layout.table} at ${this.describe(this.commits)}`);
    era.live.delete(key);
    this.died.push({ id: version.id, at: this.commits });
    return version.row;
  }

  private async save(): Promise<void> {
    const [born, died] = [this.born.splice(0), this.died.splice(0)];
    for (let i = 0; i < born.length; i += 1000) await insertVersions(this.pool, born.slice(i, i + 1000));
    if (died.length === 0) return;
    await this.pool.query(
      "update version set died = d.at from unnest($1::int[], $2::int[]) as d (id, at) where version.id = d.id",
      [died.map(({ id }) => id), died.map(({ at }) => at)],
    );
  }
}

interface Version {
  readonly id: number;
  readonly era: number;
  readonly born: number;
  readonly hash: number;
  readonly fields: Row;
}

async function insertVersions(pool: Pool, versions: readonly Version[]): Promise<void> {
  await pool.query(
    `insert into version (id, era, born, hash, fields)
     select id, era, born, hash, fields::text[] from unnest($1::int[], $2::int[], $3::int[], $4::int8[], $5::text[]) as v (id, era, born, hash, fields)`,
    [
      versions.map(({ id }) => id),
      versions.map(({ era }) => era),
      versions.map(({ born }) => born),
      versions.map(({ hash }) => hash),
      versions.map(({ fields }) => arrayText(fields)),
    ],
  );
}

function arrayText(row: Row): string {
  const items = row.map((field) => (field === null ? "NULL" : `"${field.replaceAll(/["\\]/g, String.raw`\$&`)}"`));
  return `{${items.join(",")}}`;
}

/** In the layout's order; what the update left alone is what it was. */
function complete({ layout }: Era, tuple: Tuple, before: Row | undefined): Row {
  return layout.columns.map(({ name }, i) => {
    assert(tuple.has(name), `expected a column ${name} in a row of ${layout.table}`);
    const field = tuple.get(name);
    if (field !== undefined) return field;
    assert(before, `expected to know ${layout.table}.${name}`);
    return before[i]!;
  });
}

function keyOf({ layout }: Era, tuple: Tuple): string {
  return JSON.stringify(layout.key.map((name) => tuple.get(name)));
}

function keyText({ layout }: Era, row: Row): string {
  return JSON.stringify(layout.key.map((name) => row[layout.columns.findIndex((column) => column.name === name)]));
}

// ── Hashes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Of the row as it stands in a DataRow message: sums of these tell whether two sets of rows are the same. */
function hashOf(row: Row): number {
  const parts: Buffer[] = [];
  for (const field of row) {
    const text = Buffer.from(field ?? "");
    const length = Buffer.alloc(4);
    length.writeInt32BE(field === null ? -1 : text.length);
    parts.push(length, text);
  }
  return hashFields(Buffer.concat(parts));
}

/** Mixed, since sums of CRCs that differ in the same bits would come out equal more often than chance. */
export function hashFields(bytes: Uint8Array): number {
  let mixed = crc32(bytes);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

// ── Timelines ────────────────────────────────────────────────────────────────────────────────────────────────────────

class Timeline {
  private readonly era: Era;
  private readonly filters: readonly Filter[];
  private readonly moments: { readonly commit: number; readonly count: number; readonly hash: number }[] = [];
  private advanced = 0;
  /** A column that the filter names is not there. */
  private meaningless = false;

  constructor(era: Era, filters: readonly Filter[]) {
    this.era = era;
    this.filters = filters;
  }

  at(commit: number): { count: number; hash: number } {
    let [low, high] = [0, this.moments.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.moments[middle]!.commit <= commit) low = middle + 1;
      else high = middle;
    }
    return this.moments[low - 1] ?? { count: 0, hash: 0 };
  }

  /** False where the filters mean nothing for this table. */
  async advance(pool: Pool, to: number): Promise<boolean> {
    if (this.meaningless || this.advanced >= to) return !this.meaningless;
    const { sql, params } = this.condition();
    try {
      const { rows } = await pool.query<{ commit: number; count: number; hash: number }>(
        `with candidate as materialized (select * from version where era = ${this.era.id} and (born > ${this.advanced} or died > ${this.advanced})),
          kept as (${keptFrom("candidate", this.era.layout, sql)}),
          event (commit, count, hash) as (
            select born, 1, hash from kept where born > ${this.advanced} and born <= ${to}
            union all select died, -1, -hash from kept where died > ${this.advanced} and died <= ${to})
         select commit, sum(count)::int as count, sum(hash)::float8 as hash from event group by commit order by commit`,
        params,
      );
      for (const { commit, count, hash } of rows) {
        const last = this.moments.at(-1) ?? { count: 0, hash: 0 };
        this.moments.push({ commit, count: last.count + count, hash: last.hash + hash });
      }
      this.advanced = to;
      return true;
    } catch (error) {
      if ((error as { code?: string }).code !== undefinedColumn) throw error;
      this.meaningless = true;
      return false;
    }
  }

  async rows(pool: Pool, commit: number): Promise<Row[]> {
    if (this.meaningless) return [];
    const { sql, params } = this.condition();
    const { rows } = await pool.query<{ fields: (string | null)[] }>(
      `with candidate as materialized (select * from version where era = ${this.era.id} and born <= ${commit} and died > ${commit})
       ${keptFrom("candidate", this.era.layout, sql)}`,
      params,
    );
    return rows.map(({ fields }) => fields);
  }

  private condition(): { sql: string; params: unknown[] } {
    const params: unknown[] = [];
    const parts = this.filters.map((filter) => {
      const offset = params.length;
      params.push(...(filter.params ?? []));
      const shifted = (filter.where ?? "true").replaceAll(/\$(\d+)/g, (_, n: string) => `$${Number(n) + offset}`);
      return `((${shifted}) is true)`;
    });
    return { sql: parts.join(" or "), params };
  }
}

const undefinedColumn = "42703";

/** The condition sees the table's columns and nothing else. */
function keptFrom(source: string, { columns }: Layout, condition: string): string {
  const typed = columns.map(({ name, type }, i) => `v.fields[${i + 1}]::${type} as "${name.replaceAll('"', '""')}"`);
  return `select v.* from ${source} as v cross join lateral (select (${condition}) as kept from (select ${typed.join(", ")}) as typed) as answer where answer.kept`;
}
