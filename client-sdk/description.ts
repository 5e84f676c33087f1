/** What a local table is beside the server's: its columns with both types, and why they are not the same where they are not. */
import type { TableDescription } from "../engine/protocol.ts";
import type { LocalTable } from "./local-tables.ts";
import { isNameOfTheCatalog, opaqueTypesOf, localType } from "./tables.ts";

export interface ShapeDescription {
  /** Quoted and with its schema, here as on the server. */
  readonly table: string;
  /** The primary key's columns. */
  readonly key: readonly string[];
  readonly columns: readonly ColumnDescription[];
}

export interface ColumnDescription {
  readonly name: string;
  /** On the server, as a cast spells it. */
  readonly type: string;
  /** On the replica: the same, or `text` (for an array `text[]`). */
  readonly localType: string;
  /** Why the two differ. Undefined where they do not. */
  readonly reason: string | undefined;
}

export function describeTable({ qualified, description }: LocalTable): ShapeDescription {
  const opaque = opaqueTypesOf(description.types);
  return {
    table: qualified,
    key: description.key,
    columns: description.columns.map(({ name, type }) => describeColumn(name, type, localType(type, opaque))),
  };
}

function describeColumn(name: TableDescription["name"], type: string, local: string): ColumnDescription {
  return { name, type, localType: local, reason: local === type ? undefined : reasonFor(type) };
}

function reasonFor(type: string): string {
  if (isNameOfTheCatalog(type))
    return `${type} is a number of the server's catalog, which stands for a name; the replica has the name`;
  return `${type} is an extension's type, or is made in C, or is a range in an order of its own (a collation's, an operator class'): a replica cannot have it, and has its text`;
}
