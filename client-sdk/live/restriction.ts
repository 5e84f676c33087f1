/**
 * A query, asked only for the rows with some keys. Around the query, not in it: Postgres takes the condition down to its
 * table by itself, where the primary key's index answers it.
 */
import type { Key } from "../changed.ts";
import type { Database } from "../database.ts";
import type { Run } from "../postgres-session.ts";
import { quoteIdentifier } from "../table-name.ts";
import { encodeTextArray } from "../values.ts";

export interface KeyColumn {
  /** In the result, from 0. */
  readonly column: number;
  /** As a cast spells it. */
  readonly type: string;
}

// One text per count of keys, or each would have to be planned. One key is by far the most frequent.
const slotCounts = [1, 8, 64];
/** Any number of keys of one column, as an array. */
const AMONG = 0;

export class Restriction {
  private readonly sql: string;
  private readonly columnCount: number;
  private readonly parameterTypes: readonly number[];
  private readonly key: readonly KeyColumn[];
  /** By the number of keys that they have room for. */
  private readonly texts = new Map<number, string>();

  /** `sql`: without its LIMIT, so that some of its parameters may stand nowhere; hence their types. */
  constructor(sql: string, columnCount: number, parameterTypes: readonly number[], key: readonly KeyColumn[]) {
    this.sql = sql;
    this.columnCount = columnCount;
    this.parameterTypes = parameterTypes;
    this.key = key;
  }

  /** Throws where Postgres would not run it. */
  prepare(database: Database): void {
    database.prepare(this.textFor(1), this.parameterTypes);
    if (this.key.length === 1) database.prepare(this.textFor(AMONG), this.parameterTypes);
  }

  /** Undefined for more keys than one statement is made for. `values`: of the query's own parameters. */
  to(keys: readonly Key[], values: readonly (string | null)[]): Run | undefined {
    const texts = keys.map((key) => key.map((value) => value ?? null));
    if (this.key.length === 1 && keys.length > 1)
      return this.run(AMONG, [...values, encodeTextArray(texts.map(([text]) => text!))]);
    const slots = slotCounts.find((count) => count >= keys.length);
    if (slots === undefined) return undefined;
    const filled = Array.from({ length: slots }, (_, slot) => texts[slot] ?? texts[0] ?? noKey(this.key));
    return this.run(slots, [...values, ...filled.flat()]);
  }

  private run(slots: number, values: readonly (string | null)[]): Run {
    return { sql: this.textFor(slots), values, parameterTypes: this.parameterTypes, isPlannedOnce: slots === 1 };
  }

  private textFor(slots: number): string {
    const known = this.texts.get(slots);
    if (known !== undefined) return known;
    const names = Array.from({ length: this.columnCount }, (_, i) => nameOf(i)).join(", ");
    const condition = slots === AMONG ? this.isAmong() : this.isOneOf(slots);
    const text = `SELECT * FROM (${this.sql}\n) AS walcast (${names}) WHERE ${condition}`;
    this.texts.set(slots, text);
    return text;
  }

  private isAmong(): string {
    const [{ column, type }] = this.key as [KeyColumn];
    return `${nameOf(column)} = ANY ($${this.parameterTypes.length + 1}::${type}[])`;
  }

  private isOneOf(slots: number): string {
    const conditions = Array.from({ length: slots }, (_, slot) => this.isKey(slot));
    return conditions.join(" OR ");
  }

  private isKey(slot: number): string {
    const first = this.parameterTypes.length + 1 + slot * this.key.length;
    return this.key.map(({ column, type }, i) => `${nameOf(column)} = $${first + i}::${type}`).join(" AND ");
  }
}

/** Equal to none. */
function noKey(key: readonly KeyColumn[]): null[] {
  return key.map(() => null);
}

function nameOf(column: number): string {
  return quoteIdentifier(`c${column}`);
}
