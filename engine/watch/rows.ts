/** The rows of one shape in memory, by key. Operations are applied as docs/protocol.md says, and what they come to is told by key. */
import { must } from "../invariants.ts";
import type { AddedColumn, Commit, Operation, TableDescription, Value } from "../protocol.ts";

/** Values in the order of the shape's columns. A row is never changed: a new one takes its place. */
export type Row = readonly (string | null)[];

/** What one commit made of a row. Without `before` it is new, without `after` it is gone. */
export interface RowChange {
  readonly before: Row | undefined;
  readonly after: Row | undefined;
}

type Update = Extract<Operation, { kind: "update" }>;

/** Of a row beside its text: the array, the map's entry, the key. */
const rowBytes = 100;

export class Rows {
  private key: readonly number[];
  private readonly rows = new Map<string, Row>();
  /** About what they take in memory. */
  bytes = 0;

  constructor(table: TableDescription) {
    this.key = keyOf(table);
  }

  get size(): number {
    return this.rows.size;
  }

  values(): Iterable<Row> {
    return this.rows.values();
  }

  /** New to the shape, or in the place of the one with its key. */
  put(row: Row): void {
    const key = this.keyOfRow(row);
    this.weigh(this.rows.get(key), -1);
    this.rows.set(key, row);
    this.weigh(row, 1);
  }

  /** One commit, or a part of one. Gives what it changed, each row once. */
  apply(commits: readonly Commit[]): RowChange[] {
    const before = new Map<string, Row | undefined>();
    for (const { operations } of commits) for (const operation of operations) this.applyOne(operation, before);
    const changes: RowChange[] = [];
    for (const [key, row] of before) {
      const after = this.rows.get(key);
      if (!isSame(row, after)) changes.push({ before: row, after });
    }
    return changes;
  }

  /** The table has new columns at its end, or other labels. */
  alter(table: TableDescription, added: readonly AddedColumn[]): void {
    this.key = keyOf(table);
    const values = added.map(({ value }) => value);
    if (values.length > 0) for (const [key, row] of this.rows) this.rows.set(key, [...row, ...values]);
  }

  private applyOne(operation: Operation, before: Map<string, Row | undefined>): void {
    if (operation.kind === "truncate") return [...this.rows.keys()].forEach((key) => this.take(key, before));
    if (operation.kind === "delete") return void this.take(JSON.stringify(operation.key), before);
    const old = operation.kind === "update" ? this.old(operation, before) : undefined;
    const row = operation.row.map((value, i) => (value === undefined ? old![i]! : value));
    this.note(this.keyOfRow(row), before);
    this.put(row);
  }

  /** It keeps its place, unless its key is another one. */
  private old({ oldKey, row }: Update, before: Map<string, Row | undefined>): Row {
    const key = JSON.stringify(oldKey ?? this.keyValues(row));
    const old = oldKey ? this.take(key, before) : this.rows.get(key);
    must(old !== undefined, "joined_whole", "an update names a row that is there");
    return old;
  }

  private take(key: string, before: Map<string, Row | undefined>): Row | undefined {
    this.note(key, before);
    const row = this.rows.get(key);
    this.rows.delete(key);
    this.weigh(row, -1);
    return row;
  }

  private note(key: string, before: Map<string, Row | undefined>): void {
    if (!before.has(key)) before.set(key, this.rows.get(key));
  }

  private keyOfRow(row: Row): string {
    return JSON.stringify(this.keyValues(row));
  }

  private keyValues(row: readonly Value[]): readonly Value[] {
    return this.key.map((position) => row[position]);
  }

  private weigh(row: Row | undefined, sign: number): void {
    if (row) this.bytes += sign * row.reduce((sum, value) => sum + (value?.length ?? 0), rowBytes);
  }
}

function keyOf({ columns, key }: TableDescription): readonly number[] {
  return key.map((name) => columns.findIndex((column) => column.name === name));
}

function isSame(a: Row | undefined, b: Row | undefined): boolean {
  return (
    a === b || (a !== undefined && b !== undefined && a.length === b.length && a.every((value, i) => value === b[i]))
  );
}
