/**
 * Rows that an earlier process left, until a shape of this one asks for them. As long as the position is where that
 * process left it they are as good as any. When it moves on they stay behind: they leave a table in which others move on,
 * and elsewhere they can still be read until the shape that asks for them is loaded anew. What nobody has asked for in
 * thirty days leaves.
 */
import type { Database } from "./database.ts";
import { type LocalTables, type Member, numberOf } from "./local-tables.ts";
import * as store from "./store.ts";

export class Leftovers {
  private readonly database: Database;
  private readonly tables: LocalTables;
  /** With their identity, while it holds. */
  private readonly members = new Map<Member, string | undefined>();
  private areCurrent = true;

  constructor(database: Database, tables: LocalTables, stored: store.Stored) {
    this.database = database;
    this.tables = tables;
    for (const table of stored.tables) this.restore(table, stored.members);
    const forgotten = new Set(database.rows(store.forgotten).map(({ number }) => Number(number)));
    if (forgotten.size > 0) this.remove((member) => forgotten.has(numberOf(member)));
  }

  has(member: Member): boolean {
    return this.members.has(member);
  }

  /** Undefined if there is nothing of it. `identity`: while its rows are at the replica's position. */
  claim(member: Member): { identity: string | undefined } | undefined {
    const found = this.members.entries().find(([{ request }]) => request === member.request);
    if (!found) return undefined;
    const [stored, identity] = found;
    const table = this.tables.of(stored)!;
    this.members.delete(stored);
    member.number = stored.number;
    member.access = stored.access;
    this.tables.setMembers(
      table,
      Array.from(table.members, (one) => (one === stored ? member : one)),
    );
    return { identity };
  }

  /** The position counts in another history, or nowhere. */
  outdate(): void {
    for (const member of this.members.keys()) this.members.set(member, undefined);
  }

  /** Before the position moves for the first time. Returns the names of the tables that changed. */
  stayBehind(): Set<string> {
    const among = this.areCurrent ? [...this.members.keys()].filter((member) => this.isAmongOthers(member)) : [];
    if (!this.areCurrent || this.members.size === 0) return new Set();
    const names = this.remove((member) => among.includes(member));
    this.database.transaction(() =>
      this.database.runAll(Array.from(this.members.keys(), (member) => store.outdateMember(numberOf(member)))),
    );
    this.outdate();
    this.areCurrent = false;
    return names;
  }

  /** Inside a transaction: they do not stand among rows that somebody asks for. */
  leaveTable(name: string): void {
    for (const member of [...this.members.keys()]) {
      const table = this.tables.of(member);
      if (table?.qualified === name) this.tables.leave(table, member);
    }
  }

  /** Returns the names of the tables that changed. */
  remove(isMeant: (member: Member) => boolean = () => true): Set<string> {
    const members = [...this.members.keys()].filter(isMeant);
    if (members.length === 0) return new Set();
    const names = this.tables.remove(members);
    for (const member of members) this.members.delete(member);
    return names;
  }

  /** All of them, and these, in one local transaction. Returns the names of the tables that changed. */
  removeWith(others: readonly Member[]): Set<string> {
    const names = this.tables.remove([...this.members.keys(), ...others]);
    this.members.clear();
    return names;
  }

  /** What `leaveTable` did has come to stay. */
  settle(): void {
    for (const member of this.members.keys()) if (!this.tables.of(member)) this.members.delete(member);
  }

  private isAmongOthers(member: Member): boolean {
    return this.tables
      .of(member)!
      .members.values()
      .some((other) => !this.members.has(other));
  }

  private restore(table: store.StoredTable, stored: readonly store.StoredMember[]): void {
    const members = stored
      .filter(({ name }) => name === table.name)
      .map(({ number, request, identity, access }) => {
        const member: Member = { number, access: access ?? undefined, request, isOver: false, indexes: [] };
        this.members.set(member, identity ?? undefined);
        return member;
      });
    this.tables.restore(table, new Set(members));
  }
}
