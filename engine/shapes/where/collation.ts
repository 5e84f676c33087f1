/**
 * Which collations an operator or a function can be exact in. Equality is that of bytes in all deterministic ones; order,
 * and what is upper and lower case, are known in "C" alone.
 */
import type { Node as Raw } from "libpg-query";
import type { Operator } from "./column.ts";
import type { Operation } from "./functions.ts";
import type { Operands } from "./operands.ts";
import { type Collation, commonCollation, constantOf, isBytes, type Scalar } from "./scalar.ts";
import { type SqlType, valuesOf } from "./type.ts";

/** Each place in a text may have to be compared with all of it. */
const patternBytesMax = 1_000;

export function checkOrder(
  operands: Operands,
  raw: Raw,
  type: SqlType,
  operator: Operator,
  scalars: readonly Scalar[],
): void {
  const isEquality = operator === "=" || operator === "<>";
  const { ordered, collatable } = valuesOf(type);
  if (!isEquality && !ordered) throw operands.unsupported(raw, `${operator} over type ${type.sql}`);
  if (!collatable) return;
  const collation = commonCollation(scalars);
  if (isEquality ? collation?.deterministic === false : !collation?.isC)
    throw operands.unsupported(
      raw,
      `${operator} in ${collation?.name ? `the collation ${collation.name}` : "two collations"}`,
      'Write COLLATE "C" after a column or constant in it.',
    );
}

/** What is never evaluated decides by which collation the rest is compared all the same. */
export function checkDropped(operands: Operands, raw: Raw, type: SqlType, dropped: readonly Scalar[]): void {
  if (valuesOf(type).collatable && commonCollation(dropped))
    throw operands.unsupported(raw, "a text that is never asked for", "Leave it out.");
}

export function checkCollation(
  operands: Operands,
  raw: Raw,
  { name, needs }: Operation,
  scalars: readonly Scalar[],
): void {
  const collation = commonCollation(scalars);
  const fits = needs === "C" ? isAsciiCase(collation) : needs === "nothing" || collation?.deterministic !== false;
  if (!fits)
    throw operands.unsupported(
      raw,
      `${name} in ${collation?.name ? `the collation ${collation.name}` : "a collation that is not given"}`,
      'Write COLLATE "C" after a column or constant in it.',
    );
}

export function checkPattern(operands: Operands, raw: Raw, pattern: Scalar): void {
  const value = constantOf(pattern);
  if (value && isBytes(value) && value.length > patternBytesMax)
    throw operands.unsupported(raw, `a pattern of more than ${patternBytesMax} bytes`);
}

/** A collation of one's own may order as "C" does, and still know of more letters than ASCII has. */
function isAsciiCase(collation: Collation | undefined): boolean {
  return collation?.name === "pg_catalog.C" || collation?.name === "pg_catalog.POSIX";
}
