/**
 * Postgres' parse tree → our normalised tree, against the description of a table. An allow-list: what is not named here
 * is refused with its position. Conditions are here; operands.ts says which columns and constants they compare.
 */
import type { A_Expr, BoolExpr, BooleanTest, Node as Raw, NullTest } from "libpg-query";
import { constantsOf, foldComparison } from "./fold.ts";
import { mixesMoments, mixesNumbers, widestMoment } from "./functions.ts";
import type { WalcastError } from "../../errors.ts";
import { Operands, type Operand, type Scope, type Value } from "./operands.ts";
import { type Operator, type OrderOperator, isReadable, type ReadColumn } from "./column.ts";
import { type Node, and, columns, constant, inValues, isNull, isTruth, mirrored, not, or, order } from "./node.ts";
import { packedAt, unpack } from "./packed.ts";
import { isOperand, type Like, likeOf, stringsOf, tagged, unnegated } from "./raw.ts";

/** Throws `where_unsupported`, `where_type`, `where_params` or `unknown_column`, each with its position. */
export function resolve(expression: Raw, scope: Scope, nodes?: Map<Raw, Node>): Node {
  const resolver = new Resolver(scope, nodes);
  const node = resolver.condition(expression, 0);
  resolver.operands.checkParamsUsed();
  resolver.checkDecided();
  return node;
}

/** What `resolve` gives, of what another thread has resolved. */
export function resolveVetted(expression: Raw, scope: Scope): Node {
  return new Resolver(scope).condition(expression, 0);
}

class Resolver {
  readonly operands: Operands;
  /** What has one answer for every row, which Postgres finds out with each row anew. */
  private decided: Raw | undefined;

  /** What each condition in the tree is, for who wants to know. */
  private readonly nodes: Map<Raw, Node> | undefined;

  constructor(scope: Scope, nodes?: Map<Raw, Node>) {
    this.nodes = nodes;
    this.operands = new Operands(scope, (raw, depth) => this.condition(raw, depth));
  }

  condition(raw: Raw, depth: number): Node {
    this.operands.enter(raw, depth);
    const packed = packedAt(raw);
    if (packed) return unpack(packed, (position) => this.operands.columnAt(position));
    const node = this.resolved(raw, depth);
    this.nodes?.set(raw, node);
    return node;
  }

