/** What a channel makes of a table's changes. */
import { type Commit, formatLsn, type Operation, type TableDescription, type Value } from "../engine/protocol.ts";
import type { ChangeEvent } from "./channel.ts";
import { columnDecoders } from "./column-decoders.ts";
import { dateOf } from "./commit-time.ts";
import type { DecodeValue } from "./decoders.ts";
import { keyColumnsOf } from "./reduce.ts";
import { type Row, setField } from "./row.ts";

export function readerOf(table: TableDescription): EventReader {
  return new EventReader(table);
}

/** Operations → events, for one description of the table. */
export class EventReader {
  private readonly table: TableDescription;
  private readonly keyColumns: readonly number[];
  private readonly decoders: readonly (DecodeValue | undefined)[];

  constructor(table: TableDescription) {
    this.table = table;
    this.keyColumns = keyColumnsOf(table);
    this.decoders = columnDecoders(table);
  }

  /** Undefined for TRUNCATE: there are no rows to speak of. */
  read(operation: Operation, { position, commitTime }: Commit): ChangeEvent<Row> | undefined {
    const at = {
      position: formatLsn(position),
      commitTime: dateOf(commitTime),
    };
    switch (operation.kind) {
      case "insert":
        return { type: "INSERT", row: this.row(operation.row), old: undefined, ...at };
      case "update":
        return { type: "UPDATE", row: this.row(operation.row), old: this.old(operation.old, operation.oldKey), ...at };
      case "delete":
        return { type: "DELETE", row: undefined, old: this.old(operation.old, operation.key), ...at };
      case "truncate":
        return undefined;
    }
  }

  private old(row: readonly Value[] | undefined, key: readonly Value[] | undefined): Row | undefined {
    if (row) return this.row(row);
    return key && this.object(key, this.keyColumns);
  }

  private row(values: readonly Value[]): Row {
    return this.object(values, values.keys());
  }

  private object(values: readonly Value[], columns: Iterable<number>): Row {
    const row: Row = {};
    let i = 0;
    for (const column of columns) {
      const value = values[i++];
      if (value !== undefined) setField(row, this.table.columns[column]!.name, this.decode(value, column));
    }
    return row;
  }

  private decode(value: string | null, column: number): unknown {
    const decode = this.decoders[column];
    return value === null || !decode ? value : decode(value);
  }
}
