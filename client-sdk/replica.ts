/**
 * The local tables and the transactions that write them. One call of `commit` is one local transaction: the changes of
 * all shapes, the shapes that join, and the position they bring the replica to, or nothing of it.
 *
 *     describe ─▶ copy … ─▶ commit(joins)          a shape's first rows, loaded beside the table and swapped in
 *                           commit(changes) …      from then on
 *     claim ──────────────▶ commit(changes) …      where an earlier process left the rows
 *
 * Its methods are synchronous and run inside `database.exclusive`.
 */
import {
  type AddedColumn,
  crc32,
  formatLsn,
  type Lsn,
  type Operation,
  type TableDescription,
  type Value,
  WalcastError,
  zeroLsn,
} from "../engine/protocol.ts";
import { type Audit, auditOf } from "./audit.ts";
import type { EpochKeeps } from "./backlog.ts";
import type { Database, Run } from "./database.ts";
import { Leftovers } from "./leftovers.ts";
import { isShared, type LocalTable, LocalTables, type Member, numberOf, without } from "./local-tables.ts";
import { LocalTypes } from "./local-types.ts";
import { dropUnheld, letGo, materialise, sharedRuns, takeOver } from "./membership.ts";
import type { Spill } from "./pile.ts";
import { type NetChange, type NetChanges, reduce } from "./reduce.ts";
import { emptyStaging, isStagingEmpty, writeSpill } from "./staging.ts";
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

export interface Change {
  readonly member: Member;
  readonly operations: Iterable<Operation>;
}

export type Step =
  | { readonly kind: "changes"; readonly changes: readonly Change[] }
  | {
      readonly kind: "altered";
      readonly member: Member;
      readonly description: TableDescription;
      readonly added: readonly AddedColumn[];
    };

// PGlite has no autovacuum. Vacuuming after this many changed rows costs a microsecond for each.
const VACUUM_AFTER_ROWS = 20_000;

export class Replica {
  readonly database: Database;
  /** Why what an earlier process left could not be used. */
  readonly emptied: string | undefined;
  /** The history that `reached` belongs to. */
  epoch: string | undefined;
  /** What is shown: everything up to here is applied. Never goes back within a history. */
  position: Lsn;
  /** Where the rows are as the server counts; behind `position` only while a server catches up with an earlier one. */
  reached: Lsn;
  readonly types: LocalTypes;
  private readonly tables: LocalTables;
  private readonly leftovers: Leftovers;
  /** Rows changed since the table was last vacuumed, by the table's name. */
  private readonly changedRows = new Map<string, number>();
  private readonly loads = new Set<Load>();
  private hasSpilled = false;
  private memberCount = 0;
  private loadCount: number;

  constructor(database: Database) {
    this.database = database;
    const stored = store.openStore(database);
    this.emptied = stored.emptied;
    this.epoch = stored.epoch;
    this.position = this.reached = stored.position;
    this.types = new LocalTypes(database, stored.types);
    this.tables = new LocalTables(database);
    this.leftovers = new Leftovers(database, this.tables, stored);
    this.loadCount = store.lastLoad(database);
    this.memberCount = Math.max(0, ...stored.members.map(({ number }) => number));
  }

  /**
   * The rows that an earlier process left of a shape, if there are any; `identity`: while they are at `reached`. Outside a
   * turn, unlike everything else: only what is in memory changes, until `claimed`.
   */
  claim(member: Member): { identity: string | undefined } | undefined {
    return this.leftovers.claim(member);
  }

  claimed(member: Member, isCurrent: boolean): void {
    const runs = [store.claimMember(numberOf(member)), ...(isCurrent ? [] : [store.outdateMember(numberOf(member))])];
    this.database.transaction(() => this.database.runAll(runs));
  }

  /** Its rows stay where they are while the position moves on. */
  outdate(member: Member): void {
    if (!this.tables.of(member)) return;
    this.database.transaction(() => this.database.runAll([store.outdateMember(numberOf(member))]));
  }

  /** A server has told us which history it counts in. */
  enterEpoch(epoch: string, keeps: EpochKeeps): void {
    const isLost = keeps !== "everything";
    if (!isLost && epoch === this.epoch) return;
    this.database.transaction(() =>
      this.database.runAll([
        store.setEpoch(epoch),
        ...(isLost ? [store.setPosition(formatLsn(zeroLsn)), store.outdateAllMembers] : []),
      ]),
    );
    this.epoch = epoch;
    if (isLost) this.reached = zeroLsn;
    if (isLost) this.leftovers.outdate();
    if (keeps === "nothing") this.position = zeroLsn;
  }