  private resolved(raw: Raw, depth: number): Node {
    const { kind, body } = tagged(raw);
    switch (kind) {
      case "BoolExpr":
        return this.junction(body, depth);
      case "A_Expr":
        return isOperand(raw) ? this.bareBoolean(raw, depth) : this.expression(raw, body, depth);
      case "NullTest":
        return this.nullTest(body, depth);
      case "BooleanTest":
        return this.booleanTest(body, depth);
      default:
        return this.bareBoolean(raw, depth);
    }
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

  private junction(body: BoolExpr, depth: number): Node {
    const parts = (body.args ?? []).map((part) => this.condition(part, depth + 1));
    if (body.boolop === "NOT_EXPR") return not(parts[0]!);
    return body.boolop === "AND_EXPR" ? and(parts) : or(parts);
  }

  /** A boolean column, constant, parameter or function where a condition stands. */
  private bareBoolean(raw: Raw, depth: number): Node {
    const operand = this.operands.operand(raw, depth);
    if (operand.kind === "column")
      return inValues(this.operands.columnOfType(operand, "boolean"), [Buffer.from("t")], false);
    if (operand.kind === "expression") return this.operands.expressions.isTrue(operand);
    const value = this.operands.booleanConstant(operand);
    return constant(value === null ? null : value === "t");
  }

  private nullTest(body: NullTest, depth: number): Node {
    const negated = body.nulltesttype === "IS_NOT_NULL";
    const argument = body.arg!;
    if (!isOperand(argument)) return isTruth(this.condition(argument, depth + 1), null, negated);
    return this.nullness(argument, this.operands.operand(argument, depth + 1), negated);
  }

  private nullness(argument: Raw, operand: Operand, negated: boolean): Node {
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

  private booleanTest(body: BooleanTest, depth: number): Node {
    const part = this.condition(body.arg!, depth + 1);
    const [, negated, word] = /^IS_(NOT_)?(TRUE|FALSE|UNKNOWN)$/.exec(body.booltesttype ?? "")!;
    return isTruth(part, word === "UNKNOWN" ? null : word === "TRUE", negated !== undefined);
  }

  private expression(raw: Raw, body: A_Expr, depth: number): Node {
    switch (body.kind) {
      case "AEXPR_OP":
      case "AEXPR_LIKE":
      case "AEXPR_ILIKE": {
        const positive = unnegated(body);
        return positive ? not(this.bareBoolean(positive, depth)) : this.comparison(raw, body, depth);
      }
      case "AEXPR_IN":
        return this.inList(raw, body, depth);
      case "AEXPR_OP_ANY":
      case "AEXPR_OP_ALL":
        return this.inArray(raw, body, depth);
      case "AEXPR_BETWEEN":
        return this.between(raw, body, depth);
      case "AEXPR_NOT_BETWEEN":
        return not(this.between(raw, body, depth));
      case "AEXPR_BETWEEN_SYM":
        return this.betweenSymmetric(raw, body, depth);
      case "AEXPR_NOT_BETWEEN_SYM":
        return not(this.betweenSymmetric(raw, body, depth));
      case "AEXPR_DISTINCT":
        return not(this.notDistinctSides(raw, body, depth));
      case "AEXPR_NOT_DISTINCT":
        return this.notDistinctSides(raw, body, depth);
      default:
        throw this.operands.unsupported(raw, `the operator ${stringsOf(body.name).join(".")}`);
    }
  }

  private comparison(raw: Raw, body: A_Expr, depth: number): Node {
    const operator = this.operator(raw, body);
    if (!body.lexpr || !body.rexpr) throw this.operands.unsupported(raw, "an operator with one side");
    return this.compareSides(raw, this.side(body.lexpr, depth), operator, this.side(body.rexpr, depth));
  }

  private operator(raw: Raw, body: A_Expr): Operator {
    const name = stringsOf(body.name);
    const operator = name.length === 2 && name[0] === "pg_catalog" ? name[1] : name[0];
    if (name.length <= 2 && isOperator(operator)) return operator;
    throw this.operands.unsupported(raw, `the operator ${name.join(".")}`);
  }

  private compare(raw: Raw, left: Operand, operator: Operator, right: Operand): Node {
    if (left.kind === "expression" || right.kind === "expression" || this.isConverted(left, right))
      return this.compareComputed(raw, left, operator, right);
    if (left.kind === "constant" && right.kind === "constant")
      return foldComparison(this.operands, raw, left, operator, right);
    if (left.kind === "constant") return this.compare(raw, right, mirrored[operator], left);
    if (right.kind === "column") return columns(...this.operands.comparableColumns(raw, left, operator, right));
    const column = this.operands.comparableColumn(raw, left, operator, right);
    const value = this.operands.valueFor(column, right);
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
  private isConverted(left: Operand, right: Operand): boolean {
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
    return right.kind === "constant" && this.operands.fits(this.operands.typeOf(left)!, right);
  }

  /** A computed boolean says the same as its comparison with a boolean constant. */
  private compareComputed(raw: Raw, left: Operand, operator: Operator, right: Operand): Node {
    const { expressions } = this.operands;
    if (left.kind === "constant") return this.compareComputed(raw, right, mirrored[operator], left);
    const isEquality = operator === "=" || operator === "<>";
    if (left.kind !== "expression" || left.scalar.type.type !== "boolean" || right.kind !== "constant" || !isEquality)
      return expressions.compare(raw, left, operator, right);
    const value = this.operands.booleanConstant(right);
    if (value === null) return constant(null);
    const node = expressions.isTrue(left);
    return (value === "t") === (operator === "=") ? node : not(node);
  }

  // ── Rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** One value, or several in parentheses. */
  private side(raw: Raw, depth: number, isElement = false): Operand | readonly Operand[] {
    const { kind, body } = tagged(raw);
    if (kind !== "RowExpr")
      return isElement ? this.operands.element(raw, depth + 1) : this.operands.operand(raw, depth + 1);
    this.operands.enter(raw, depth + 1);
    return (body.args ?? []).map((part) => this.operands.operand(part, depth + 2));
  }

  private compareSides(
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

  private inList(raw: Raw, body: A_Expr, depth: number): Node {
    const operator = this.operator(raw, body);
    const list = body.rexpr && "List" in body.rexpr ? (body.rexpr.List.items ?? []) : [];
    const items = list.map((item) => this.side(item, depth, true));
    const subject = this.side(body.lexpr!, depth);
    const single = items.filter((item): item is Operand => !isRow(item));
    if (!isRow(subject) && single.length === items.length) return this.inItems(raw, subject, operator, single);
    const each = items.map((item) => this.compareSides(raw, subject, operator, item));
    return operator === "<>" ? and(each) : or(each);
  }

  /** Postgres makes an array of them, where there are several. */
  private inItems(raw: Raw, subject: Operand, operator: Operator, items: readonly Operand[]): Node {
    if (items.length > 1) {
      this.checkOneKind(raw, subject, items);
      this.checkOneMoment(raw, subject, items);
    }
    const node = this.overItems(raw, subject, operator, items, operator === "<>");
    return items.length > 1 ? this.after(subject, node) : node;
  }

  /** All of them become one type, and a float4 or an integer may then equal what it does not equal alone. */
  private checkOneKind(raw: Raw, subject: Operand, items: readonly Operand[]): void {
    const own = this.operands.knownTypeOf(subject);
    const types = [subject, ...items]
      .map((item) => this.operands.knownTypeOf(item))
      .filter((type) => type !== undefined);
    if (own?.type === "float8" || !types.some((type) => mixesNumbers(type, types[0]!))) return;
    throw this.operands.unsupported(raw, "a list of floats and other numbers", "Give all of them one type.");
  }

  /** Dates and times become one type too: literals are read as it, and a date beyond it fails. */
  private checkOneMoment(raw: Raw, subject: Operand, items: readonly Operand[]): void {
    const own = this.operands.knownTypeOf(subject);
    const types = items.map((item) => this.operands.knownTypeOf(item) ?? own);
    const type = own && types.reduce((a, b) => (a && b ? widestMoment(a, b) : a), own);
    if (!type || (!types.some((other) => other && mixesMoments(type, other)) && type === own)) return;
    const isSame = (item: Operand): boolean =>
      item.kind !== "constant" || (item.type ? this.operands.fits(type, item) : item.text === null || type === own);
    if (!items.every(isSame))
      throw this.operands.unsupported(raw, "a list of dates and times", "Give all of them one type.");
  }

  /** = ANY and <> ALL are IN and NOT IN over an array; LIKE ANY joins what it is with each by OR. */
  private inArray(raw: Raw, body: A_Expr, depth: number): Node {
    const like = likeOf(body);
    const operator = like ? undefined : this.operator(raw, body);
    const all = body.kind === "AEXPR_OP_ALL";
    const subject = this.operands.operand(body.lexpr!, depth + 1);
    const { arrays, expressions } = this.operands;
    if (subject.kind !== "column" && this.operands.typeOf(subject)?.type === "array")
      throw this.operands.refused("where_type", raw, "expected one value to compare with elements, found an array");
    if (!arrays.isWritten(body.rexpr!)) {
      const array = this.operands.operand(body.rexpr!, depth + 1);
      return like
        ? expressions.likeElements(raw, subject, like, array, all)
        : expressions.compareElements(raw, subject, operator!, array, all);
    }
    const items = arrays.elementsOf(body.rexpr!, depth + 1);
    const over = (found: readonly Operand[]): Node =>
      like ? this.likeItems(raw, subject, like, found, all) : this.overItems(raw, subject, operator!, found, all);
    const node = items && items.length > 0 ? over(items) : constant(items && all);
    return this.noted(raw, this.after(subject, node), [subject, ...(items ?? [])]);
  }

  private likeItems(
    raw: Raw,
    subject: Operand,
    { name, negated }: Like,
    items: readonly Operand[],
    all: boolean,
  ): Node {
    this.checkNoneFails(raw, items);
    for (const _ of items) this.operands.enter(raw, 0);
    const each = items.map((item) => this.operands.expressions.like(raw, subject, name, item));
    const signed = negated ? each.map(not) : each;
    return all ? and(signed) : or(signed);
  }

  private noted(raw: Raw, node: Node, operands: readonly Operand[]): Node {
    if (node.kind === "constant" && !constantsOf(operands)) this.decided ??= raw;
    return node;
  }

  /** Also where no element needs the subject, it is evaluated, and that may fail. */
  private after(subject: Operand, answer: Node): Node {
    if (answer.kind !== "constant" || subject.kind !== "expression" || !subject.scalar.mayFail) return answer;
    const never = this.operands.expressions.isNever(subject);
    return answer.value === true ? not(never) : or([never, answer]);
  }

  private overItems(raw: Raw, subject: Operand, operator: Operator, items: readonly Operand[], all: boolean): Node {
    this.checkNoneFails(raw, items);
    const constants = constantsOf(items);
    const isList = operator === (all ? "<>" : "=");
    if (!isList || !constants || subject.kind !== "column" || !this.isKeyed(subject, constants)) {
      for (const _ of items) this.operands.enter(raw, 0);
      const each = items.map((item) => this.compare(raw, subject, operator, item));
      return all ? and(each) : or(each);
    }
    const values = constants.map((item) =>
      this.operands.valueFor(this.operands.comparableColumn(raw, subject, operator, item), item),
    );
    return this.list(subject, values, all);
  }

  /** Postgres evaluates all elements of an array before it compares them, and those of a list in an order of its own. */
  private checkNoneFails(raw: Raw, items: readonly Operand[]): void {
    if (items.some((item) => item.kind === "expression" && item.scalar.mayFail))
      throw this.operands.unsupported(raw, "a list with an element that may fail", "Join comparisons by OR.");
  }

  /** Whether its values can be looked up by their bytes. */
  private isKeyed(subject: Operand & { kind: "column" }, constants: readonly Operand[]): boolean {
    if (!isReadable(subject.column)) return true;
    return subject.column.values.equalInBytes && !constants.some((item) => this.isConverted(subject, item));
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
    const [subject, low, high] = this.bounds(body, depth);
    return this.within(raw, subject, low, high);
  }

  private betweenSymmetric(raw: Raw, body: A_Expr, depth: number): Node {
    const [subject, low, high] = this.bounds(body, depth);
    return or([this.within(raw, subject, low, high), this.within(raw, subject, high, low)]);
  }

  private bounds(body: A_Expr, depth: number): [subject: Operand, low: Operand, high: Operand] {
    const bounds = body.rexpr && "List" in body.rexpr ? (body.rexpr.List.items ?? []) : [];
    const [low, high] = bounds.map((bound) => this.operands.operand(bound, depth + 1));
    return [this.operands.operand(body.lexpr!, depth + 1), low!, high!];
  }

  private within(raw: Raw, subject: Operand, low: Operand, high: Operand): Node {
    return and([this.compare(raw, subject, ">=", low), this.compare(raw, subject, "<=", high)]);
  }

  private notDistinctSides(raw: Raw, body: A_Expr, depth: number): Node {
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
}

function isRow(side: Operand | readonly Operand[]): side is readonly Operand[] {
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
