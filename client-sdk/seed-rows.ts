/** What came with a page, before there is a replica to ask. */
import { type Seed, WalcastError } from "../engine/protocol.ts";
import { type ArrayTypes, decoderOf } from "./decoders.ts";
import { type Row, setField } from "./row.ts";

/**
 * A seed's rows as `client.query` would give them, without a replica: for what a server renders, and for what a page shows until
 * its replica is open. In the order in which the server had them. Throws `config_invalid` where the seed has no such shape.
 */
export function rowsOfSeed<R extends object = Row>(seed: Seed, name: string): R[] {
  const shape = Object.hasOwn(seed.shapes, name) ? seed.shapes[name] : undefined;
  if (!shape) throw new WalcastError("config_invalid", `read a seed: expected the shape ${JSON.stringify(name)} in it`);
  const columns = shape.table.columns.map((column) => ({ name: column.name, decode: decodeNamed(column.type) }));
  return shape.rows.map((values) => {
    const row: Row = {};
    columns.forEach(({ name: column, decode }, i) => {
      const text = values[i]!;
      setField(row, column, text === null || !decode ? text : decode(text));
    });
    return row as R;
  });
}

/** By a type's name as in DDL. User-defined types are their text, as they are in the replica. */
function decodeNamed(type: string): ReturnType<typeof decoderOf> {
  const plain = type.replace(/\(\d+(,-?\d+)?\)/, "");
  const element = plain.endsWith("[]") ? plain.slice(0, -2) : undefined;
  if (element === undefined) return decoderOf(oids.get(plain) ?? 0, noArrays);
  const array: ArrayTypes = new Map([[anyArray, oids.get(element) ?? 0]]);
  return decoderOf(anyArray, array);
}

const noArrays: ArrayTypes = new Map();
const anyArray = -1;

/** pg_type.oid */
const oids: ReadonlyMap<string, number> = new Map([
  ["boolean", 16],
  ["bytea", 17],
  ["bigint", 20],
  ["smallint", 21],
  ["integer", 23],
  ["oid", 26],
  ["json", 114],
  ["box", 603],
  ["real", 700],
  ["double precision", 701],
  ["date", 1082],
  ["timestamp without time zone", 1114],
  ["timestamp with time zone", 1184],
  ["jsonb", 3802],
]);
