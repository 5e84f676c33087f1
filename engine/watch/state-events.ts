/** Rows and commits as events of the Durable Streams state protocol. The keys that commits tell of are remembered as told. */
import { WalcastError } from "../errors.ts";
import type { Commit, Lsn } from "../protocol.ts";
import type { Shape } from "../shapes/shape.ts";
import { jsonOf } from "./json.ts";
import type { Row } from "./rows.ts";
import type { Memory } from "./told-keys.ts";

export class StateEvents {
  private readonly shape: Shape;
  private readonly memory: Memory;

  constructor(shape: Shape, memory: Memory) {
    this.shape = shape;
    this.memory = memory;
  }

  ofCommit({ operations, xid, commitTime, position }: Commit): string[] {
    const headers = {
      txid: String(xid),
      timestamp: new Date(Number(commitTime / 1000n) + postgresEpochMs).toISOString(),
    };
    return operations.flatMap((operation): string[] => {
      // Of rows that are gone together nobody knows the keys.
      if (operation.kind === "truncate") throw elsewhere();
      if (operation.kind === "insert") return [this.told("insert", operation.row as Row, headers)];
      if (operation.kind === "delete") return [this.untold(operation.old as Row, position, headers)];
      const old = operation.old as Row;
      const row = operation.row.map((value, i) => (value === undefined ? old[i]! : value));
      if (this.keyOf(old) === this.keyOf(row)) return [this.told("update", row, headers)];
      return [this.untold(old, position, headers), this.told("insert", row, headers)];
    });
  }

  /** Also of one that the reader has, in whose place it comes. */
  insertion(row: Row): string {
    return this.event("insert", row, {});
  }

  deletion(key: string, headers: object = {}): string {
    return `{${this.named(key)},"headers":${JSON.stringify({ operation: "delete", ...headers })}}`;
  }

  /** As text; of several columns with a slash between them, each percent-encoded. */
  keyOf(row: Row): string {
    const { columns, table } = this.shape;
    const values = table.key.map((position) => row[columns.indexOf(position)] ?? "");
    return values.length === 1 ? values[0]! : values.map(encodeURIComponent).join("/");
  }

  private told(operation: "insert" | "update", row: Row, headers: object): string {
    this.memory.tell(this.keyOf(row));
    return this.event(operation, row, headers);
  }

  private untold(old: Row, position: Lsn, headers: object): string {
    const key = this.keyOf(old);
    this.memory.untell(key, position);
    return this.deletion(key, headers);
  }

  private event(operation: "insert" | "update", row: Row, headers: object): string {
    const head = JSON.stringify({ operation, ...headers });
    return `{${this.named(this.keyOf(row))},"value":${jsonOf(this.shape)(row)},"headers":${head}}`;
  }

  private named(key: string): string {
    const { schema, name } = this.shape.table;
    return `"type":${JSON.stringify(schema === "public" ? name : `${schema}.${name}`)},"key":${JSON.stringify(key)}`;
  }
}

/** Microseconds since 2000-01-01 in Postgres. */
const postgresEpochMs = Date.UTC(2000, 0, 1);

/** 410 Gone */
export function elsewhere(): WalcastError {
  return new WalcastError("position_too_old", "read a stream: from this offset nothing goes on any more", {
    hint: "begin again at offset -1",
  });
}
