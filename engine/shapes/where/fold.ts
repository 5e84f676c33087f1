/** What constants alone decide, before there is a row. */
import type { Node as Raw } from "libpg-query";
import { mixesMoments } from "./functions.ts";
import type { Operator } from "./column.ts";
import { holdsFor } from "./compile.ts";
import { constant, type Node } from "./node.ts";
import { cHint, type ConstantOperand, type Operand, type Operands } from "./operands.ts";
import { valuesOf } from "./type.ts";

/** The constants among a list's items, if it holds nothing else. */
export function constantsOf(items: readonly Operand[]): readonly ConstantOperand[] | undefined {
  return items.every((item) => item.kind === "constant") ? items : undefined;
}

/** Two constants, as in a rule that compares a claim with a literal: decided now. */
export function foldComparison(
  operands: Operands,
  raw: Raw,
  left: ConstantOperand,
  operator: Operator,
  right: ConstantOperand,
): Node {
  const type = operands.constants.commonType(raw, left, right);
  const values = valuesOf(type);
  const isEquality = operator === "=" || operator === "<>";
  if (!isEquality && (!values.ordered || (values.collatable && !left.isC && !right.isC)))
    throw operands.unsupported(raw, `${operator} between two constants of type ${type.sql}`, cHint);
  const isMixed = left.type && right.type && mixesMoments(left.type, right.type);
  const [a, b] = [left, right].map((side) => (isMixed ? side.text : operands.constants.textAs(type, side))) as [
    string | null,
    string | null,
  ];
  return constant(
    a === null || b === null
      ? null
      : holdsFor[operator](
          values.compare(Buffer.from(a), 0, Buffer.byteLength(a), Buffer.from(b), 0, Buffer.byteLength(b)),
        ),
  );
}
