/** Shapes that a client may ask for: everything of a table, or what a predicate over its columns keeps; all columns or some. */
import type { Random } from "../splice/random.ts";
import { regions, type SimColumn, types } from "./columns.ts";
import type { Asked, Filter } from "./filter.ts";
import { decodedName } from "./layout.ts";
import type { SimTable } from "./schema.ts";

/** Which columns a client asks for at all. */
export type Taste = "any" | "nothing long";

export function randomShape(table: SimTable, random: Random, columns: readonly string[] | undefined): Asked {
  return { ...randomFilter(table, random), table: decodedName(table.name), ...(columns && { columns }) };
}

/** The key's are among them. */
export function randomColumns(table: SimTable, random: Random, taste: Taste): readonly string[] | undefined {
  if (taste === "any" && random.chance(0.6)) return undefined;
  const isWanted = ({ name, type }: SimColumn): boolean =>
    table.key.includes(name) || (random.chance(0.6) && (taste === "any" || type !== types.long));
  return table.columns.filter((column) => isWanted(column)).map(({ name }) => name);
}

function randomFilter(table: SimTable, random: Random): Filter {
  if (random.chance(0.25)) return {};
  const first = condition(table, random, 1);
  if (random.chance(0.6)) return first;
  const second = condition(table, random, 1 + first.params!.length);
  const not = random.chance(0.2) ? "not " : "";
  return {
    where: `${not}(${first.where}) ${random.pick(["and", "or"])} (${second.where})`,
    params: [...first.params!, ...second.params!],
  };
}

function condition(table: SimTable, random: Random, next: number): Filter {
  const columns = table.columns.filter(({ type }) => type !== types.long);
  const column = random.pick(columns);
  if (column.nullable && random.chance(0.2))
    return { where: `${column.name} is ${random.pick(["", "not "])}null`, params: [] };
  if (random.chance(0.3)) return computed(column, random, next);
  return compared(column, random, next);
}

function compared(column: SimColumn, random: Random, next: number): Filter {
  const operator = random.pick(operatorsOf(column));
  const value = (): unknown => parameter(column, random);
  if (operator === "any") return { where: `${column.name} = any($${next})`, params: [[value(), value(), value()]] };
  if (operator === "between")
    return { where: `${column.name} between $${next} and $${next + 1}`, params: [value(), value()] };
  return { where: `${column.name} ${operator} $${next}`, params: [value()] };
}

/** Forms that no value can make fail: C is the column, $ a value of its. */
function computed(column: SimColumn, random: Random, next: number): Filter {
  const form = random.pick([...formsOf(column), "C is distinct from $", "coalesce(C, $) = $"]);
  const where = form.replaceAll(/[C$]/g, (mark) => (mark === "C" ? column.name : `$${next}`));
  if (!form.includes("$")) return { where, params: [] };
  return { where, params: [form.includes("like") ? random.pick(patterns) : parameter(column, random)] };
}

const patterns = ["%e%", "Bl%", "_m%", "\\%\\_", "%\\\\%", "%", "", "línea%"] as const;

function formsOf({ type }: SimColumn): readonly string[] {
  if (type === types.int4) return ["C % 7 between -3 and 2", "abs(C - $) < 10", "greatest(C, 3) > $", "-C < $"];
  if (type === types.int8) return ["C % 2 = 0", "least(C, $) = C"];
  if (type === types.numeric)
    return ["C * 2 > $ + 1.50", "nullif(C, $) is null", "C - $ between symmetric 20 and -0.5"];
  if (type === types.text) return ["C like $", "C not like $", "length(C) > 4", "C || '!' = $ || '!'"];
  if (type === types.bool) return ["C is not true", "C is unknown", "not C"];
  if (type === types.mood) return ["C > $", "C <= $"];
  if (type === types.array) return ["C @> $", "C && $", "2 = any(C)", "cardinality(C) = 3"];
  return [];
}

/** Order in text is a collation's affair, and refused without one. */
function operatorsOf({ type }: SimColumn): readonly string[] {
  if (type === types.array) return ["=", "<>"];
  if (type === types.text || type === types.char || type === types.bool || type === types.mood)
    return ["=", "<>", "any"];
  return ["=", "<>", "<", ">=", "any", "between"];
}

function parameter(column: SimColumn, random: Random): unknown {
  if (column.name === "region") return random.pick(regions);
  const text = column.type.value(random);
  return column.type === types.int4 ? Number(text) : text;
}
