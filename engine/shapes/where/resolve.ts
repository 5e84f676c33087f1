/**
 * Postgres' parse tree → our normalised tree, against the description of a table. An allow-list: what is not named here
 * is refused with its position. Conditions are here; operands.ts says which columns and constants they compare.
 */
import type { A_Expr, BoolExpr, BooleanTest, Node as Raw, NullTest } from "libpg-query";
import { type Value, constantsOf, foldComparison, Operands, type Operand, type Scope } from "./operands.ts";
import {
  type Node,
  type Operator,
  type OrderOperator,
  and,
  columns,
  constant,
  inValues,
  isNull,
  isReadable,
  isTruth,
  mirrored,
  not,
  or,
  order,
} from "./node.ts";
import { isOperand, stringsOf, tagged } from "./raw.ts";

/** Throws `where_unsupported`, `where_type`, `where_params` or `unknown_column`, each with its position. */
export function resolve(expression: Raw, scope: Scope): Node {
  const resolver = new Resolver(scope);
  const node = resolver.condition(expression, 0);
  resolver.operands.checkParamsUsed();
  return node;
}

class Resolver {
  readonly operands: Operands;

  constructor(scope: Scope) {
    this.operands = new Operands(scope);
  }

  condition(raw: Raw, depth: number): Node {
    this.operands.enter(raw, depth);
    const { kind, body } = tagged(raw);
    switch (kind) {
      case "BoolExpr":
        return this.junction(body, depth);
      case "A_Expr":
        return this.expression(raw, body, depth);
      case "NullTest":
        return this.nullTest(body, depth);
      case "BooleanTest":
        return this.booleanTest(body, depth);
      default:
        return this.bareBoolean(raw, depth);
    }
  }

  private junction(body: BoolExpr, depth: number): Node {
    const parts = (body.args ?? []).map((part) => this.condition(part, depth + 1));
    if (body.boolop === "NOT_EXPR") return not(parts[0]!);
    return body.boolop === "AND_EXPR" ? and(parts) : or(parts);
  }

  /** A boolean column, constant or parameter where a condition stands. */
  private bareBoolean(raw: Raw, depth: number): Node {
    const operand = this.operands.operand(raw, depth);
    if (operand.kind === "column")
      return inValues(this.operands.columnOfType(operand, "boolean"), [Buffer.from("t")], false);
    const value = this.operands.booleanConstant(operand);
    return constant(value === null ? null : value === "t");
  }

  private nullTest(body: NullTest, depth: number): Node {
    const negated = body.nulltesttype === "IS_NOT_NULL";
    const argument = body.arg!;
    if (!isOperand(argument)) return isTruth(this.condition(argument, depth + 1), null, negated);
    const operand = this.operands.operand(argument, depth + 1);
    if (operand.kind === "constant") return constant((operand.text === null) !== negated);
    // A composite value IS NULL when all its fields are: not what its text says.
    if (operand.column.column.baseTypeKind === "c")
      throw this.operands.unsupported(argument, "IS NULL over a composite type");
    return isNull(operand.column, negated);
  }

  private booleanTest(body: BooleanTest, depth: number): Node {
    const part = this.condition(body.arg!, depth + 1);
    const [, negated, word] = /^IS_(NOT_)?(TRUE|FALSE|UNKNOWN)$/.exec(body.booltesttype ?? "")!;
    return isTruth(part, word === "UNKNOWN" ? null : word === "TRUE", negated !== undefined);
  }

  private expression(raw: Raw, body: A_Expr, depth: number): Node {
    switch (body.kind) {
      case "AEXPR_OP":
        return this.comparison(raw, body, depth);
      case "AEXPR_IN":
        return this.inList(raw, body, depth);
      case "AEXPR_OP_ANY":
      case "AEXPR_OP_ALL":
        return this.inArray(raw, body, depth);
      case "AEXPR_BETWEEN":
        return this.between(raw, body, depth);
      case "AEXPR_NOT_BETWEEN":
        return not(this.between(raw, body, depth));
      default:
        throw this.operands.unsupported(
          raw,
          `the operator ${stringsOf(body.name).join(".")}`,
          hints.get(body.kind ?? ""),
        );
    }
  }

  private comparison(raw: Raw, body: A_Expr, depth: number): Node {
    const operator = this.operator(raw, body);
    if (!body.lexpr || !body.rexpr) throw this.operands.unsupported(raw, "an operator with one side");
    return this.compare(
      raw,
      this.operands.operand(body.lexpr, depth + 1),
      operator,
      this.operands.operand(body.rexpr, depth + 1),
    );
  }

