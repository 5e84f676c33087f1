/**
 * The local tables and the transactions that write them. One call of `commit` is one local transaction: the changes of
 * all shapes, the shapes that join, and the position they bring the replica to, or nothing of it.
 *
 *     describe ─▶ copy … ─▶ commit(joins)          a shape's first rows, loaded beside the table and swapped in
 *                           commit(changes) …      from then on
 *
 * Its methods are synchronous and run inside `database.exclusive`.
 */
import {
  crc32,
  formatLsn,
  type Lsn,
  type Operation,
  type TableDescription,
  type TypeDescription,
  type Value,
  WalcastError,
  zeroLsn,
} from "../engine/protocol.ts";
import { type Database, type Run, sqlStateOf } from "./database.ts";
import { dropUnheld, letGo, materialise, sharedRuns, takeOver } from "./membership.ts";
import { type NetChange, type NetChanges, reduce } from "./reduce.ts";
import * as sql from "./tables.ts";
import { runsFor } from "./writes.ts";

/** A shape's place on the replica: the same across reconnects. */
export interface Member {
  /** Never used again on this replica. */
  readonly number: number;
  /** Indexes wanted on the local table, as between the parentheses of CREATE INDEX. */
  readonly indexes: readonly string[];
}

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
  readonly operations: Iterable<Operation>;
}

export interface Change {
  readonly member: Member;
  readonly operations: Iterable<Operation>;
}

/** Immutable, so that a local transaction that fails leaves the list of tables as it was. */
interface LocalTable {
  readonly qualified: string;
  readonly description: TableDescription;
  readonly layout: string;
  readonly statements: sql.WriteStatements;
  /** Shapes whose rows stand here. From two on, `holders` says whose is which. */
  readonly members: ReadonlySet<Member>;
  readonly holders: string;
}

const schema = `
  BEGIN READ WRITE;
  CREATE SCHEMA IF NOT EXISTS walcast;
  CREATE TABLE IF NOT EXISTS walcast.state (one boolean PRIMARY KEY DEFAULT true CHECK (one), position pg_lsn NOT NULL);
  CREATE TABLE IF NOT EXISTS walcast.tables (name text PRIMARY KEY);
  CREATE TABLE IF NOT EXISTS walcast.types (name text PRIMARY KEY, description json NOT NULL);
  INSERT INTO walcast.state (position) VALUES ('0/0') ON CONFLICT (one) DO UPDATE SET position = '0/0';
  COMMIT`;

// PGlite has no autovacuum. Vacuuming after this many changed rows costs a microsecond for each.
const VACUUM_AFTER_ROWS = 20_000;

const setPosition = "UPDATE walcast.state SET position = $1";

export class Replica {
  readonly database: Database;
  /** Everything up to here is applied, and nothing beyond. */
  position: Lsn = zeroLsn;
  private tables = new Map<string, LocalTable>();
  private readonly types = new Map<string, TypeDescription>();
  /** Rows changed since the table was last vacuumed, by the table's name. */
  private readonly changedRows = new Map<string, number>();
  private loadCount = 0;

  constructor(database: Database) {
    this.database = database;
    database.script(schema);
    this.dropLeftovers();
    for (const { name, description } of database.rows("SELECT name, description FROM walcast.types")) {
      this.types.set(String(name), description as TypeDescription);
    }
  }

  /** Makes the types, the empty table if there is none, and a place for the rows to come. */
  describe(member: Member, description: TableDescription): Load {
    this.refuseOtherColumns(member, description);
    this.ensureTypes(description.types);
    const load = { member, description, staging: `load ${++this.loadCount}` };
    this.database.transaction(() => {
      this.database.script(sql.createTable(stagingOf(load), description));
      if (!this.tables.has(sql.qualified(description))) this.createEmpty(description);
    });
    if (!this.tables.has(sql.qualified(description))) this.setTable(description, new Set());
    return load;
  }

