/**
 * The local tables and the transactions that write them. One call of `commit` is one local transaction: the changes of
 * all shapes, the rows of shapes that join, and the position they bring the replica to, or nothing of it. Right after it,
 * before anybody reads, the rows that joined come in; a process that is killed in between loads them again.
 *
 *     describe ─▶ copy … ─▶ commit(joins)          a shape's first rows, loaded beside the table and swapped in
 *                           commit(changes) …      from then on
 *     claim ──────────────▶ commit(changes) …      where an earlier process left the rows
 *
 * Its methods are synchronous and run inside `database.exclusive`.
 */
import {
  type AddedColumn,
  formatLsn,
  type Lsn,
  type Operation,
  type TableDescription,
  type TypeDescription,
  WalcastError,
  zeroLsn,
} from "../engine/protocol.ts";
import { type Audit, auditOf } from "./audit.ts";
import { Changed, KEYS_MAX } from "./changed.ts";
import { netChanges } from "./complete.ts";
import type { Database } from "./database.ts";
import type { Run } from "./postgres-session.ts";
import { describeTable, type ShapeDescription } from "./description.ts";
import type { Size } from "./inspection.ts";
import { insertionsOf } from "./insertions.ts";
import { type Join, Joins, type Load, type Placed } from "./joins.ts";
import { Leftovers } from "./leftovers.ts";
import { isShared, type LocalTable, LocalTables, type Member, numberOf } from "./local-tables.ts";
import { LocalTypes } from "./local-types.ts";
import { sharedRuns } from "./membership.ts";
import type { Spill } from "./pile.ts";
import { PositionWrites } from "./position.ts";
import type { NetChanges } from "./reduce.ts";
import { emptyStaging, isStagingEmpty, writeSpill } from "./staging.ts";
import * as store from "./store.ts";
import * as sql from "./tables.ts";
import { runsFor } from "./writes.ts";
import type { EpochKeeps } from "./work.ts";

export interface Change {
  readonly member: Member;
  readonly operations: Iterable<Operation>;
  /** The same as they were received, where they are at hand. */
  readonly payloads?: readonly Uint8Array[];
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

// Of a new row as it travels: its tag, its count of columns, and one of them with a character.
const ROW_BYTES_MIN = 9;

export class Replica {
  readonly database: Database;
  /** Why what an earlier process left could not be used. */
  readonly emptied: string | undefined;
  /** An earlier process left somebody else's rows, which are gone. */
  readonly isPurged: boolean;
  /** The history that `reached` belongs to. */
  epoch: string | undefined;
  /** What is shown: everything up to here is applied. Never goes back within a history. */
  position: Lsn;
  /** Where the rows are as the server counts; behind `position` only while a server catches up with an earlier one. */
  reached: Lsn;
  /** What is going to be looked up right after these changes: it goes along with them. */
  foresee: (changed: Changed) => readonly Run[] = () => [];
  private readonly types: LocalTypes;
  private readonly tables: LocalTables;
  private readonly leftovers: Leftovers;
  private readonly joins: Joins;
  private readonly positionWrites = new PositionWrites();
  /** Rows changed since the table was last vacuumed, by the table's name. */
  private readonly changedRows = new Map<string, number>();
  private hasSpilled = false;
  private memberCount = 0;

  /** `owner`: whose rows it holds; those of anybody else leave. */
  constructor(database: Database, owner?: string) {
    this.database = database;
    const stored = store.openStore(database, owner);
    this.emptied = stored.emptied;
    this.isPurged = stored.isPurged;
    this.epoch = stored.epoch;
    this.position = this.reached = stored.position;
    this.types = new LocalTypes(database, stored.types);
    this.tables = new LocalTables(database);
    this.leftovers = new Leftovers(database, this.tables, stored);
    this.joins = new Joins(database, this.tables, this.leftovers);
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
    this.database.transaction(() => {
      this.database.runAll(runs);
      this.joins.createIndexes(member, this.tables.of(member)!.qualified);
    });
  }

  /** Its rows stay where they are while the position moves on. */
  outdate(member: Member): void {
    if (!this.tables.of(member)) return;
    this.database.transaction(() => this.database.runAll([store.outdateMember(numberOf(member))]));
  }

  setOwner(owner: string | undefined): void {
    this.database.transaction(() => this.database.runAll([store.setOwner(owner)]));
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
    this.ensureTypes(description.types);
    member.number ??= ++this.memberCount;
    return this.joins.describe(member, description);
  }

  ensureTypes(types: readonly TypeDescription[]): void {
    if (this.types.ensure(types)) this.tables.respell();
  }

  /** Lines of COPY text, whole ones. Returns how many. */
  copy(load: Load, lines: readonly Uint8Array[]): number {
    return this.joins.copy(load, lines);
  }

  /** The rows will not come, or not be needed. */
  discard(load: Load): void {
    this.joins.discard(load);
  }

  /** What has come in, which is not all that has joined: see joins.ts. */
  commit(steps: Iterable<Step>, joins: readonly Join[], position: Lsn): Placed {
    const changed = new Changed(position === this.reached ? [] : this.leftovers.stayBehind());
    const pending = this.pendingOf(steps);
    const text = formatLsn(position);
    if (joins.length === 0 && pending.rest === undefined && !pending.first.some(mayBeCopied)) {
      const runs = this.positionWrites.after(this.runsOfAll(pending.first, changed), text);
      this.database.pipeline(runs, this.foresee(changed));
    } else
      this.tables.transaction(() => {
        this.write(pending.first, changed);
        for (const step of pending.rest ?? []) this.take(step, changed);
        for (const join of joins) this.joins.complete(join);
        this.database.runAll([store.setPosition(text)]);
      });
    this.reached = position;
    if (position > this.position) this.position = position;
    if (joins.length === 0) return { changed, loads: [], failed: [] };
    const placed = this.place();
    changed.add(placed.changed);
    return { ...placed, changed };
  }

