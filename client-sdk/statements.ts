/** The statements that a session keeps prepared, by their text. What is used seldom makes room. */
import type { ResultColumn } from "./wire.ts";

export interface Statement {
  readonly name: string;
  readonly sql: string;
  readonly parameterTypes: readonly number[];
  readonly columns: readonly ResultColumn[];
}

// Each kept statement holds a plan of some ten kilobytes in PGlite. Applications have dozens of queries, not thousands.
const STATEMENTS_MAX = 256;

export class Statements {
  private readonly bySql = new Map<string, Statement>();
  private count = 0;

  /** Never the same again: a statement that was let go of may not be closed yet. */
  nextName(): string {
    return `walcast_${++this.count}`;
  }

  get names(): string[] {
    return Array.from(this.bySql.values(), ({ name }) => name);
  }

  get(sql: string): Statement | undefined {
    const statement = this.bySql.get(sql);
    // A Map keeps insertion order: the first is the one that was not used for longest.
    if (statement && this.bySql.size >= STATEMENTS_MAX) {
      this.bySql.delete(sql);
      this.bySql.set(sql, statement);
    }
    return statement;
  }

  /** Gives the one that makes room for it, if one has to. */
  add(statement: Statement): Statement | undefined {
    this.bySql.set(statement.sql, statement);
    if (this.bySql.size <= STATEMENTS_MAX) return undefined;
    const [oldest] = this.bySql.keys();
    return this.take(oldest!);
  }

  /** Gives it, and keeps it no longer. */
  take(sql: string): Statement | undefined {
    const statement = this.bySql.get(sql);
    this.bySql.delete(sql);
    return statement;
  }

  clear(): void {
    this.bySql.clear();
  }
}