  /** Makes the types, the empty table if there is none, and a place for the rows to come. */
  describe(member: Member, description: TableDescription): Load {
    this.refuseOtherColumns(member, description);
    this.types.ensure(description.types);
    member.number ??= ++this.memberCount;
    const load = { member, description, staging: `load ${++this.loadCount}` };
    this.tables.transaction(() => {
      this.database.script(sql.createTable(stagingOf(load), description));
      if (!this.tables.get(sql.qualified(description))) this.tables.createEmpty(description);
    });
    this.loads.add(load);
    return load;
  }

  /** Lines of COPY text, whole ones. */
  copy(load: Load, lines: readonly Uint8Array[]): void {
    this.database.copy(stagingOf(load), sql.columnList(load.description), lines);
  }

  /** The rows will not come, or not be needed. */
  discard(load: Load): void {
    this.loads.delete(load);
    this.database.script(`BEGIN READ WRITE; DROP TABLE IF EXISTS ${stagingOf(load)}; COMMIT`);
  }

  /** Returns the names of the tables that changed. */
  commit(steps: Iterable<Step>, joins: readonly Join[], position: Lsn): Set<string> {
    const changed = position === this.reached ? new Set<string>() : this.leftovers.stayBehind();
    const pending = this.pendingOf(steps);
    const last = store.setPosition(formatLsn(position));
    if (joins.length === 0 && pending.rest === undefined)
      this.database.pipeline([...this.runsOfAll(pending.first, changed), last]);
    else
      this.tables.transaction(() => {
        this.database.runAll(this.runsOfAll(pending.first, changed));
        for (const step of pending.rest ?? []) this.take(step, changed);
        for (const join of joins) changed.add(this.join(join));
        this.database.runAll([last]);
      });
    for (const { load } of joins) this.loads.delete(load);
    if (joins.length > 0) this.leftovers.settle();
    this.reached = position;
    if (position > this.position) this.position = position;
    return changed;
  }

  /** The shape's rows leave, except those that other shapes hold. Returns the table's name if it had rows in one. */
  remove(member: Member): string | undefined {
    const table = this.tables.of(member);
    if (!table) return undefined;
    this.tables.remove([member]);
    return table.qualified;
  }

  /** Every row leaves, whoever asked for it. Returns the names of the tables. */
  removeAll(): Set<string> {
    const names = this.tables.remove(this.tables.members);
    this.leftovers.settle();
    return names;
  }

  removeUnclaimed(): Set<string> {
    return this.leftovers.remove();
  }

  /** How many rows the shape has, and what they add up to. */
  audit(member: Member): Audit {
    const table = this.tables.of(member);
    if (!table) throw new WalcastError("invariant", "audit a shape: expected its rows in a table, found none");
    return auditOf(this.database, table, isShared(table) ? numberOf(member) : undefined);
  }

  /** Payloads that wait for their boundary. */
  spill(spill: Spill): void {
    writeSpill(this.database, spill);
    this.hasSpilled = true;
  }

  /** For when nothing else is to be done: takes back the space of rows that are gone, or nothing would. */
  tidy(): void {
    if (this.hasSpilled && isStagingEmpty(this.database)) {
      this.database.script(emptyStaging);
      this.hasSpilled = false;
    }
    const due = this.changedRows
      .entries()
      .find(([name, count]) => count >= VACUUM_AFTER_ROWS && this.tables.get(name) !== undefined);
    if (!due) return;
    this.database.script(`VACUUM ${due[0]}`);
    this.changedRows.delete(due[0]);
  }

  // ── Changes ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Most commits are one step, which needs no round trips of its own. */
  private pendingOf(steps: Iterable<Step>): { first: readonly Change[]; rest: Iterable<Step> | undefined } {
    const iterator = Iterator.from(steps);
    const { value: first, done } = iterator.next();
    if (done) return { first: [], rest: undefined };
    if (first.kind === "altered") return { first: [], rest: chain(first, iterator) };
    const { value: second, done: isOnly } = iterator.next();
    return { first: first.changes, rest: isOnly ? undefined : chain(second, iterator) };
  }

