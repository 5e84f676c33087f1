/**
 * What the tables of a simulation are made of. Every row says in words that occur nowhere else whose it is, and in its long
 * column once more: so the bytes on a wire tell whether somebody is sent what is not for them.
 */
import type { Random } from "../splice/random.ts";

/** Of one length, so that one can be cut off and another put in its place. */
export const regions = ["<north>", "<south>", "<far-e>"] as const;
export type Region = (typeof regions)[number];
/** After its row's region, every long value goes on with this. */
export const longMark = "<long>";

export interface SimColumn {
  readonly name: string;
  readonly type: ColumnType;
  readonly nullable: boolean;
}

export interface ColumnType {
  readonly sql: string;
  /** A value in Postgres' input form. From few, so that rows meet predicates and each other. */
  value(random: Random): string;
}

/** Added by the schema changes one at a time, in this order. */
export const laterLabels = ["asleep", "angry", "bored"] as const;
export const firstLabels = ["calm", "glad", "sad"] as const;

export const types = {
  int4: { sql: "integer", value: (random) => String(random.integer(-5, 40)) },
  int8: { sql: "bigint", value: (random) => `90071992547409${random.integer(10, 60)}` },
  text: { sql: "text", value: (random) => random.pick(words) },
  numeric: { sql: "numeric(12,2)", value: (random) => `${random.integer(-9, 90)}.${random.integer(10, 99)}` },
  bool: { sql: "boolean", value: (random) => random.pick(["t", "f"]) },
  mood: { sql: "mood", value: (random) => random.pick(firstLabels) },
  char: { sql: "character(6)", value: (random) => random.pick(["ab", "cd ", "efghij"]) },
  time: {
    sql: "timestamp with time zone",
    value: (random) => `2026-0${random.integer(1, 9)}-1${random.integer(0, 9)} 10:00:0${random.integer(0, 9)}.5+00`,
  },
  array: { sql: "integer[]", value: (random) => `{${random.integer(0, 3)},NULL,${random.integer(0, 3)}}` },
  /** Long and hard to compress: kept out of line, and left out of updates that do not touch it. */
  long: { sql: "text", value: (random) => longText(random) },
} satisfies Record<string, ColumnType>;

const words = ["amber", "Blue", "it's", 'say "so"', "tab\there", "back\\slash", "línea", "", "null", "%_"] as const;

function longText(random: Random): string {
  let text = longMark;
  for (let i = 0; i < 400; i++) text += random.integer(0, 0x7fffffff).toString(36);
  return text;
}

export const columnTypes = [
  types.int4,
  types.int8,
  types.text,
  types.numeric,
  types.bool,
  types.mood,
  types.char,
  types.time,
  types.array,
] as const;

/** It can be NULL, so writers may fill and empty it. */
export function isLong({ type, nullable }: SimColumn): boolean {
  return type === types.long && nullable;
}

/** As in CREATE TABLE. */
export function columnSql({ name, type, nullable }: SimColumn): string {
  return `${name} ${type.sql}${nullable ? "" : " not null"}`;
}