  /** Lines of COPY text, whole ones. */
  copy(load: Load, lines: readonly Uint8Array[]): void {
    this.database.copy(stagingOf(load), sql.columnList(load.description), lines);
  }

  /** The rows will not come, or not be needed. */
  discard(load: Load): void {
    this.database.script(`BEGIN READ WRITE; DROP TABLE IF EXISTS ${stagingOf(load)}; COMMIT`);
  }

  /** Returns the names of the tables that changed. */
  commit(changes: readonly Change[], joins: readonly Join[], position: Lsn): Set<string> {
    const changed = new Set<string>();
    const runs = changes.flatMap((change) => this.runsOf(change, changed));
    runs.push({ sql: setPosition, values: [formatLsn(position)] });
    if (joins.length === 0) this.database.pipeline(runs);
    else this.commitWithJoins(runs, joins, changed);
    this.position = position;
    return changed;
  }

  /** The shape's rows leave, except those that other shapes hold. Returns the table's name if it had rows in one. */
  remove(member: Member): string | undefined {
    const table = this.tableOf(member);
    if (!table) return undefined;
    const members = without(table.members, member);
    this.database.transaction(() => this.leave(table, member, members));
    this.tables.set(table.qualified, { ...table, members });
    return table.qualified;
  }

  /** Positions of another history mean nothing in this one. */
  forgetPosition(): void {
    this.position = zeroLsn;
  }

  /** For when nothing else is to be done: takes back the space of rows that are gone, or nothing would. */
  tidy(): void {
    const due = this.changedRows.entries().find(([name, count]) => count >= VACUUM_AFTER_ROWS && this.tables.has(name));
    if (!due) return;
    this.database.script(`VACUUM ${due[0]}`);
    this.changedRows.delete(due[0]);
  }

  // ── Changes ────────────────────────────────────────────────────────────────────────────────────────────────────────

  private runsOf({ member, operations }: Change, changed: Set<string>): Run[] {
    const table = this.tableOf(member);
    if (!table)
      throw new WalcastError("invariant", "apply a transaction: expected its shape to have joined a table, found none");
    const net = this.completed(reduce(operations, table.description), table.qualified, table.description);
    if (net.truncated || net.changes.size > 0) changed.add(table.qualified);
    this.changedRows.set(table.qualified, (this.changedRows.get(table.qualified) ?? 0) + net.changes.size);
    return isShared(table) ? sharedRuns(table, member.number, net) : runsFor(net, table.statements, table.description);
  }

  /** Fills in what updates left out ("unchanged"), from the rows as they are before the batch. */
  private completed(net: NetChanges, name: string, description: TableDescription): NetChanges {
    for (const [key, change] of net.changes) {
      if (change.base) net.changes.set(key, this.completedRow(change, change.base, name, description));
    }
    return net;
  }

  private completedRow(
    { key, row }: NetChange,
    base: readonly Value[],
    name: string,
    description: TableDescription,
  ): NetChange {
    const where = description.key.map((column, i) => `${sql.quoteIdentifier(column)} = $${i + 1}`).join(" AND ");
    const known = this.database.texts(`SELECT ${sql.columnList(description)} FROM ${name} WHERE ${where}`, base)[0];
    if (!known)
      throw new WalcastError(
        "invariant",
        "apply an update with unchanged values: expected to have the row, found none with its key",
      );
    return { key, row: row?.map((value, i) => (value === undefined ? known[description.columns[i]!.name] : value)) };
  }

