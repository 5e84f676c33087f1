/**
 * The `sql` tag for rules in the config. Values never become part of the text: they travel beside it as parameters, so
 * a claim can hold anything.
 */
import { WalcastError } from "./errors.ts";

/** What only the tag makes: a claim that has the same fields is not taken for a condition. The same in every copy of this module. */
const made: unique symbol = Symbol.for("walcast.sql") as never;

export interface Sql {
  readonly [made]: true;
  /** With `$1`, `$2`… where values belong. */
  readonly text: string;
  readonly params: readonly unknown[];
}

/**
 * A piece of SQL with its values: sql`customer_id = ${auth.claims.sub}`. Pieces may be put into one another.
 * A value that is undefined, such as a claim the token does not have, denies: throws `forbidden`.
 */
export function sql(strings: TemplateStringsArray, ...values: readonly unknown[]): Sql {
  return new Piece(strings, values);
}

export function isSql(value: unknown): value is Sql {
  if (typeof value !== "object" || value === null) return false;
  return (value as Partial<Sql>)[made] === true;
}

class Piece implements Sql {
  readonly [made] = true;
  readonly text: string;
  readonly params: readonly unknown[];
  /** The text around the parameters: one more than there are of these. */
  readonly #between: readonly string[];

  constructor(strings: readonly string[], values: readonly unknown[]) {
    const between = [strings[0]!];
    const params: unknown[] = [];
    values.forEach((value, i) => {
      if (value instanceof Piece) value.#appendTo(between, params);
      else append(between, params, value);
      between[between.length - 1] += strings[i + 1]!;
    });
    this.#between = between;
    this.params = params;
    this.text = between.reduce((text, next, i) => `${text}$${i}${next}`);
  }

  #appendTo(between: string[], params: unknown[]): void {
    between[between.length - 1] += this.#between[0]!;
    between.push(...this.#between.slice(1));
    params.push(...this.params);
  }
}

function append(between: string[], params: unknown[], value: unknown): void {
  if (value === undefined)
    throw new WalcastError(
      "forbidden",
      `apply a read rule: value ${params.length + 1} of its sql is undefined, so it allows nothing`,
    );
  params.push(value);
  between.push("");
}
