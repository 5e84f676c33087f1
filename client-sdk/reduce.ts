/**
 * Reduces the operations of one or many transactions to what they come to: at most one change per key. That makes a
 * batch applicable in any order of its rows, deletes first: keys swapped or shifted inside a transaction collide
 * nowhere, and a set-based upsert meets no row twice.
 */
import { type Operation, type TableDescription, type Value, WalcastError } from "../engine/protocol.ts";

export interface NetChange {
  readonly key: readonly Value[];
  /** Undefined: the row is gone. */
  readonly row: readonly Value[] | undefined;
  /** Where `row` lacks values (undefined ones): the key under which they stood before the batch. */
  readonly base?: readonly Value[] | undefined;
}

export interface NetChanges {
  /** All rows of before are gone; `changes` come on top. */
  truncated: boolean;
  readonly changes: Map<string, NetChange>;
}

export function reduce(operations: Iterable<Operation>, description: TableDescription): NetChanges {
  const reduction = new Reduction(keyColumnsOf(description));
  for (const operation of operations) reduction.add(operation);
  return reduction.net;
}

/** Positions of the key's columns, in the key's order. */
export function keyColumnsOf({ columns, key }: TableDescription): number[] {
  return key.map((name) => columns.findIndex((column) => column.name === name));
}

/** A key as one string; ("a", "b/c") and ("a/b", "c") differ. */
export function keyText(key: readonly Value[]): string {
  return key.length === 1 ? String(key[0]) : JSON.stringify(key);
}

class Reduction {
  readonly net: NetChanges = { truncated: false, changes: new Map() };
  private readonly keyColumns: readonly number[];

  constructor(keyColumns: readonly number[]) {
    this.keyColumns = keyColumns;
  }

  add(operation: Operation): void {
    switch (operation.kind) {
      case "insert":
        return this.put(this.keyOf(operation.row), operation.row);
      case "update":
        return this.update(operation.oldKey ?? (operation.old && this.keyOf(operation.old)), operation.row);
      case "delete":
        return this.remove(operation.key ?? this.keyOf(operation.old ?? []));
      case "truncate":
        this.net.truncated = true;
        return this.net.changes.clear();
    }
  }

  private update(oldKey: readonly Value[] | undefined, row: readonly Value[]): void {
    const key = this.keyOf(row);
    const from = oldKey ?? key;
    const before = this.net.changes.get(keyText(from));
    const isMove = keyText(from) !== keyText(key);
    if (isMove) this.remove(from);
    if (!row.includes(undefined)) return this.put(key, row);
    if (!before) return this.put(key, row, from);
    if (!before.row) throw missing("an update of a row that the same batch deleted");
    const known = before.row;
    this.put(
      key,
      row.map((value, i) => (value === undefined ? known[i] : value)),
      before.base,
    );
  }

  private put(key: readonly Value[], row: readonly Value[], base?: readonly Value[]): void {
    this.net.changes.set(keyText(key), { key, row, base });
  }

  private remove(key: readonly Value[]): void {
    this.net.changes.set(keyText(key), { key, row: undefined });
  }

  private keyOf(row: readonly Value[]): Value[] {
    return this.keyColumns.map((column) => {
      const value = row[column];
      if (typeof value !== "string") throw missing("a row without its key");
      return value;
    });
  }
}

function missing(found: string): WalcastError {
  return new WalcastError(
    "malformed_message",
    `reduce a transaction: expected rows that can be told apart by their key, found ${found}`,
  );
}
