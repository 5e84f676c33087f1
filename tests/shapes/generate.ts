/**
 * Rows and conditions from a seed, for tests that compare two ways of evaluating them: rich in NULL, in values next to
 * each other, and in values whose text and whose order disagree.
 */
import { quoteIdentifier, quoteLiteral } from "../../engine/shapes/name.ts";
import { NULL_VALUE, TEXT_VALUE, Tuple } from "../../engine/changes/tuple.ts";

export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed;
  }

  /** From 0 up to, not including, `bound`. The generator is mulberry32. */
  below(bound: number): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  of<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  some<T>(values: readonly T[], most: number): T[] {
    return Array.from({ length: 1 + this.below(most) }, () => this.of(values));
  }
}

/** A condition for compileWhere, and the same for Postgres with its parameters written in. */
export interface Condition {
  readonly where: string;
  readonly params: readonly unknown[];
  readonly inlined: string;
}

/** A column's name, and literals that its type accepts. */
export interface SampleColumn {
  readonly name: string;
  readonly type: string;
  /** Where a constant is not cast to `type` itself. */
  readonly cast?: string;
  /** None where only IS NULL is asked of it. */
  readonly values: readonly string[];
  /** Columns that share a family may be compared with each other and with each other's constants. */
  readonly family: string;
  readonly isOrdered?: boolean;
  /** What is asked of this type alone; `param` takes a value and gives its place. */
  readonly leaf?: (random: Random, param: (value: unknown) => string) => Pair;
}

export function tupleOf(values: readonly (string | null)[]): Tuple {
  const tuple = new Tuple();
  // Something before and after each value, so that reading past an edge shows.
  tuple.reset(Buffer.from(`0${values.map((value) => value ?? "").join("0")}0`), values.length);
  let at = 1;
  values.forEach((value, i) => {
    tuple.kinds[i] = value === null ? NULL_VALUE : TEXT_VALUE;
    tuple.starts[i] = at;
    tuple.ends[i] = at + Buffer.byteLength(value ?? "");
    at = tuple.ends[i] + 1;
  });
  return tuple;
}

export class Conditions {
  private readonly random: Random;
  private readonly columns: readonly SampleColumn[];
  private readonly computed: boolean;
  private params: unknown[] = [];

  /** `computed`: with operators and functions, which may fail. */
  constructor(random: Random, columns: readonly SampleColumn[], computed = false) {
    this.random = random;
    this.columns = columns;
    this.computed = computed;
  }

  next(): Condition {
    this.params = [];
    const [where, inlined] = this.condition(3);
    return { where, params: this.params, inlined };
  }

  private condition(depth: number): Pair {
    const { random } = this;
    if (depth === 0 || random.chance(30)) return this.leaf();
    switch (random.below(6)) {
      case 0:
        return this.wrapped("NOT ", depth, "");
      case 1:
        return this.wrapped(
          "",
          depth,
          random.of([
            " IS TRUE",
            " IS NOT TRUE",
            " IS FALSE",
            " IS NOT FALSE",
            " IS UNKNOWN",
            " IS NOT UNKNOWN",
            " IS NULL",
            " IS NOT NULL",
          ]),
        );
      case 2:
      case 3:
        return this.joined(" OR ", depth);
      default:
        return this.joined(" AND ", depth);
    }
  }

  private wrapped(before: string, depth: number, after: string): Pair {
    return mapped(this.condition(depth - 1), (text) => `${before}(${text})${after}`);
  }

  private joined(word: string, depth: number): Pair {
    const parts = Array.from({ length: 2 + this.random.below(3) }, () => this.condition(depth - 1));
    return [0, 1].map((side) => parts.map((part) => `(${part[side]!})`).join(word)) as [string, string];
  }

  private leaf(): Pair {
    const { random } = this;
    if (this.computed && random.chance(60)) return this.computedLeaf();
    const column = random.of(this.columns);
    const name = quoteIdentifier(column.name);
    if (column.leaf && random.chance(75)) return column.leaf(random, (value) => this.param(value));
    switch (column.values.length === 0 ? 0 : random.below(9)) {
      case 0:
        return same(`${name} IS ${random.of(["NULL", "NOT NULL"])}`);
      case 1:
        return this.list(column, `${name} ${random.of(["IN", "NOT IN"])}`);
      case 2:
        return this.any(column, name);
      case 3:
        return this.between(column, name);
      case 4:
        return this.twoColumns(column, name);
      case 5:
        return column.family === "boolean" ? same(name) : this.comparison(column, name);
      default:
        return this.comparison(column, name);
    }
  }

  private comparison(column: SampleColumn, name: string): Pair {
    const operator = this.operator(column);
    const start = `${name}${this.collate(column, operator)} ${operator} `;
    return mapped(this.constant(column), (text) => start + text);
  }

