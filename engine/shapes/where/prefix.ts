/** How a text begins that a pattern can be like: what an index over predicates finds such conditions by. */
import { isReadable, type ReadColumn } from "./column.ts";
import type { Operand } from "./operands.ts";
import { constantOf, isBytes, type Scalar } from "./scalar.ts";
import { literalStart } from "./text.ts";

export interface Prefix {
  readonly column: ReadColumn;
  /** Never empty. */
  readonly text: Buffer;
  /** Whether every text that begins so is one that the condition holds for. */
  readonly isAll: boolean;
}

/** Of an operator's or a function's arguments; undefined where they say nothing of how a column begins. */
export function prefixOf(name: string, [subject]: readonly Operand[], scalars: readonly Scalar[]): Prefix | undefined {
  if ((name !== "~~" && name !== "starts_with") || subject?.kind !== "column") return undefined;
  const { column } = subject;
  const given = constantOf(scalars[1]!);
  if (!isReadable(column) || column.values.name !== "text" || !given || !isBytes(given)) return undefined;
  const { text, isAll } = name === "~~" ? literalStart(given) : { text: given, isAll: true };
  return text.length === 0 ? undefined : { column, text, isAll };
}
