/**
 * How loaded rows come in. They are loaded into a table of their own beside the real one, brought to where everything
 * else is, and then take the real one's place, or come in among the rows that other shapes have there.
 *
 *     describe ─▶ copy … ─▶ complete ─▶ (beside, taking its changes there) ─▶ place
 *
 * Rows of two forms cannot stand in one table. Where a table's columns have changed, all its shapes are loaded again, and
 * each of them is complete at a moment of its own. If the first took the table's place, rows that only the others
 * have would be away until these are complete as well. So who is complete waits beside the table until all who have rows in it
 * are, and they come in together, in one local transaction: the table is never seen without rows that it had before
 * and has after, and never with some of an older commit. Nobody waits for a shape that is not coming.
 */
import { crc32, type Operation, type TableDescription, WalcastError } from "../engine/protocol.ts";
import { Changed } from "./changed.ts";
import { netChanges } from "./complete.ts";
import type { Database } from "./database.ts";
import type { Leftovers } from "./leftovers.ts";
import { isShared, type LocalTable, type LocalTables, type Member, numberOf, without } from "./local-tables.ts";
import { dropUnheld, letGo, materialise, takeOver } from "./membership.ts";
import * as store from "./store.ts";
import * as sql from "./tables.ts";
import { runsFor } from "./writes.ts";

/** First rows on their way in. */
export interface Load {
  readonly member: Member;
  readonly description: TableDescription;
  /** The table beside the real one that takes the rows: its plain name, in the schema walcast. */
  readonly staging: string;
}

export interface Join {
  readonly load: Load;
  /** What happened to the loaded rows meanwhile, in commit order. */
  readonly portions: Iterable<readonly Operation[]>;
}

export interface Placed {
  readonly changed: Changed;
  readonly loads: Load[];
  readonly failed: { readonly load: Load; readonly error: unknown }[];
}

export class Joins {
  private readonly database: Database;
  private readonly tables: LocalTables;
  private readonly leftovers: Leftovers;
  private readonly loads = new Set<Load>();
  private loadCount: number;

  constructor(database: Database, tables: LocalTables, leftovers: Leftovers) {
    this.database = database;
    this.tables = tables;
    this.leftovers = leftovers;
    this.loadCount = store.lastLoad(database);
  }

  /** Makes the empty table if there is none, and a place for the rows to come. */
  describe(member: Member, description: TableDescription): Load {
    this.refuseOtherColumns(member, description);
    const load = { member, description, staging: `load ${++this.loadCount}` };
    this.tables.transaction(() => {
      this.database.script(sql.createTable(stagingOf(load), description));
      if (!this.tables.get(sql.qualified(description))) this.tables.createEmpty(description);
    });
    this.loads.add(load);
    return load;
  }

  /** Lines of COPY text, whole ones. Returns how many. */
  copy(load: Load, lines: readonly Uint8Array[]): number {
    return this.database.copy(stagingOf(load), sql.columnList(load.description), lines);
  }

  /** The rows will not come, or not be needed. */
  discard(load: Load): void {
    this.loads.delete(load);
    this.tables.dropBeside(load.member);
    this.database.script(`BEGIN READ WRITE; DROP TABLE IF EXISTS ${stagingOf(load)}; COMMIT`);
  }

  /** Inside a transaction: all its rows are there, at the position of all others. */
  complete({ load, portions }: Join): void {
    const { member, description } = load;
    this.database.script(sql.addPrimaryKey(stagingOf(load), description));
    const table = this.tables.setBeside(member, stagingOf(load), description);
    for (const operations of portions) {
      const net = netChanges(this.database, table, operations);
      for (const run of runsFor(net, table.statements, table.form)) this.database.runOnce(run.sql, run.values);
    }
  }

  /** All who need not wait come in, those of one table in one local transaction. */
  place(): Placed {
    const placed: Placed = { changed: new Changed(), loads: [], failed: [] };
    for (const loads of this.ready()) this.placeTogether(loads, placed);
    if (placed.loads.length > 0) this.leftovers.settle();
    return placed;
  }

  // ── Waiting ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Those that can come in, with all of the same table. */
  private ready(): Load[][] {
    const waiting = [...this.loads].filter(({ member }) => this.tables.beside(member));
    const together = Map.groupBy(waiting, ({ member, description }) =>
      JSON.stringify([sql.qualified(description), this.tables.beside(member)!.layout]),
    );
    return [...together.values()].filter((loads) => this.areReady(loads));
  }

  /** `loads`: all of one table that are complete, in the same layout. */
  private areReady(loads: readonly Load[]): boolean {
    const [{ member, description }] = loads as [Load];
    const table = this.tables.get(sql.qualified(description))!;
    if (table.layout === this.tables.beside(member)!.layout) return true;
    const complete = new Set(loads.map((load) => load.member));
    return table.members.values().every((one) => complete.has(one) || one.isOver || this.leftovers.has(one));
  }

  /** One that cannot come in keeps nobody else out. */
  private placeTogether(loads: readonly Load[], placed: Placed): void {
    let current: Load | undefined;
    try {
      this.tables.transaction(() => {
        for (const load of loads) this.placeOne((current = load));
      });
    } catch (error) {
      if (!current) throw error;
      this.discard(current);
      placed.failed.push({ load: current, error });
      return this.placeTogether(
        loads.filter((load) => load !== current),
        placed,
      );
    }
    for (const load of loads) {
      this.loads.delete(load);
      placed.loads.push(load);
      placed.changed.addTable(sql.qualified(load.description));
    }
  }

