/** What a local transaction touched: of each table the keys, or all of it where they are unknown or too many. */
import type { Value } from "../engine/protocol.ts";
import { keyText, type NetChanges } from "./reduce.ts";

/** In the order of the table's primary key, each value as Postgres writes it. */
export type Key = readonly Value[];

// Looking at rows one by one by their key stops being cheaper than looking at all of them.
export const KEYS_MAX = 1_000;

export class Changed {
  /** By the table's name and `keyText`; undefined where all rows may be others. */
  private readonly keysByTable = new Map<string, Map<string, Key> | undefined>();

  constructor(tables: Iterable<string> = []) {
    for (const table of tables) this.addTable(table);
  }

  get isEmpty(): boolean {
    return this.keysByTable.size === 0;
  }

  /** Their names. */
  get tables(): ReadonlySet<string> {
    return new Set(this.keysByTable.keys());
  }

  /** Of all tables together. Undefined where they are unknown. */
  get keyCount(): number | undefined {
    let count = 0;
    for (const keys of this.keysByTable.values()) {
      if (!keys) return undefined;
      count += keys.size;
    }
    return count;
  }

  has(table: string): boolean {
    return this.keysByTable.has(table);
  }

  /** Undefined where any row of the table may have changed. */
  keysOf(table: string): ReadonlyMap<string, Key> | undefined {
    return this.keysByTable.get(table);
  }

  /** Any row of one of these tables may have changed. */
  isWhole(tables: Iterable<string> = []): boolean {
    return [...tables].some((table) => this.has(table) && !this.keysOf(table));
  }

  addTable(table: string): void {
    this.keysByTable.set(table, undefined);
  }

  addNet(table: string, { truncated, changes }: NetChanges): void {
    if (truncated) return this.addTable(table);
    if (changes.size > 0)
      this.addKeys(
        table,
        changes.values().map(({ key }) => key),
        changes.size,
      );
  }

  add(other: Changed): void {
    for (const [table, keys] of other.keysByTable) {
      if (keys) this.addKeys(table, keys.values(), keys.size);
      else this.addTable(table);
    }
  }

  private addKeys(table: string, keys: Iterable<Key>, count: number): void {
    const known = this.keysByTable.get(table) ?? new Map<string, Key>();
    const isWhole = this.has(table) && !this.keysByTable.get(table);
    if (isWhole || known.size + count > KEYS_MAX) return this.addTable(table);
    for (const key of keys) known.set(keyText(key), key);
    this.keysByTable.set(table, known);
  }
}