  private take(step: Step, changed: Set<string>): void {
    if (step.kind === "changes") return this.database.runAll(this.runsOfAll(step.changes, changed));
    changed.add(this.alter(step));
  }

  private runsOfAll(changes: readonly Change[], changed: Set<string>): Run[] {
    return changes.flatMap((change) => this.runsOf(change, changed));
  }

  private runsOf({ member, operations }: Change, changed: Set<string>): Run[] {
    const table = this.tables.of(member);
    if (!table)
      throw new WalcastError("invariant", "apply a transaction: expected its shape to have joined a table, found none");
    const net = this.completed(reduce(operations, table.description), table.qualified, table.description);
    if (net.truncated || net.changes.size > 0) changed.add(table.qualified);
    this.changedRows.set(table.qualified, (this.changedRows.get(table.qualified) ?? 0) + net.changes.size);
    return isShared(table)
      ? sharedRuns(table, numberOf(member), net)
      : runsFor(net, table.statements, table.description);
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
    const where = sql.keyIs(description);
    const known = this.database.texts(`SELECT ${sql.columnList(description)} FROM ${name} WHERE ${where}`, base)[0];
    if (!known)
      throw new WalcastError(
        "invariant",
        "apply an update with unchanged values: expected to have the row, found none with its key",
      );
    return { key, row: row?.map((value, i) => (value === undefined ? known[description.columns[i]!.name] : value)) };
  }

  // ── Alterations ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The first of the shapes on a table brings it to its new form, for all of them. */
  private alter({ member, description, added }: Extract<Step, { kind: "altered" }>): string {
    const table = this.tables.of(member);
    if (!table) throw new WalcastError("invariant", "alter a table: expected its shape to have joined it, found none");
    if (table.layout !== sql.layoutOf(description)) {
      this.runScripts(sql.addColumns(table.qualified, table.description, description, added));
      this.database.forgetStatements();
    }
    this.tables.set(description, table.members, table.holders);
    this.saveMember(member, description);
    return table.qualified;
  }

  // ── Joins ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  private join({ load, portions }: Join): string {
    const { member, description } = load;
    const staging = stagingOf(load);
    this.database.script(sql.addPrimaryKey(staging, description));
    for (const operations of portions) {
      const net = this.completed(reduce(operations, description), staging, description);
      for (const run of runsFor(net, sql.writeStatements(staging, description), description))
        this.database.runOnce(run.sql, run.values);
    }
    const name = sql.qualified(description);
    this.leftovers.leaveTable(name);
    const table = this.tables.get(name)!;
    const others = without(table.members, member);
    // Rows of two layouts cannot stand in one table. The other shapes are being loaded again as well and follow.
    if (others.size > 0 && table.layout === sql.layoutOf(description)) this.merge(table, load);
    else this.replace(table, load);
    this.saveMember(member, description);
    return name;
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
    this.database.runAll(Array.from(without(table.members, load.member), (other) => store.dropMember(numberOf(other))));
    this.tables.set(load.description, new Set([load.member]));
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
    const number = numberOf(load.member);
    if (!isShared(table)) this.runScripts(materialise(table, numberOf([...table.members][0]!)));
    this.runScripts([
      letGo(table, number),
      `INSERT INTO ${table.qualified} (${columns}) SELECT ${columns} FROM ${staging} ${sql.onConflict(table.description)}`,
      takeOver(table, staging, number),
      dropUnheld(table),
      `DROP TABLE ${staging}`,
    ]);
    this.tables.setMembers(table, [...table.members, load.member]);
    this.createIndexes(load.member, table.qualified);
  }

  private saveMember(member: Member, description: TableDescription): void {
    const { request } = member;
    const name = sql.qualified(description);
    this.database.runAll([
      store.saveMember({ number: numberOf(member), request, name, identity: description.identity }),
    ]);
  }

  // ── Indexes ────────────────────────────────────────────────────────────────────────────────────────────────────────

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

  private runScripts(scripts: readonly string[]): void {
    for (const script of scripts) this.database.script(script);
  }
}

function* chain<Item>(first: Item, rest: Iterator<Item>): Generator<Item> {
  yield first;
  for (let next = rest.next(); !next.done; next = rest.next()) yield next.value;
}

function stagingOf({ staging }: Load): string {
  return `walcast.${sql.quoteIdentifier(staging)}`;
}