  /** Who waited for others that are complete now, or will not come, comes in. */
  place(): Placed {
    return this.joins.place();
  }

  /** The shape's rows leave, except those that other shapes hold. Returns the table's name if it had rows in one. */
  remove(member: Member): string | undefined {
    const table = this.tables.of(member);
    if (!table) return undefined;
    this.tables.remove([member]);
    return table.qualified;
  }

  /** The rows of these shapes leave, and, in the same transaction, those that nobody has asked for. Returns the names of the tables. */
  withdraw(members: readonly Member[], isPurge: boolean): Set<string> {
    return isPurge ? this.leftovers.removeWith(members) : this.tables.remove(members);
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

  /** The table that its rows stand in. */
  descriptionOf(member: Member): ShapeDescription {
    const table = this.tables.of(member);
    if (!table) throw new WalcastError("invariant", "describe a shape: expected its rows in a table, found none");
    return describeTable(table);
  }

  /** How many rows the shape has, and what they add up to. */
  audit(member: Member): Audit {
    const table = this.tables.takerOf(member);
    if (!table) throw new WalcastError("invariant", "audit a shape: expected its rows in a table, found none");
    return auditOf(this.database, table, isShared(table) ? numberOf(member) : undefined);
  }

  /** Of its rows that can be read; undefined where it has none yet. */
  sizeOf(member: Member): Size | undefined {
    const table = this.tables.of(member);
    if (!table) return undefined;
    const held = isShared(table) ? `${table.holders} WHERE walcast_shape = ${numberOf(member)}` : table.qualified;
    const [size] = this.database.rows(
      `SELECT (SELECT count(*) FROM ${held})::int AS rows, pg_total_relation_size($1::regclass)::float8 AS bytes`,
      [table.qualified],
    );
    return { rows: Number(size!.rows), bytes: Number(size!.bytes) };
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

  private take(step: Step, changed: Changed): void {
    if (step.kind === "changes") return this.write(step.changes, changed);
    this.alter(step, changed);
  }

  /** All of what is written set by set is put together before the first of it is written: it is completed from rows as they were. */
  private write(changes: readonly Change[], changed: Changed): void {
    const others = changes.filter((change) => !mayBeCopied(change) || !this.insert(change, changed));
    this.database.runAll(this.runsOfAll(others, changed));
  }

  /** Many new rows, and nothing else, into a table that no other shape has. False where it is not that, and nothing is done. */
  private insert({ member, payloads = [] }: Change, changed: Changed): boolean {
    const table = this.takerOf(member);
    if (isShared(table)) return false;
    const insertions = insertionsOf(payloads, table.form.columns.length, KEYS_MAX + 1);
    if (!insertions || !this.database.copyOrNothing(table.qualified, sql.columnList(table.form), insertions.lines))
      return false;
    if (table === this.tables.get(table.qualified)) {
      changed.addTable(table.qualified);
      this.countRows(table, insertions.rows);
    }
    return true;
  }

  private runsOfAll(changes: readonly Change[], changed: Changed): Run[] {
    return changes.flatMap((change) => this.runsOf(change, changed));
  }

  private runsOf({ member, operations }: Change, changed: Changed): Run[] {
    const table = this.takerOf(member);
    const net = netChanges(this.database, table, operations);
    if (table === this.tables.get(table.qualified)) this.count(table, net, changed);
    return isShared(table) ? sharedRuns(table, numberOf(member), net) : runsFor(net, table.statements, table.form);
  }

  private takerOf(member: Member): LocalTable {
    const table = this.tables.takerOf(member);
    if (table) return table;
    throw new WalcastError(
      "invariant",
      "apply a transaction: expected its shape to have joined, found that it has not",
    );
  }

  private count(table: LocalTable, net: NetChanges, changed: Changed): void {
    changed.addNet(table.qualified, net);
    this.countRows(table, net.changes.size);
  }

  private countRows({ qualified }: LocalTable, rows: number): void {
    this.changedRows.set(qualified, (this.changedRows.get(qualified) ?? 0) + rows);
  }

  // ── Alterations ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The first of the shapes on a table brings it to its new form, for all of them. */
  private alter({ member, description, added }: Extract<Step, { kind: "altered" }>, changed: Changed): void {
    const table = this.tables.takerOf(member);
    if (!table)
      throw new WalcastError("invariant", "alter a table: expected its shape to have joined, found that it has not");
    if (sql.layoutOf(table.description) !== sql.layoutOf(description)) {
      for (const script of sql.addColumns(table.qualified, table.description, description, added))
        this.database.script(script);
      this.database.forgetStatements();
    }
    if (table === this.tables.beside(member)) return void this.tables.setBeside(member, table.qualified, description);
    this.tables.set(description, table.members, table.holders);
    this.tables.saveMember(member, description);
    changed.addTable(table.qualified);
  }
}

/** It is large enough to hold that many rows. */
function mayBeCopied({ payloads = [] }: Change): boolean {
  return payloads.reduce((sum, { length }) => sum + length, 0) > KEYS_MAX * ROW_BYTES_MIN;
}

function* chain<Item>(first: Item, rest: Iterator<Item>): Generator<Item> {
  yield first;
  for (let next = rest.next(); !next.done; next = rest.next()) yield next.value;
}
