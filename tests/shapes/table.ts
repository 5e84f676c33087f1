/** A table's description without a database, and what Postgres would say about its rows. */
import type { Column, Table } from "../../engine/changes/table.ts";

const defaultCollation = { schema: "pg_catalog", name: "default", deterministic: true, isC: false };
const oids: Readonly<Record<string, number>> = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  json: 114,
  float8: 701,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  interval: 1186,
  numeric: 1700,
  uuid: 2950,
  jsonb: 3802,
  "int4[]": 1007,
  "text[]": 1009,
  "int8[]": 1016,
  "numeric[]": 1231,
};

export function column(name: string, type: string, more: Partial<Column> = {}): Column {
  const oid = oids[type] ?? 90_000;
  const collation = ["text", "varchar", "bpchar", "text[]"].includes(type) ? { collation: defaultCollation } : {};
  return {
    name,
    attnum: 1,
    typeOid: oid,
    typmod: -1,
    type,
    baseTypeOid: oid,
    baseTypeKind: "b",
    baseTypmod: -1,
    notNull: false,
    ...collation,
    ...more,
  };
}

export function enumColumn(name: string, type: string, enumLabels: readonly string[]): Column {
  return column(name, type, { baseTypeKind: "e", enumLabels });
}

export function tableOf(columns: readonly Column[], name = "orders"): Table {
  return {
    oid: 16_384,
    schema: "public",
    name,
    version: "1",
    columns: columns.map((column, i) => ({ ...column, attnum: i + 1 })),
    key: [0],
    replicaIdentity: "f",
    identityColumns: columns.map((_, i) => i),
    types: [],
  };
}
