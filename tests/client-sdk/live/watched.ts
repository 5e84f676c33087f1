/** A live query, whose rows are held against what running it again gives. */
import assert from "node:assert/strict";
import type { Database } from "../../../client-sdk/database.ts";
import type { LiveQueries, LiveQuery } from "../../../client-sdk/live.ts";
import type { Row } from "../../../client-sdk/row.ts";

export interface Question {
  readonly sql: string;
  readonly params: readonly unknown[];
  /** The result's columns that it is ordered by. */
  readonly sortedBy: readonly string[];
  /** The same without its LIMIT. */
  readonly all: string;
}

export class Watched {
  readonly live: LiveQuery<Row>;
  private readonly database: Database;
  private readonly question: Question;
  private known: readonly Row[] = [];
  private told: { inserted: readonly Row[]; updated: readonly Row[]; deleted: readonly Row[] } | undefined;

  constructor(database: Database, queries: LiveQueries, question: Question) {
    this.database = database;
    this.question = question;
    this.live = queries.add(this.question.sql, question.params);
    this.live.subscribe((_, delta) => (this.told = delta));
  }

  async isReady(): Promise<void> {
    this.known = await this.live.ready;
    this.told = undefined;
  }

  check(): void {
    const { sql, all, params, sortedBy } = this.question;
    assert.equal(this.live.status, "ready", `${sql}: ${this.live.error}`);
    const { rows } = this.live;
    const again = this.database.rows(sql, params);
    const sorted = (list: readonly Row[]): string[] =>
      list.map((row) => text(sortedBy.map((column) => sortedAs(row[column]))));
    assert.deepEqual(sorted(rows), sorted(again), `${sql}: the order`);
    const possible = sql === all ? again : this.database.rows(all);
    const left = [...possible].map(text);
    for (const row of rows) {
      const at = left.indexOf(text(row));
      assert.ok(at >= 0, `${sql}: shows ${text(row)}`);
      left.splice(at, 1);
    }
    assert.equal(rows.length, again.length);
    this.checkDelta();
  }

  /** What was shown before, and what was told, give what is shown; and nothing else is another object. */
  private checkDelta(): void {
    const rows = new Set(this.live.rows);
    const before = new Set(this.known);
    const { inserted = [], updated = [], deleted = [] } = this.told ?? {};
    this.told = undefined;
    this.known = this.live.rows;
    const fresh = rows.difference(before);
    const gone = before.difference(rows);
    assert.deepEqual(fresh, new Set([...inserted, ...updated]));
    assert.ok(deleted.every((row) => gone.has(row)));
    assert.equal(gone.size, deleted.length + updated.length);
  }
}

/** 0.10 and 0.1 are equal to ORDER BY. */
function sortedAs(value: unknown): unknown {
  return typeof value === "string" && /^-?\d+\.\d+$/.test(value) ? value.replace(/\.?0+$/, "") : value;
}

function text(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) =>
    typeof one === "bigint" || typeof one === "number" ? `${one}` : one,
  );
}