  private between(column: SampleColumn, name: string): Pair {
    if (column.isOrdered === false) return this.comparison(column, name);
    const [low, high] = [this.constant(column), this.constant(column)];
    const start = `${name}${this.collate(column, "<")} ${this.random.of(["BETWEEN", "NOT BETWEEN"])} `;
    return [start + `${low[0]} AND ${high[0]}`, start + `${low[1]} AND ${high[1]}`];
  }

  private twoColumns(column: SampleColumn, name: string): Pair {
    const other = this.random.of(this.columns.filter(({ family }) => family === column.family));
    const operator = this.operator(column);
    return same(`${name}${this.collate(column, operator)} ${operator} ${quoteIdentifier(other.name)}`);
  }

  private list(column: SampleColumn, start: string): Pair {
    const items = Array.from({ length: 1 + this.random.below(4) }, () =>
      this.random.chance(10) ? same("NULL") : this.constant(column),
    );
    return [0, 1].map((side) => `${start} (${items.map((item) => item[side]!).join(", ")})`) as [string, string];
  }

  private any(column: SampleColumn, name: string): Pair {
    const other = this.random.of(this.columns.filter(({ family }) => family === column.family));
    const isCast = column.family === "moment" && this.random.chance(50);
    const values = this.random.some<string | null>([...(isCast ? other : column).values, null], 4);
    const text = quoteLiteral(
      `{${values.map((value) => (value === null ? "NULL" : `"${value.replace(/["\\]/g, "\\$&")}"`)).join(",")}}`,
    );
    const literal = isCast ? `${text}::${other.type}[]` : text;
    const start = `${name} ${this.random.of(["= ANY", "<> ALL", "= SOME"])} `;
    if (isCast && this.random.chance(30)) return same(`${start}(${this.random.of(["da", "sa", "za"])})`);
    if (isCast || this.random.chance(50)) return same(`${start}(${literal})`);
    return [`${start}(${this.param(values)})`, `${start}(${literal})`];
  }

  // ── What is computed ───────────────────────────────────────────────────────────────────────────────────────────────

  private computedLeaf(): Pair {
    const { random } = this;
    const isMeant = random.chance(40) ? isNumber : hasValues;
    const column = random.of(this.columns.filter(isMeant));
    const value = (): Pair => this.value(column, 2);
    const operator = this.operator(column);
    if (column.family === "text" && random.chance(50)) return this.match(column);
    switch (random.below(8)) {
      case 0:
        return assembled(value(), ` IS ${random.of(["", "NOT "])}NULL`);
      case 1:
        return assembled(value(), ` IS ${random.of(["", "NOT "])}DISTINCT FROM `, value());
      case 2:
        return assembled(value(), ` ${random.of(["", "NOT "])}BETWEEN SYMMETRIC `, value(), " AND ", value());
      case 3:
        return assembled(value(), ` ${operator} ${random.of(["ALL", "ANY"])} (ARRAY[`, value(), ", ", value(), "])");
      case 4:
        return this.rows(operator, value);
      case 5:
        return assembled("(", this.condition(1), `) ${random.of(["=", "<>", "<", ">="])} (`, this.condition(1), ")");
      default:
        return assembled(value(), ` ${operator} `, value());
    }
  }

  private match(column: SampleColumn): Pair {
    const { random } = this;
    const value = (): Pair => this.value(column, 1);
    if (random.chance(25)) return this.matchAny(value());
    const pattern = random.chance(70) ? same(quoteLiteral(random.of(patterns))) : value();
    const escape = quoteLiteral(random.of(["\\", "", "a", "%", "ä", "\\a"]));
    const operator = random.of(["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE", "~~", "!~~*", "starts_with"]);
    if (operator === "starts_with") return assembled("starts_with(", value(), ", ", pattern, ")");
    if (random.chance(70) || operator.includes("~")) return assembled(value(), ` ${operator} `, pattern);
    return assembled(value(), ` ${operator} `, pattern, ` ESCAPE ${escape}`);
  }

  private matchAny(value: Pair): Pair {
    const { random } = this;
    const start = ` ${random.of(["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"])} ${random.of(["ANY", "ALL"])} `;
    if (random.chance(40)) return assembled(value, start, `(${random.of(["xa", "xc", "va"])})`);
    const some = random.some<string | null>([...patterns, null], 3);
    if (random.chance(50)) return assembled(value, start, `(ARRAY[${some.map(patternSql).join(", ")}]::text[])`);
    return assembled(value, start, [`(${this.param(some)})`, `(ARRAY[${some.map(patternSql).join(", ")}]::text[])`]);
  }

  private rows(operator: string, value: () => Pair): Pair {
    const other = this.random.of(this.columns.filter(isNumber));
    const row = (): Pair => assembled("(", value(), ", ", this.value(other, 1), ")");
    if (this.random.chance(30))
      return assembled(row(), this.random.of([" IN (", " NOT IN ("]), row(), ", ", row(), ")");
    if (this.random.chance(20)) return assembled(row(), ` IS ${this.random.of(["", "NOT "])}DISTINCT FROM `, row());
    return assembled(row(), ` ${operator} `, row());
  }

  /** Of the column's family. */
  private value(column: SampleColumn, depth: number): Pair {
    const { random } = this;
    const alike = random.of(this.columns.filter(({ family }) => family === column.family));
    const inner = (): Pair => this.value(alike, depth - 1);
    if (depth === 0 || random.chance(35)) return this.plainValue(alike);
    if (random.chance(10)) return this.castTo(column);
    if (column.family === "text" && random.chance(50)) return this.text(inner);
    if (column.family === "number" && random.chance(15)) return this.lengthOf();
    switch (random.below(column.family === "number" ? 12 : 4)) {
      case 0:
        return assembled("coalesce(", inner(), ", ", inner(), ")");
      case 1:
        return assembled("nullif(", inner(), ", ", inner(), ")");
      case 2:
        return assembled(`${random.of(["greatest", "least"])}(`, inner(), ", ", inner(), ")");
      case 3:
        return inner();
      case 4:
        return assembled(random.of(["-", "+", "@", "abs"]), "(", inner(), ")");
      default:
        return assembled("(", inner(), ` ${random.of(["+", "-", "*", "/", "%"])} `, inner(), ")");
    }
  }

  /** From any type that has a cast, or has none and is refused. */
  private castTo({ family, cast, type }: SampleColumn): Pair {
    const from = this.random.of(this.columns.filter(hasValues));
    const to =
      family === "number" ? this.random.of(["int", "int8", "int2", "numeric", "float8", "real"]) : (cast ?? type);
    return assembled("(", this.value(from, 1), `)::${to}`);
  }

  private text(inner: () => Pair): Pair {
    const { random } = this;
    if (random.chance(60)) return assembled("(", inner(), " || ", inner(), ")");
    return assembled(random.of(["lower(", "upper("]), inner(), random.of([")", ' COLLATE "C")']));
  }

  private lengthOf(): Pair {
    const column = this.random.of(this.columns.filter(({ family }) => family === "text" || family === "bpchar"));
    const name = this.random.of(["length", "char_length", "octet_length"]);
    return assembled(`${name}(`, this.value(column, 1), ")");
  }

  private plainValue(column: SampleColumn): Pair {
    if (this.random.chance(60)) return same(`(${quoteIdentifier(column.name)}${this.collate(column, "<")})`);
    return this.random.chance(5) ? same("NULL") : this.constant(column);
  }

  private constant(column: SampleColumn): Pair {
    const { random } = this;
    const from = random.chance(15) ? random.of(this.columns.filter(({ family }) => family === column.family)) : column;
    const value = random.of(from.values);
    const literal = quoteLiteral(value);
    if (random.chance(20)) return [this.param(value), literal];
    if (random.chance(30)) return same(`${literal}::${from.cast ?? from.type}`);
    return same(column.family === "number" && /^[\d.]+$/.test(value) && random.chance(70) ? value : literal);
  }

  private param(value: unknown): string {
    this.params.push(value);
    return `$${this.params.length}`;
  }

  private operator({ isOrdered = true }: SampleColumn): string {
    return this.random.of(isOrdered ? ["=", "<>", "!=", "<", "<=", ">", ">="] : ["=", "<>"]);
  }

  private collate({ family }: SampleColumn, operator: string): string {
    const isEquality = ["=", "<>", "!="].includes(operator);
    return (family === "text" || family === "bpchar") && this.random.chance(isEquality ? 20 : 90) ? ' COLLATE "C"' : "";
  }
}

function isNumber({ family }: SampleColumn): boolean {
  return family === "number";
}

function hasValues({ values }: SampleColumn): boolean {
  return values.length > 0;
}

function patternSql(pattern: string | null): string {
  return pattern === null ? "NULL" : quoteLiteral(pattern);
}

export const patterns = [
  "",
  "%",
  "_",
  "__",
  "a%",
  "%a",
  "%b%",
  "_b",
  "A_",
  "\\",
  "a\\",
  "%\\",
  "\\%",
  "%\n%",
  "a%\\",
  "ä_",
  "%_",
  "\\a\\",
];

type Pair = readonly [where: string, inlined: string];

function same(text: string): Pair {
  return [text, text];
}

function assembled(...parts: readonly (Pair | string)[]): Pair {
  const side = (i: 0 | 1): string => parts.map((part) => (typeof part === "string" ? part : part[i])).join("");
  return [side(0), side(1)];
}

function mapped([where, inlined]: Pair, change: (text: string) => string): Pair {
  return [change(where), change(inlined)];
}
