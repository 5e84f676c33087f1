/**
 * How to read the values of a table's columns by what the server says of their types: whoever is told of changes needs no
 * Postgres for that. What comes out is what a query on the replica gives.
 */
import type { TableDescription } from "../engine/protocol.ts";
import { arrayDecoder, type DecodeValue, decoderOfType, oids } from "./decoders.ts";
import { qualified } from "./table-name.ts";
import { userTypeOf } from "./tables.ts";

const oidsByName = new Map<string, number>([
  ["boolean", oids.bool],
  ["bytea", oids.bytea],
  ["bigint", oids.int8],
  ["smallint", oids.int2],
  ["integer", oids.int4],
  ["oid", oids.oid],
  ["json", oids.json],
  ["jsonb", oids.jsonb],
  ["real", oids.float4],
  ["double precision", oids.float8],
  ["date", oids.date],
  ["timestamp without time zone", oids.timestamp],
  ["timestamp with time zone", oids.timestamptz],
  ["box", oids.box],
]);

/** By domain, what it is made of. */
type Domains = ReadonlyMap<string, string>;

/** Undefined where a column's values stay text. */
export function columnDecoders({ columns, types }: TableDescription): (DecodeValue | undefined)[] {
  const domains: Domains = new Map(
    types.flatMap((type) => (type.kind === "domain" ? [[qualified(type), type.base] as const] : [])),
  );
  return columns.map(({ type }) => decoderFor(type, domains));
}

/** Postgres says of a result's column what lies below a domain, but of an array only what its elements are called. */
function decoderFor(type: string, domains: Domains): DecodeValue | undefined {
  if (type.endsWith("[]")) return arrayDecoder(oidOf(type.slice(0, -2)));
  const userType = userTypeOf(type);
  if (userType === undefined) return decoderOfType(oidOf(type));
  const base = domains.get(userType);
  return base === undefined ? undefined : decoderFor(base, domains);
}

/** 0 for one whose values stay text. */
function oidOf(type: string): number {
  return oidsByName.get(type.replace(/\(\d+\)/, "")) ?? 0;
}