  // ── Joins ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  private commitWithJoins(runs: readonly Run[], joins: readonly Join[], changed: Set<string>): void {
    const before = new Map(this.tables);
    try {
      this.database.transaction(() => {
        this.runAll(runs);
        for (const join of joins) changed.add(this.join(join));
      });
    } catch (error) {
      this.tables = before;
      throw error;
    }
  }

  private join({ load, operations }: Join): string {
    const { member, description } = load;
    const staging = stagingOf(load);
    this.database.script(sql.addPrimaryKey(staging, description));
    const net = this.completed(reduce(operations, description), staging, description);
    for (const run of runsFor(net, sql.writeStatements(staging, description), description))
      this.database.runOnce(run.sql, run.values);
    const table = this.tables.get(sql.qualified(description))!;
    const others = without(table.members, member);
    // Rows of two layouts cannot stand in one table. The other shapes are being loaded again as well and follow.
    if (others.size > 0 && table.layout === sql.layoutOf(description)) this.merge(table, load);
    else this.replace(table, load);
    return table.qualified;
  }

  /** The loaded table takes the real one's place, its indexes included. */
  private replace(table: LocalTable, load: Load): void {
    const { name, schema } = load.description;
    const isSameLayout = table.layout === sql.layoutOf(load.description);
    if (isShared(table)) this.database.script(`DROP TABLE ${table.holders}`);
    if (isSameLayout && this.hasViews(table)) this.refill(table, load);
    else {
      const indexes = isSameLayout ? this.indexesOf(table) : [];
      this.database.script(
        `DROP TABLE ${table.qualified} CASCADE; ALTER TABLE ${stagingOf(load)} SET SCHEMA ${sql.quoteIdentifier(schema)}`,
      );
      this.database.script(
        `ALTER TABLE ${sql.quoteIdentifier(schema)}.${sql.quoteIdentifier(load.staging)} RENAME TO ${sql.quoteIdentifier(name)}`,
      );
      for (const index of indexes) this.database.script(index);
    }
    if (!isSameLayout) this.database.forgetStatements();
    this.setTable(load.description, new Set([load.member]));
    this.createIndexes(load.member, table.qualified);
  }

  /** An application's views stand on the table itself, so it stays and its rows are exchanged. */
  private refill({ qualified, description }: LocalTable, load: Load): void {
    const columns = sql.columnList(description);
    this.database.script(
      `DELETE FROM ${qualified}; INSERT INTO ${qualified} (${columns}) SELECT ${columns} FROM ${stagingOf(load)}; DROP TABLE ${stagingOf(load)}`,
    );
  }

  /** The loaded rows come in beside those of other shapes. Both stand at the same position, so either may win. */
  private merge(table: LocalTable, load: Load): void {
    const columns = sql.columnList(table.description);
    const staging = stagingOf(load);
    if (!isShared(table)) this.runScripts(materialise(table, [...table.members][0]!.number));
    this.runScripts([
      letGo(table, load.member.number),
      `INSERT INTO ${table.qualified} (${columns}) SELECT ${columns} FROM ${staging} ${sql.onConflict(table.description)}`,
      takeOver(table, staging, load.member.number),
      dropUnheld(table),
      `DROP TABLE ${staging}`,
    ]);
    this.tables.set(table.qualified, { ...table, members: new Set([...table.members, load.member]) });
    this.createIndexes(load.member, table.qualified);
  }

  private leave(table: LocalTable, member: Member, left: ReadonlySet<Member>): void {
    if (left.size === 0) return this.database.script(`DELETE FROM ${table.qualified}`);
    this.runScripts([letGo(table, member.number), dropUnheld(table)]);
    if (left.size === 1) this.database.script(`DROP TABLE ${table.holders}`);
  }

  private createIndexes(member: Member, table: string): void {
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

  // ── Tables and types ───────────────────────────────────────────────────────────────────────────────────────────────

  private tableOf(member: Member): LocalTable | undefined {
    return this.tables.values().find(({ members }) => members.has(member));
  }

  private setTable(description: TableDescription, members: ReadonlySet<Member>): void {
    const qualified = sql.qualified(description);
    const holders = `walcast.${sql.quoteIdentifier(`holders ${description.oid} ${++this.loadCount}`)}`;
    this.tables.set(qualified, {
      qualified,
      description,
      layout: sql.layoutOf(description),
      statements: sql.writeStatements(qualified, description),
      members,
      holders,
    });
  }

  private createEmpty(description: TableDescription): void {
    const name = sql.qualified(description);
    try {
      this.database.script(
        `CREATE SCHEMA IF NOT EXISTS ${sql.quoteIdentifier(description.schema)}; ${sql.createTable(name, description)}; ${sql.addPrimaryKey(name, description)}`,
      );
    } catch (error) {
      if (sqlStateOf(error) !== "42P07") throw error;
      throw new WalcastError(
        "config_invalid",
        `create the local table ${name}: the PGlite it was given has one already, and not from Walcast`,
        { cause: error },
      );
    }
    this.database.runOnce("INSERT INTO walcast.tables VALUES ($1)", [name]);
  }

  private refuseOtherColumns(member: Member, description: TableDescription): void {
    const table = this.tables.get(sql.qualified(description));
    if (!table || without(table.members, member).size === 0 || table.description.version !== description.version)
      return;
    if (sql.columnList(table.description) === sql.columnList(description)) return;
    throw new WalcastError(
      "config_invalid",
      `sync ${table.qualified}: expected the columns of the shape that is there (${sql.columnList(table.description)}), found ${sql.columnList(description)}`,
      {
        hint: "Shapes of one table share a local table: give them the same columns.",
      },
    );
  }

  private ensureTypes(types: readonly TypeDescription[]): void {
    const opaque = sql.opaqueTypesOf(types);
    for (const type of types) if (type.kind !== "opaque") this.ensureType(type, opaque);
  }

  private ensureType(type: TypeDescription, opaque: sql.OpaqueTypes): void {
    const name = sql.qualified(type);
    const known = this.types.get(name);
    if (known && JSON.stringify(known) === JSON.stringify(type)) return;
    const added = known && sql.addedLabels(known, type);
    if (added) this.writeScripts(added);
    else this.createType(type, opaque, known !== undefined);
    this.database.transaction(() =>
      this.database.runOnce(
        "INSERT INTO walcast.types VALUES ($1, $2::json) ON CONFLICT (name) DO UPDATE SET description = EXCLUDED.description",
        [name, JSON.stringify(type)],
      ),
    );
    this.types.set(name, type);
    this.database.readArrayTypes();
  }

  private createType(type: TypeDescription, opaque: sql.OpaqueTypes, isKnown: boolean): void {
    const name = sql.qualified(type);
    // The old type goes on serving the old rows until their table is replaced.
    const aside = isKnown
      ? [`ALTER TYPE ${name} RENAME TO ${sql.quoteIdentifier(`walcast_old_${++this.loadCount}`)}`]
      : [];
    this.writeScripts([
      `CREATE SCHEMA IF NOT EXISTS ${sql.quoteIdentifier(type.schema)}`,
      ...aside,
      sql.createType(type, opaque),
    ]);
  }

  /** Nothing of an earlier client on a given PGlite can be resumed. */
  private dropLeftovers(): void {
    const leftovers = this.database.rows(`
      SELECT name FROM walcast.tables
      UNION ALL SELECT format('walcast.%I', relname) FROM pg_class
      WHERE relnamespace = 'walcast'::regnamespace AND relkind = 'r' AND (relname LIKE 'load %' OR relname LIKE 'holders %')`);
    this.writeScripts([
      ...leftovers.map(({ name }) => `DROP TABLE IF EXISTS ${String(name)} CASCADE`),
      "DELETE FROM walcast.tables",
    ]);
  }

  private runAll(runs: readonly Run[]): void {
    for (const run of runs) this.database.run(this.database.prepare(run.sql), run.values);
  }

  private runScripts(scripts: readonly string[]): void {
    for (const script of scripts) this.database.script(script);
  }

  private writeScripts(scripts: readonly string[]): void {
    this.database.transaction(() => this.runScripts(scripts));
  }
}

function stagingOf({ staging }: Load): string {
  return `walcast.${sql.quoteIdentifier(staging)}`;
}

function isShared({ members }: LocalTable): boolean {
  return members.size > 1;
}

function without(members: ReadonlySet<Member>, member: Member): ReadonlySet<Member> {
  return new Set([...members].filter((other) => other !== member));
}