  // ── Coming in ──────────────────────────────────────────────────────────────────────────────────────────────────────

  private placeOne({ member, staging }: Load): void {
    const loaded = this.tables.beside(member)!;
    const name = sql.qualified(loaded.description);
    this.leftovers.leaveTable(name);
    const table = this.tables.get(name)!;
    const others = without(table.members, member);
    this.tables.dropBeside(member);
    if (others.size > 0 && table.layout === loaded.layout) this.merge(table, loaded, member);
    else this.replace(table, loaded, member, staging);
    this.createIndexes(member, name);
    this.tables.saveMember(member, loaded.description);
  }

  /** The loaded table takes the real one's place, its indexes included. */
  private replace(table: LocalTable, loaded: LocalTable, member: Member, staging: string): void {
    const { name, schema } = loaded.description;
    const isSameLayout = table.layout === loaded.layout;
    if (isShared(table)) this.database.script(`DROP TABLE ${table.holders}`);
    if (isSameLayout && this.hasViews(table)) this.refill(table, loaded);
    else {
      const indexes = isSameLayout ? this.indexesOf(table) : [];
      this.database.script(
        `DROP TABLE ${table.qualified} CASCADE; ALTER TABLE ${loaded.qualified} SET SCHEMA ${sql.quoteIdentifier(schema)}`,
      );
      this.database.script(
        `ALTER TABLE ${sql.quoteIdentifier(schema)}.${sql.quoteIdentifier(staging)} RENAME TO ${sql.quoteIdentifier(name)}`,
      );
      for (const index of indexes) this.database.script(index);
    }
    if (!isSameLayout) this.database.forgetStatements();
    this.database.runAll(Array.from(without(table.members, member), (other) => store.dropMember(numberOf(other))));
    this.tables.set(loaded.description, new Set([member]));
  }

  /** An application's views stand on the table itself, so it stays and its rows are exchanged. */
  private refill({ qualified, form }: LocalTable, loaded: LocalTable): void {
    const columns = sql.columnList(form);
    this.database.script(
      `DELETE FROM ${qualified}; INSERT INTO ${qualified} (${columns}) SELECT ${columns} FROM ${loaded.qualified}; DROP TABLE ${loaded.qualified}`,
    );
  }

  /** The loaded rows come in beside those of other shapes. Both stand at the same position, so either may win. */
  private merge(table: LocalTable, loaded: LocalTable, member: Member): void {
    const columns = sql.columnList(table.form);
    const number = numberOf(member);
    const shared = isShared(table) ? [] : materialise(table, numberOf([...table.members][0]!));
    const scripts = [
      ...shared,
      letGo(table, number),
      `INSERT INTO ${table.qualified} (${columns}) SELECT ${columns} FROM ${loaded.qualified} ${sql.onConflict(table.form)}`,
      takeOver(table, loaded.qualified, number),
      dropUnheld(table),
      `DROP TABLE ${loaded.qualified}`,
    ];
    for (const script of scripts) this.database.script(script);
    this.tables.setMembers(table, [...table.members, member]);
  }

  /** Inside a transaction: those that it wants and has not. */
  createIndexes(member: Member, table: string): void {
    for (const index of member.indexes) {
      const name = `walcast_${crc32(new TextEncoder().encode(`${table} ${index}`)).toString(16)}`;
      this.database.script(`CREATE INDEX IF NOT EXISTS ${name} ON ${table} (${index})`);
    }
  }

  private indexesOf({ qualified }: LocalTable): string[] {
    const query =
      "SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index WHERE indrelid = $1::text::regclass AND NOT indisprimary";
    return this.database.rows(query, [qualified]).map(({ definition }) => String(definition));
  }

  private hasViews({ qualified }: LocalTable): boolean {
    const query =
      "SELECT FROM pg_depend WHERE refclassid = 'pg_class'::regclass AND refobjid = $1::text::regclass AND classid = 'pg_rewrite'::regclass LIMIT 1";
    return this.database.rows(query, [qualified]).length > 0;
  }

  /** Of this form of the table, whether shapes that are there or on their way have the same columns. */
  private refuseOtherColumns(member: Member, description: TableDescription): void {
    const others = this.loads
      .values()
      .filter((load) => load.member !== member)
      .map((load) => load.description);
    const table = this.tables.get(sql.qualified(description));
    const isHeld = table?.members.values().some((other) => other !== member && !this.leftovers.has(other));
    const other = [...(table && isHeld ? [table.description] : []), ...others].find(
      (one) =>
        sql.qualified(one) === sql.qualified(description) &&
        one.version === description.version &&
        sql.columnList(one) !== sql.columnList(description),
    );
    if (!other) return;
    throw new WalcastError(
      "config_invalid",
      `sync ${sql.qualified(description)}: expected the columns of the shape that is there (${sql.columnList(other)}), found ${sql.columnList(description)}`,
      { hint: "Shapes of one table share a local table: give them the same columns." },
    );
  }
}

function stagingOf({ staging }: Load): string {
  return `walcast.${sql.quoteIdentifier(staging)}`;
}
