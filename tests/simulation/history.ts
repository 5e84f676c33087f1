/**
 * What is true: every version of every row with the commits it lived between, learned from a second slot, and every change
 * in the order in which it was made. Which rows a predicate keeps is Postgres' own answer, asked on another database. From
 * both come a timeline per predicate, and the events that a channel should tell.
 */
import assert from "node:assert/strict";
import type { Pool } from "pg";
import { formatLsn, type Lsn } from "../../engine/protocol.ts";
import type { Change, DecodedCommit, Tuple } from "./decoding.ts";
import type { Layout, SchemaMessage } from "./layout.ts";
import { hashOf } from "./row-hash.ts";
import { type Row, Timeline, type View } from "./timeline.ts";
import { createVersions, endVersions, insertVersions, never, type Version } from "./versions.ts";

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

/** By which versions a row was and is, where it was and is. */
interface RowChange {
  readonly commit: number;
  readonly era: Era;
  readonly old: number | undefined;
  readonly row: number | undefined;
}

/** What a channel tells of a change, with hashes of the rows. */
export interface Event {
  readonly type: "INSERT" | "UPDATE" | "DELETE";
  readonly commit: number;
  readonly old: number | undefined;
  readonly row: number | undefined;
}

export class History {
  private readonly pool: Pool;
  /** Where each commit ends, in order: the commit with number n ends at `ends[n - 1]`. */
  private readonly ends: Lsn[] = [];
  private readonly eras = new Map<string, Era[]>();
  private readonly partitions = new Map<string, { readonly root: string; readonly region: string }>();
  private readonly emptied: { readonly root: string; readonly at: number }[] = [];
  private readonly timelines = new Map<string, Timeline>();
  private readonly changes = new Map<string, RowChange[]>();
  /** The last commit that touched a table. */
  private readonly touched = new Map<string, number>();
  private versions = 0;
  private eraCount = 0;
  private born: Version[] = [];
  private died: { id: number; at: number }[] = [];
  /** Everything that ends at or before it is known. */
  knownTo: Lsn = 0n as Lsn;

  static async create(pool: Pool): Promise<History> {
    await createVersions(pool);
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
  async expected(table: string, view: View, commit: number): Promise<Expected | undefined> {
    const era = this.eraOf(table, commit);
    if (!era) return undefined;
    const timeline = this.timeline(era, view);
    if (!(await timeline.advance(this.pool, this.commits))) return undefined;
    return { columns: timeline.columns, ...timeline.at(commit) };
  }

  /** The rows themselves, for a message that says what is wrong. */
  async rows(table: string, view: View, commit = this.commits): Promise<Row[]> {
    const era = this.eraOf(table, commit);
    return era ? this.timeline(era, view).rows(this.pool, commit) : [];
  }

  /** What changed among the rows that are kept in the commits after `from` up to `to`, in order. */
  async events(table: string, view: View, from: number, to: number): Promise<Event[]> {
    const changes = (this.changes.get(table) ?? []).filter(({ commit }) => commit > from && commit <= to);
    const events: Event[] = [];
    for (const [era, ofEra] of Map.groupBy(changes, (change) => change.era)) {
      const versions = ofEra.flatMap(({ old, row }) => [old ?? [], row ?? []].flat());
      const hashes = await this.timeline(era, view).hashes(this.pool, versions);
      if (!hashes) break;
      events.push(...ofEra.flatMap((change) => eventOf(change, hashes) ?? []));
    }
    return events;
  }

  /** No events are asked for that are as old as this commit. */
  forgetChanges(commit: number): void {
    for (const [table, changes] of this.changes)
      this.changes.set(
        table,
        changes.filter((change) => change.commit > commit),
      );
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

  private timeline(era: Era, view: View): Timeline {
    const key = JSON.stringify([era.id, view]);
    const timeline = this.timelines.get(key) ?? new Timeline(era.id, era.layout, view);
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
        return this.withEra(change.table, (era) =>
          this.note(era, undefined, this.add(era, complete(era, change.row, undefined))),
        );
      case "delete":
        return this.withEra(change.table, (era) =>
          this.note(era, this.remove(era, keyOf(era, change.old)).id, undefined),
        );
      case "update":
        return this.withEra(change.table, (era) => {
          const old = this.remove(era, keyOf(era, change.old ?? change.row));
          this.note(era, old.id, this.add(era, complete(era, change.row, old.row)));
        });
    }
  }

  private note(era: Era, old: number | undefined, row: number | undefined): void {
    const { decoded } = era.layout;
    const changes = this.changes.get(decoded) ?? [];
    this.changes.set(decoded, changes);
    changes.push({ commit: this.commits, era, old, row });
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

  private add(era: Era, row: Row): number {
    const id = ++this.versions;
    const key = keyText(era, row);
    assert(!era.live.has(key), `expected no row ${key} in ${era.layout.table} at ${this.describe(this.commits)}`);
    era.live.set(key, { id, row });
    this.born.push({ id, era: era.id, born: this.commits, hash: hashOf(row), fields: row });
    return id;
  }

  private remove(era: Era, key: string): { readonly id: number; readonly row: Row } {
    const version = era.live.get(key);
    assert(version, `expected a row ${key} in ${era.layout.table} at ${this.describe(this.commits)}`);
    era.live.delete(key);
    this.died.push({ id: version.id, at: this.commits });
    return version;
  }

  private async save(): Promise<void> {
    const [born, died] = [this.born.splice(0), this.died.splice(0)];
    for (let i = 0; i < born.length; i += 1000) await insertVersions(this.pool, born.slice(i, i + 1000));
    if (died.length > 0) await endVersions(this.pool, died);
  }
}

function eventOf(change: RowChange, hashes: ReadonlyMap<number, number>): Event | undefined {
  const { commit } = change;
  const old = hashes.get(change.old ?? 0);
  const row = hashes.get(change.row ?? 0);
  if (old === undefined && row === undefined) return undefined;
  return { type: old === undefined ? "INSERT" : row === undefined ? "DELETE" : "UPDATE", commit, old, row };
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
