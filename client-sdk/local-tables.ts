/**
 * The list of local tables, and whose rows stand in them. It changes only inside local transactions that store the same
 * change (`store.ts`), and where such a transaction fails the list is as it was before.
 */
import { type TableDescription, WalcastError } from "../engine/protocol.ts";
import { type Database, sqlStateOf } from "./database.ts";
import { dropUnheld, letGo } from "./membership.ts";
import * as store from "./store.ts";
import * as sql from "./tables.ts";

/** A shape's place on the replica: the same across reconnects. */
export interface Member {
  /** Equal texts ask for the same rows. */
  readonly request: string;
  /** Given by the replica, and never used again on it. */
  number: number | undefined;
  /** Indexes wanted on the local table, as between the parentheses of CREATE INDEX. */
  readonly indexes: readonly string[];
}

export interface LocalTable {
  readonly qualified: string;
  readonly description: TableDescription;
  readonly layout: string;
  readonly statements: sql.WriteStatements;
  /** Shapes whose rows stand here. From two on, `holders` says whose is which. */
  readonly members: ReadonlySet<Member>;
  readonly holders: string;
}

export class LocalTables {
  private readonly database: Database;
  private tables = new Map<string, LocalTable>();

  constructor(database: Database) {
    this.database = database;
  }

  get(name: string): LocalTable | undefined {
    return this.tables.get(name);
  }

  of(member: Member): LocalTable | undefined {
    return this.tables.values().find(({ members }) => members.has(member));
  }

  get members(): Iterable<Member> {
    return this.tables.values().flatMap(({ members }) => members);
  }

  /** One local transaction for the tables and this list of them. */
  transaction(work: () => void): void {
    const before = new Map(this.tables);
    try {
      this.database.transaction(work);
    } catch (error) {
      this.tables = before;
      throw error;
    }
  }

  /** As an earlier process stored it. */
  restore({ name, description, holders }: store.StoredTable, members: ReadonlySet<Member>): void {
    this.tables.set(name, localTable(description, members, holders));
  }

  /** Inside a transaction. Without `holders` nobody shares it yet. */
  set(description: TableDescription, members: ReadonlySet<Member>, holders = newHolders()): void {
    const table = localTable(description, members, holders);
    this.tables.set(table.qualified, table);
    this.database.runAll([store.saveTable(table.qualified, description, holders)]);
  }

  /** Whose rows stand in it; only in memory. */
  setMembers(table: LocalTable, members: Iterable<Member>): void {
    this.tables.set(table.qualified, { ...table, members: new Set(members) });
  }

  /** Inside a transaction. */
  createEmpty(description: TableDescription): void {
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
    this.set(description, new Set());
  }

  /** Inside a transaction: the member's rows go, except those that others hold. */
  leave(table: LocalTable, member: Member): void {
    const members = without(table.members, member);
    this.database.runAll([store.dropMember(numberOf(member))]);
    this.setMembers(table, members);
    if (members.size === 0) return this.database.script(`DELETE FROM ${table.qualified}`);
    this.database.script(letGo(table, numberOf(member)));
    this.database.script(dropUnheld(table));
    if (members.size === 1) this.database.script(`DROP TABLE ${table.holders}`);
  }

  /** One local transaction. Returns the names of their tables. */
  remove(members: Iterable<Member>): Set<string> {
    const names = new Set<string>();
    this.transaction(() => {
      for (const member of [...members]) {
        const table = this.of(member);
        if (!table) continue;
        names.add(table.qualified);
        this.leave(table, member);
      }
    });
    return names;
  }
}

export function isShared({ members }: LocalTable): boolean {
  return members.size > 1;
}

export function without(members: ReadonlySet<Member>, member: Member): ReadonlySet<Member> {
  return new Set([...members].filter((other) => other !== member));
}

export function numberOf({ number }: Member): number {
  if (number === undefined) throw new WalcastError("invariant", "use a shape's number: expected one, found none yet");
  return number;
}

function localTable(description: TableDescription, members: ReadonlySet<Member>, holders: string): LocalTable {
  const qualified = sql.qualified(description);
  return {
    qualified,
    description,
    layout: sql.layoutOf(description),
    statements: sql.writeStatements(qualified, description),
    members,
    holders,
  };
}

function newHolders(): string {
  // Beside those of earlier processes, whose count is not known.
  return `walcast.${sql.quoteIdentifier(`holders ${crypto.randomUUID()}`)}`;
}
