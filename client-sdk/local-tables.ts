/**
 * The list of local tables, and whose rows stand in them or wait beside them. It changes only inside local transactions
 * that store the same change (`store.ts`), and where such a transaction fails the list is as it was before. Who waits is not
 * stored: another process loads those rows again.
 */
import { type TableDescription, WalcastError } from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import { sqlStateOf } from "./query-errors.ts";
import { localFormOf } from "./local-form.ts";
import { dropUnheld, letGo } from "./membership.ts";
import * as store from "./store.ts";
import * as sql from "./tables.ts";

/** A shape's place on the replica: the same across reconnects. */
export interface Member {
  /** Equal texts ask for the same rows. */
  readonly request: string;
  /** Given by the replica, and never used again on it. */
  number: number | undefined;
  /** What the client might read when the rows came that stand in its table, as the server called it. */
  access: string | undefined;
  /** Its shape has failed: the rows that are there stay, and no others will come. */
  isOver: boolean;
  /** Indexes wanted on the local table, as between the parentheses of CREATE INDEX. */
  readonly indexes: readonly string[];
}

export interface LocalTable {
  readonly qualified: string;
  /** In the server's words. */
  readonly description: TableDescription;
  readonly form: sql.LocalForm;
  /** Equal texts mean that rows of one table can stand in the other. */
  readonly layout: string;
  readonly statements: sql.WriteStatements;
  /** Shapes whose rows stand here. From two on, `holders` says whose is which. */
  readonly members: ReadonlySet<Member>;
  readonly holders: string;
}

export class LocalTables {
  private readonly database: Database;
  private tables = new Map<string, LocalTable>();
  private waiting = new Map<Member, LocalTable>();

  constructor(database: Database) {
    this.database = database;
  }

  get(name: string): LocalTable | undefined {
    return this.tables.get(name);
  }

  of(member: Member): LocalTable | undefined {
    return this.tables.values().find(({ members }) => members.has(member));
  }

  /** Its rows, complete, until they come into the table. */
  beside(member: Member): LocalTable | undefined {
    return this.waiting.get(member);
  }

  /** Where its changes go. */
  takerOf(member: Member): LocalTable | undefined {
    return this.beside(member) ?? this.of(member);
  }

  get members(): Iterable<Member> {
    return this.tables.values().flatMap(({ members }) => members);
  }

  /** One local transaction for the tables and this list of them. */
  transaction(work: () => void): void {
    const before = { tables: new Map(this.tables), waiting: new Map(this.waiting) };
    try {
      this.database.transaction(work);
    } catch (error) {
      this.tables = before.tables;
      this.waiting = before.waiting;
      throw error;
    }
  }

  /** As an earlier process stored it. */
  restore({ name, description, holders }: store.StoredTable, members: ReadonlySet<Member>): void {
    this.tables.set(name, this.tableOf(name, description, members, holders));
  }

  /** Inside a transaction. Without `holders` nobody shares it yet. */
  set(description: TableDescription, members: ReadonlySet<Member>, holders = newHolders()): void {
    const name = sql.qualified(description);
    this.tables.set(name, this.tableOf(name, description, members, holders));
    this.database.runAll([store.saveTable(name, description, holders)]);
  }

  /** Inside a transaction: a table of its own, which nobody reads. */
  setBeside(member: Member, name: string, description: TableDescription): LocalTable {
    const table = this.tableOf(name, description, new Set([member]), "");
    this.waiting.set(member, table);
    return table;
  }

  dropBeside(member: Member): void {
    this.waiting.delete(member);
  }

  /** Types have other names than before. */
  respell(): void {
    const respelled = ({ qualified, description, members, holders }: LocalTable): LocalTable =>
      this.tableOf(qualified, description, members, holders);
    for (const [name, table] of this.tables) this.tables.set(name, respelled(table));
    for (const [member, table] of this.waiting) this.waiting.set(member, respelled(table));
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

  /** Inside a transaction: its rows are the server's as of the position. */
  saveMember(member: Member, description: TableDescription): void {
    const { request } = member;
    const { identity, access } = description;
    const name = sql.qualified(description);
    member.access = access;
    this.database.runAll([
      store.saveMember({ number: numberOf(member), request, name, identity, access: access ?? null }),
    ]);
  }

  /** Inside a transaction: the member's rows go, except those that others hold. */
  leave(table: LocalTable, member: Member): void {
    const members = without(table.members, member);
    member.access = undefined;
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

  private tableOf(
    qualified: string,
    description: TableDescription,
    members: ReadonlySet<Member>,
    holders: string,
  ): LocalTable {
    const form = localFormOf(this.database, qualified, description);
    return {
      qualified,
      description,
      form,
      layout: JSON.stringify([sql.layoutOf(description), form]),
      statements: sql.writeStatements(qualified, form),
      members,
      holders,
    };
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

function newHolders(): string {
  // Beside those of earlier processes, whose count is not known.
  return `walcast.${sql.quoteIdentifier(`holders ${crypto.randomUUID()}`)}`;
}