  private operator(raw: Raw, body: A_Expr): Operator {
    const name = stringsOf(body.name);
    const operator = name.length === 2 && name[0] === "pg_catalog" ? name[1] : name[0];
    if (name.length <= 2 && isOperator(operator)) return operator;
    throw this.operands.unsupported(raw, `the operator ${name.join(".")}`);
  }

  private compare(raw: Raw, left: Operand, operator: Operator, right: Operand): Node {
    if (left.kind === "constant" && right.kind === "constant")
      return foldComparison(this.operands, raw, left, operator, right);
    if (left.kind === "constant") return this.compare(raw, right, mirrored[operator], left);
    if (right.kind === "column") return columns(...this.operands.comparableColumns(raw, left, operator, right));
    const column = this.operands.comparableColumn(raw, left, operator, right);
    const value = this.operands.valueFor(column, right);
    if (value === null) return constant(null);
    if (operator === "=" || operator === "<>") return inValues(column, [value], operator === "<>");
    return order(column, operator, value);
  }

  private inList(raw: Raw, body: A_Expr, depth: number): Node {
    const negated = this.operator(raw, body) === "<>";
    const list = body.rexpr && "List" in body.rexpr ? (body.rexpr.List.items ?? []) : [];
    const items = list.map((item) => this.operands.operand(item, depth + 1));
    const subject = this.operands.operand(body.lexpr!, depth + 1);
    return this.among(raw, subject, items, negated);
  }

  /** = ANY and <> ALL are IN and NOT IN over an array. */
  private inArray(raw: Raw, body: A_Expr, depth: number): Node {
    const operator = this.operator(raw, body);
    const negated = body.kind === "AEXPR_OP_ALL";
    if (operator !== (negated ? "<>" : "="))
      throw this.operands.unsupported(raw, `${operator} ${negated ? "ALL" : "ANY"}`, "= ANY and <> ALL are supported.");
    const subject = this.operands.operand(body.lexpr!, depth + 1);
    const items = this.operands.array(body.rexpr!, depth + 1);
    return items === null ? constant(null) : this.among(raw, subject, items, negated);
  }

  private among(raw: Raw, subject: Operand, items: readonly Operand[], negated: boolean): Node {
    const operator = negated ? "<>" : "=";
    const constants = constantsOf(items);
    if (!constants || subject.kind === "constant") {
      const each = items.map((item) => this.compare(raw, subject, operator, item));
      return negated ? and(each) : or(each);
    }
    const values = constants.map((item) =>
      this.operands.valueFor(this.operands.comparableColumn(raw, subject, operator, item), item),
    );
    return this.list(subject, values, negated);
  }

  private list(subject: Operand & { kind: "column" }, values: readonly Value[], negated: boolean): Node {
    if (values.length === 0 || !isReadable(subject.column)) return constant(negated);
    const list = inValues(
      subject.column,
      values.filter((value) => value !== null),
      negated,
    );
    if (!values.includes(null)) return list;
    return values.every((value) => value === null) ? constant(null) : (negated ? and : or)([list, constant(null)]);
  }

  private between(raw: Raw, body: A_Expr, depth: number): Node {
    const bounds = body.rexpr && "List" in body.rexpr ? (body.rexpr.List.items ?? []) : [];
    const subject = this.operands.operand(body.lexpr!, depth + 1);
    const [low, high] = bounds.map((bound) => this.operands.operand(bound, depth + 1));
    return and([this.compare(raw, subject, ">=", low!), this.compare(raw, subject, "<=", high!)]);
  }
}

const operators: readonly string[] = ["=", "<>", "<", "<=", ">", ">="] satisfies readonly (OrderOperator | Operator)[];

function isOperator(name: string | undefined): name is Operator {
  return name !== undefined && operators.includes(name);
}

const hints: ReadonlyMap<string, string> = new Map([
  ["AEXPR_DISTINCT", "Write a = 1 OR a IS NULL instead, or (a = 1) IS NOT TRUE."],
  ["AEXPR_NOT_DISTINCT", "Write (a = 1) IS TRUE instead."],
  ["AEXPR_BETWEEN_SYM", "Write BETWEEN with the lower bound first."],
  ["AEXPR_NOT_BETWEEN_SYM", "Write NOT BETWEEN with the lower bound first."],
]);
