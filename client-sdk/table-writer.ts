/**
 * What a commit changes in the local tables: rows, and, where the server's table was altered, columns. And the space of rows that
 * are gone, which is taken back.
 *
 * Its methods are synchronous and run inside `database.exclusive`.
 */
import { type AddedColumn, type Operation, type TableDescription, WalcastError } from "../engine/protocol.ts";
import { type Changed, KEYS_MAX } from "./changed.ts";
import { netChanges } from "./complete.ts";
import type { Database } from "./database.ts";
import { insertionsOf } from "./insertions.ts";
import { isShared, type LocalTable, type LocalTables, type Member, numberOf } from "./local-tables.ts";
import { sharedRuns } from "./membership.ts";
import type { Run } from "./postgres-session.ts";
import * as sql from "./tables.ts";
import { runsFor } from "./writes.ts";

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

/** Steps that can be looked at once: what the first of them changes, and all that follow, if any do. */
interface Begun {
  readonly changes: readonly Change[];
  readonly rest: Iterable<Step> | undefined;
}

// PGlite has no autovacuum. Vacuuming after this many changed rows costs a microsecond for each.
const VACUUM_AFTER_ROWS = 20_000;

// Of a new row as it travels: its tag, its count of columns, and one of them with a character.
const ROW_BYTES_MIN = 9;

export class TableWriter {
  private readonly database: Database;
  private readonly tables: LocalTables;
  /** Rows changed since the table was last vacuumed, by the table's name. */
  private readonly changedRows = new Map<string, number>();

  constructor(database: Database, tables: LocalTables) {
    this.database = database;
    this.tables = tables;
  }

  /** What writes them in one round trip. Undefined where they need several: `write` does it. */
  runsOf({ changes, rest }: Begun, changed: Changed): Run[] | undefined {
    return rest || changes.some(mayBeCopied) ? undefined : this.runsOfAll(changes, changed);
  }

  /** Inside a transaction. */
  write({ changes, rest = [] }: Begun, changed: Changed): void {
    this.writeRows(changes, changed);
    for (const step of rest) {
      if (step.kind === "changes") this.writeRows(step.changes, changed);
      else this.alter(step, changed);
    }
  }

  /** One table of which many rows have changed, if there is one. */
  vacuum(): void {
    const due = this.changedRows
      .entries()
      .find(([name, count]) => count >= VACUUM_AFTER_ROWS && this.tables.get(name) !== undefined);
    if (!due) return;
    this.database.script(`VACUUM ${due[0]}`);
    this.changedRows.delete(due[0]);
  }

  // ── Rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** All of what is written set by set is put together before the first of it is written: it is completed from rows as they were. */
  private writeRows(changes: readonly Change[], changed: Changed): void {
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
    return changes.flatMap((change) => this.runsOfOne(change, changed));
  }

  private runsOfOne({ member, operations }: Change, changed: Changed): Run[] {
    const table = this.takerOf(member);
    const net = netChanges(this.database, table, operations);
    if (table === this.tables.get(table.qualified)) {
      changed.addNet(table.qualified, net);
      this.countRows(table, net.changes.size);
    }
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

  private countRows({ qualified }: LocalTable, rows: number): void {
    this.changedRows.set(qualified, (this.changedRows.get(qualified) ?? 0) + rows);
  }

  // ── Columns ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The first of the shapes on a table brings it to its new form, for all of them. */
  private alter({ member, description, added }: Extract<Step, { kind: "altered" }>, changed: Changed): void {
    const table = this.takerOf(member);
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

/** Most commits are one step, which needs no round trips of its own. */
export function begin(steps: Iterable<Step>): Begun {
  const iterator = Iterator.from(steps);
  const { value: first, done } = iterator.next();
  if (done) return { changes: [], rest: undefined };
  if (first.kind === "altered") return { changes: [], rest: chain(first, iterator) };
  const { value: second, done: isOnly } = iterator.next();
  return { changes: first.changes, rest: isOnly ? undefined : chain(second, iterator) };
}

/** It is large enough to hold that many rows. */
function mayBeCopied({ payloads = [] }: Change): boolean {
  return payloads.reduce((sum, { length }) => sum + length, 0) > KEYS_MAX * ROW_BYTES_MIN;
}

function* chain<Item>(first: Item, rest: Iterator<Item>): Generator<Item> {
  yield first;
  for (let next = rest.next(); !next.done; next = rest.next()) yield next.value;
}
