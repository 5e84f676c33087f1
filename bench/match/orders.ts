/**
 * The table whose shapes are found, and its rows. They lie side by side in one buffer, spread evenly over the shapes in an order
 * that no cache can guess, and are read as they come from the stream.
 */
import type { Column, Table } from "../../engine/changes/table.ts";
import { NULL_VALUE, TEXT_VALUE, type Tuple } from "../../engine/changes/tuple.ts";

/** Order n: the only one that shape n is about, however it is written. */
export const customer = (n: number): number => n >> 2;
export const status = (n: number): string => ["new", "paid", "sent", "done"][n & 3]!;
export const amount = (n: number): string => `${n * 10}.50`;
export const uuid = (n: number): string => `3f1c2a4e-0b5d-4c6e-8f70-${n.toString(16).padStart(12, "0")}`;

function valuesOf(n: number): readonly (string | null)[] {
  return [String(n), uuid(n), String(customer(n)), status(n), amount(n), null];
}

export class Rows {
  /** What tells the row's shape from the others. */
  readonly keys: readonly string[];
  readonly count: number;
  private readonly kinds: Uint8Array;
  private readonly starts: Int32Array;
  private readonly bytes: Buffer;

  constructor(count: number, shapes: number) {
    this.count = count;
    const orders = Array.from({ length: count }, (_, i) => (i * 514_229) % shapes);
    const values = orders.flatMap(valuesOf);
    this.keys = orders.map(keyOf);
    this.kinds = Uint8Array.from(values, (value) => (value === null ? NULL_VALUE : TEXT_VALUE));
    this.starts = new Int32Array(values.length + 1);
    values.forEach((value, i) => (this.starts[i + 1] = this.starts[i]! + (value?.length ?? 0)));
    this.bytes = Buffer.from(values.join(""));
  }

  show(row: number, tuple: Tuple): void {
    tuple.reset(this.bytes, table.columns.length);
    const first = row * tuple.count;
    for (let column = 0; column < tuple.count; column++) {
      tuple.kinds[column] = this.kinds[first + column]!;
      tuple.starts[column] = this.starts[first + column]!;
      tuple.ends[column] = this.starts[first + column + 1]!;
    }
  }
}

export function keyOf(n: number): string {
  return `${customer(n)} ${status(n)}`;
}

/** The floor: one look-up for each row. */
export function lookedUp(map: ReadonlyMap<string, number>, keys: readonly string[]): number {
  let found = 0;
  for (const key of keys) if (map.get(key) !== undefined) found++;
  return found;
}

const collation = { schema: "pg_catalog", name: "default", deterministic: true, isC: false };

export const table: Table = {
  oid: 16_384,
  schema: "public",
  name: "orders",
  version: "1",
  columns: (
    [
      ["id", 20, "bigint"],
      ["owner", 2950, "uuid"],
      ["customer_id", 20, "bigint"],
      ["status", 25, "text"],
      ["amount", 1700, "numeric"],
      ["deleted_at", 1184, "timestamptz"],
    ] as const
  ).map(([name, oid, type], i): Column => ({
    name,
    attnum: i + 1,
    typeOid: oid,
    typmod: -1,
    type,
    baseTypeOid: oid,
    baseTypeKind: "b",
    baseTypmod: -1,
    notNull: false,
    ...(type === "text" ? { collation } : {}),
  })),
  key: [0],
  replicaIdentity: "f",
  identityColumns: [0, 1, 2, 3, 4, 5],
  types: [],
};
