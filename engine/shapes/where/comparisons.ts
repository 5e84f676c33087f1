/**
 * Comparisons of two operands, or of two rows of them: what each becomes in the normalised tree, by what its sides are.
 */
import type { A_Expr, Node as Raw } from "libpg-query";
import type { WalcastError } from "../../errors.ts";
import type { Operator, OrderOperator, ReadColumn } from "./column.ts";
import { constantsOf, foldComparison } from "./fold.ts";
import { mixesMoments, mixesNumbers } from "./functions.ts";
import { type Node, and, columns, constant, inValues, isNull, isTruth, mirrored, not, or, order } from "./node.ts";
import type { Operand, Operands } from "./operands.ts";
import { stringsOf, tagged } from "./raw.ts";

export class Comparisons {
  private readonly operands: Operands;
  /** What has one answer for every row, which Postgres finds out with each row anew. */
  private decided: Raw | undefined;

  constructor(operands: Operands) {
    this.operands = operands;
  }

  nullness(argument: Raw, operand: Operand, negated: boolean): Node {
    if (operand.kind === "constant") return constant((operand.text === null) !== negated);
    if (operand.kind === "expression" && operand.column) return isNull(operand.column, negated);
    if (operand.kind === "expression") {
      const node = this.operands.expressions.isNull(operand);
      return negated ? not(node) : node;
    }
    // A composite value IS NULL when all its fields are: not what its text says.
    if (operand.column.column.baseTypeKind === "c")
      throw this.operands.unsupported(argument, "IS NULL over a composite type");
    return isNull(operand.column, negated);
  }

  operator(raw: Raw, body: A_Expr): Operator {
    const name = stringsOf(body.name);
    const operator = name.length === 2 && name[0] === "pg_catalog" ? name[1] : name[0];
    if (name.length <= 2 && isOperator(operator)) return operator;
    throw this.operands.unsupported(raw, `the operator ${name.join(".")}`);
  }

  compare(raw: Raw, left: Operand, operator: Operator, right: Operand): Node {
    if (left.kind === "expression" || right.kind === "expression" || this.isConverted(left, right))
      return this.compareComputed(raw, left, operator, right);
    if (left.kind === "constant" && right.kind === "constant")
      return foldComparison(this.operands, raw, left, operator, right);
    if (left.kind === "constant") return this.compare(raw, right, mirrored[operator], left);
    if (right.kind === "column") return columns(...this.operands.comparableColumns(raw, left, operator, right));
    const column = this.operands.comparableColumn(raw, left, operator, right);
    const value = this.operands.constants.valueFor(column, right);
    if (value === null) return constant(null);
    return this.withValue(column, operator, value);
  }

  private withValue(column: ReadColumn, operator: Operator, value: Buffer): Node {
    if (operator !== "=" && operator !== "<>") return order(column, operator, value);
    if (column.values.equalInBytes) return inValues(column, [value], operator === "<>");
    const equal = and([order(column, ">=", value), order(column, "<=", value)]);
    return operator === "=" ? equal : not(equal);
  }

  /** A column that Postgres makes a float8 of before it compares it, or a constant that is none of the column's type. */
  isConverted(left: Operand, right: Operand): boolean {
    const columns = [left, right].filter((side) => side.kind === "column");
    const types = [left, right].map((side) => this.operands.knownTypeOf(side));
    if (!types[0] || !types[1]) return false;
    if (mixesMoments(types[0], types[1])) return columns.length === 1 && !this.isRewritten(left, right);
    if (!mixesNumbers(types[0], types[1])) return false;
    return columns.some((side) => this.operands.knownTypeOf(side)!.type !== "float8");
  }

  /** A column and a constant that says the same in the column's type. */
  private isRewritten(left: Operand, right: Operand): boolean {
    if (right.kind === "column") return this.isRewritten(right, left);
    return right.kind === "constant" && this.operands.constants.fits(this.operands.typeOf(left)!, right);
  }

  /** A computed boolean says the same as its comparison with a boolean constant. */
  private compareComputed(raw: Raw, left: Operand, operator: Operator, right: Operand): Node {
    const { expressions } = this.operands;
    if (left.kind === "constant") return this.compareComputed(raw, right, mirrored[operator], left);
    const isEquality = operator === "=" || operator === "<>";
    if (left.kind !== "expression" || left.scalar.type.type !== "boolean" || right.kind !== "constant" || !isEquality)
      return expressions.compare(raw, left, operator, right);
    const value = this.operands.constants.booleanConstant(right);
    if (value === null) return constant(null);
    const node = expressions.isTrue(left);
    return (value === "t") === (operator === "=") ? node : not(node);
  }

