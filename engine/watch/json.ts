/**
 * Rows as JSON: what a double holds exactly is a number (smallint, integer, oid, real, double precision), boolean is true or
 * false, json and jsonb are what they are, arrays are arrays of these, NULL is null, and everything else is Postgres' text, so that no
 * digit is lost.
 */
import type { Column } from "../changes/table.ts";
import type { Shape } from "../shapes/shape.ts";
import { type ArrayText, parseArray } from "../shapes/where/array-literal.ts";
import type { Row } from "./rows.ts";

export type RowAsJson = (row: Row) => string;

type ValueAsJson = (text: string) => string;

/** Made once for a shape. */
export function jsonOf(shape: Shape): RowAsJson {
  const known = writers.get(shape);
  if (known) return known;
  const columns = shape.columns.map((position) => shape.table.columns[position]!);
  const names = columns.map(({ name }) => JSON.stringify(name));
  const values = columns.map(valueAsJson);
  const writer: RowAsJson = (row) =>
    `{${row.map((text, i) => `${names[i]!}:${text === null ? "null" : values[i]!(text)}`).join(",")}}`;
  writers.set(shape, writer);
  return writer;
}

const writers = new WeakMap<Shape, RowAsJson>();

function valueAsJson({ type, baseTypeOid }: Column): ValueAsJson {
  return textAsJson(baseTypeOid) ?? (type.endsWith("[]") ? (text) => arrayAsJson(text, asText) : asText);
}

/** By pg_type.oid; undefined where a value is its text, or where nothing is known of the type. */
export function textAsJson(typeOid: number): ValueAsJson | undefined {
  const element = elementTypes.get(typeOid);
  return element === undefined ? scalars.get(typeOid) : (text) => arrayAsJson(text, scalars.get(element) ?? asText);
}

function asText(text: string): string {
  return JSON.stringify(text);
}

/** NaN and the infinities are no JSON numbers. */
function asNumber(text: string): string {
  return /^-?\d/.test(text) ? text : asText(text);
}

function asBoolean(text: string): string {
  return text === "t" ? "true" : "false";
}

function asIs(text: string): string {
  return text;
}

/** pg_type.oid → how its text is written. */
const scalars: ReadonlyMap<number, ValueAsJson> = new Map([
  [16, asBoolean],
  [21, asNumber],
  [23, asNumber],
  [26, asNumber],
  [700, asNumber],
  [701, asNumber],
  [114, asIs],
  [3802, asIs],
]);

/** pg_type.oid of arrays → of their elements. */
const elementTypes: ReadonlyMap<number, number> = new Map([
  [1000, 16],
  [1005, 21],
  [1007, 23],
  [1028, 26],
  [1021, 700],
  [1022, 701],
  [199, 114],
  [3807, 3802],
  // Of text, varchar, bigint, numeric, uuid: those that a query's result has most.
  [1009, 25],
  [1015, 1043],
  [1016, 20],
  [1231, 1700],
  [2951, 2950],
]);

/** Bounds are not kept. What cannot be read (an array of boxes has other separators) stays text. */
function arrayAsJson(text: string, element: ValueAsJson): string {
  const array = parseArray(Buffer.from(text));
  return array ? nested(array, element) : asText(text);
}

function nested({ bounds, elements }: ArrayText, element: ValueAsJson): string {
  let texts = elements.map((bytes) => (bytes === null ? "null" : element(bytes.toString("utf8"))));
  for (const { length } of bounds.toReversed()) texts = grouped(texts, length);
  return texts[0] ?? "[]";
}

function grouped(texts: readonly string[], length: number): string[] {
  const groups: string[] = [];
  for (let at = 0; at < texts.length; at += length) groups.push(`[${texts.slice(at, at + length).join(",")}]`);
  return groups;
}
