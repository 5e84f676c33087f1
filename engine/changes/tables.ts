/**
 * The tables that are served: found by name, made ready for the stream, described. What is known of one is kept until the
 * stream says that it is out of date. Where nobody notes that in the stream, nothing is kept, so that who comes back is
 * compared with the table as it is.
 */
import type pg from "pg";
import { qualifiedName } from "../shapes/name.ts";
import { describeTable, findTable, unknownTable } from "./catalog.ts";
import { InTurn } from "./in-turn.ts";
import { Ready, type ReadyOptions } from "./ready.ts";
import type { Table } from "./table.ts";

export interface TablesOptions extends ReadyOptions {
  /** Whether event triggers note what happens to tables. */
  readonly isNoted: () => boolean;
  /** A table is ready that was not, or not any more: rows that were read of it before say nothing about it now. */
  readonly onReadied?: (oid: number) => void;
}

export class Tables {
  private readonly pool: pg.Pool;
  private readonly options: TablesOptions;
  private readonly readiness: Ready;
  private readonly found = new InTurn<number>();
  private readonly ready = new Map<number, Promise<void>>();
  private readonly described = new Map<number, Promise<Table>>();
  /** What `get` gave, by name, for as long as it is kept. */
  private readonly latest = new Map<string, Table>();

  constructor(pool: pg.Pool, options: TablesOptions) {
    this.pool = pool;
    this.options = options;
    this.readiness = new Ready(pool, options);
  }

  /**
   * The table that has this name now, in the stream from here on. `full`: old rows shall be whole. A description under
   * another name is no answer: it was renamed since it was found, and what may be read follows from the name.
   */
  async get(schema: string, name: string, full: boolean): Promise<Table> {
    for (;;) {
      const known = qualifiedName(schema, name);
      const oid = await this.found.get(known, () => findTable(this.pool, schema, name));
      await once(this.ready, oid, () => this.makeReady(oid, known, full));
      const table = await once(this.described, oid, () => this.describe(oid, schema, name));
      const isAnother = table.schema !== schema || table.name !== name;
      // Nobody shows a table without a key, so nobody would hear that it has one now.
      if (isAnother || table.key.length === 0 || !this.options.isNoted()) this.forget(oid);
      else if (this.described.has(oid)) this.latest.set(known, table);
      if (!isAnother) return table;
    }
  }

  /** What was found last under this name, if it is still thought to be so: without asking Postgres. */
  known(schema: string, name: string): Table | undefined {
    return this.latest.get(qualifiedName(schema, name));
  }

  /** Its schema changed, or may have, or it may not be ready any more. */
  forget(oid: number): void {
    this.described.delete(oid);
    this.ready.delete(oid);
    for (const [name, table] of this.latest) if (table.oid === oid) this.latest.delete(name);
  }

  /**
   * Those of these tables, by oid, that are not any more what they were. Where event triggers are permitted, a change of
   * form comes in the stream, in its place, and only the rest is looked for: rights can change where no trigger sees it.
   */
  async moved(versions: ReadonlyMap<number, string>): Promise<number[]> {
    const lost = await this.readiness.lost([...versions.keys()]);
    return this.options.isNoted() ? lost : [...new Set([...lost, ...(await this.otherVersions(versions))])];
  }

  private async makeReady(oid: number, name: string, full: boolean): Promise<void> {
    if (await this.readiness.make(oid, name, full)) this.options.onReadied?.(oid);
  }

  private async otherVersions(versions: ReadonlyMap<number, string>): Promise<number[]> {
    const { rows } = await this.pool.query<{ oid: number; version: string | null }>(
      "select oid::int8::float8 as oid, walcast.table_version(oid) as version from unnest($1::int8[]::oid[]) as oid",
      [[...versions.keys()]],
    );
    return rows.filter(({ oid, version }) => versions.get(oid) !== version).map(({ oid }) => oid);
  }

  /** Another history: whatever was made ready was so for another slot. */
  forgetAll(): void {
    this.described.clear();
    this.ready.clear();
    this.latest.clear();
  }

  private async describe(oid: number, schema: string, name: string): Promise<Table> {
    const table = await describeTable(this.pool, oid);
    if (!table) throw unknownTable(schema, name);
    return table;
  }
}

/** One run for all who ask meanwhile; a failed one is forgotten, so that the next to ask tries again. */
function once<T>(running: Map<number, Promise<T>>, key: number, run: () => Promise<T>): Promise<T> {
  const known = running.get(key);
  if (known) return known;
  const started = run();
  running.set(key, started);
  started.catch(() => running.get(key) === started && running.delete(key));
  return started;
}