  /** One value, or several in parentheses. */
  side(raw: Raw, depth: number, isElement = false): Operand | readonly Operand[] {
    const { kind, body } = tagged(raw);
    if (kind !== "RowExpr")
      return isElement ? this.operands.element(raw, depth + 1) : this.operands.operand(raw, depth + 1);
    this.operands.enter(raw, depth + 1);
    return (body.args ?? []).map((part) => this.operands.operand(part, depth + 2));
  }

  compareSides(
    raw: Raw,
    left: Operand | readonly Operand[],
    operator: Operator,
    right: Operand | readonly Operand[],
  ): Node {
    if (isRow(left) && isRow(right)) return this.compareRows(raw, left, operator, right);
    if (!isRow(left) && !isRow(right)) return this.compare(raw, left, operator, right);
    throw this.rowOnOneSide(raw);
  }

  private rowOnOneSide(raw: Raw): WalcastError {
    return this.operands.refused("where_type", raw, "expected a row on both sides, or on none");
  }

  private checkSizes(raw: Raw, left: readonly Operand[], right: readonly Operand[]): void {
    if (left.length === right.length && left.length > 0) return;
    const found = `${left.length} and ${right.length}`;
    throw this.operands.refused("where_type", raw, `expected rows of one size, found ${found}`);
  }

  private compareRows(raw: Raw, left: readonly Operand[], operator: Operator, right: readonly Operand[]): Node {
    this.checkSizes(raw, left, right);
    const each = (by: Operator): Node[] => left.map((value, i) => this.compare(raw, value, by, right[i]!));
    if (operator === "=") return and(each("="));
    if (operator === "<>") return or(each("<>"));
    if ([...left, ...right].some((value) => value.kind === "expression" && value.scalar.mayFail))
      throw this.operands.unsupported(raw, `${operator} between rows of which a part may fail`);
    return this.noted(raw, rowsInOrder(each(strict[operator]), each("="), each(operator).at(-1)!), [...left, ...right]);
  }

  within(raw: Raw, subject: Operand, low: Operand, high: Operand): Node {
    return and([this.compare(raw, subject, ">=", low), this.compare(raw, subject, "<=", high)]);
  }

  notDistinctSides(raw: Raw, body: A_Expr, depth: number): Node {
    const [left, right] = [this.side(body.lexpr!, depth), this.side(body.rexpr!, depth)];
    if (!isRow(left) && !isRow(right)) return this.notDistinct(raw, left, right);
    if (!isRow(left) || !isRow(right)) throw this.rowOnOneSide(raw);
    this.checkSizes(raw, left, right);
    return and(left.map((value, i) => this.notDistinct(raw, value, right[i]!)));
  }

  /** Equal, or both NULL. */
  private notDistinct(raw: Raw, left: Operand, right: Operand): Node {
    if (isNullLiteral(left)) return this.nullness(raw, right, false);
    if (isNullLiteral(right)) return this.nullness(raw, left, false);
    const equal = isTruth(this.compare(raw, left, "=", right), true, false);
    if (isNullConstant(left)) return this.nullness(raw, right, false);
    if (isNullConstant(right)) return this.nullness(raw, left, false);
    if (left.kind === "constant" || right.kind === "constant") return equal;
    return or([equal, and([this.nullness(raw, left, false), this.nullness(raw, right, false)])]);
  }

  noted(raw: Raw, node: Node, operands: readonly Operand[]): Node {
    if (node.kind === "constant" && !constantsOf(operands)) this.decided ??= raw;
    return node;
  }

  /** Beside what is decided beforehand nothing is evaluated, and cannot fail; in Postgres it does. */
  checkDecided(): void {
    if (this.decided && this.operands.expressions.mayFail)
      throw this.operands.unsupported(
        this.decided,
        "a comparison that is the same for every row, beside what may fail",
        "Leave it out.",
      );
  }
}

export function isRow(side: Operand | readonly Operand[]): side is readonly Operand[] {
  return Array.isArray(side);
}

function isNullConstant(operand: Operand): boolean {
  return operand.kind === "constant" && operand.text === null;
}

/** It is compared with whatever type. */
function isNullLiteral(operand: Operand): boolean {
  return operand.kind === "constant" && operand.text === null && !operand.type;
}

const strict: Readonly<Record<OrderOperator, OrderOperator>> = { "<": "<", "<=": "<", ">": ">", ">=": ">" };

/** The first parts that differ decide; the last ones may be equal where the operator says so. */
function rowsInOrder(before: readonly Node[], equal: readonly Node[], last: Node): Node {
  let node = last;
  for (let i = before.length - 2; i >= 0; i--) node = or([before[i]!, and([equal[i]!, node])]);
  return node;
}

const operators: readonly string[] = ["=", "<>", "<", "<=", ">", ">="] satisfies readonly (OrderOperator | Operator)[];

function isOperator(name: string | undefined): name is Operator {
  return name !== undefined && operators.includes(name);
}
