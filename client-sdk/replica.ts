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
  formatLsn,
  type Lsn,
  type TableDescription,
  type TypeDescription,
  WalcastError,
  zeroLsn,
} from "../engine/protocol.ts";
import { type Audit, auditOf } from "./audit.ts";
import { Changed } from "./changed.ts";
import type { Database } from "./database.ts";
import { describeTable, type ShapeDescription } from "./description.ts";
import type { Size } from "./inspection.ts";
import { type Join, Joins, type Load, type Placed } from "./joins.ts";
import { Leftovers } from "./leftovers.ts";
import { isShared, type LocalTable, LocalTables, type Member, numberOf } from "./local-tables.ts";
import { LocalTypes } from "./local-types.ts";
import type { Spill } from "./pile.ts";
import { PositionWrites } from "./position.ts";
import type { Run } from "./postgres-session.ts";
import { emptyStaging, isStagingEmpty, writeSpill } from "./staging.ts";
import * as store from "./store.ts";
import { begin, type Step, TableWriter } from "./table-writer.ts";
import type { EpochKeeps } from "./work.ts";

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
  private readonly writer: TableWriter;
  private readonly positionWrites = new PositionWrites();
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
    this.writer = new TableWriter(database, this.tables);
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
    if (this.tables.of(member)) this.note(store.outdateMember(numberOf(member)));
  }

  /** What may be read by it now are the rows that it has. */
  noteAccess(member: Member, access: string): void {
    this.note(store.setAccess(numberOf(member), access));
    member.access = access;
  }

  setOwner(owner: string | undefined): void {
    this.note(store.setOwner(owner));
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
    const begun = begin(steps);
    const runs = joins.length === 0 ? this.writer.runsOf(begun, changed) : undefined;
    const text = formatLsn(position);
    if (runs) this.database.pipeline(this.positionWrites.after(runs, text), this.foresee(changed));
    else
      this.tables.transaction(() => {
        this.writer.write(begun, changed);
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
    return describeTable(present(this.tables.of(member)));
  }

  /** How many rows the shape has, and what they add up to. */
  audit(member: Member): Audit {
    const table = present(this.tables.takerOf(member));
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
    this.writer.vacuum();
  }

  /** About itself. */
  private note(run: Run): void {
    this.database.transaction(() => this.database.runAll([run]));
  }
}

function present(table: LocalTable | undefined): LocalTable {
  if (!table) throw new WalcastError("invariant", "look at a shape: expected its rows in a table, found none");
  return table;
}
