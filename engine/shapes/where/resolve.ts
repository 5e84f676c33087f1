/**
 * Postgres' parse tree → our normalised tree, against the description of a table. An allow-list: what is not named here
 * is refused with its position. Conditions are here; comparisons.ts and lists.ts say what becomes of those that compare, and operands.ts
 * which columns and constants they do.
 */
import type { A_Expr, BoolExpr, BooleanTest, Node as Raw, NullTest } from "libpg-query";
import { Comparisons } from "./comparisons.ts";
import { Lists } from "./lists.ts";
import { type Node, and, constant, inValues, isTruth, not, or } from "./node.ts";
import { type Operand, Operands, type Scope } from "./operands.ts";
import { packedAt, unpack } from "./packed.ts";
import { isOperand, stringsOf, tagged, unnegated } from "./raw.ts";

/** Throws `where_unsupported`, `where_type`, `where_params` or `unknown_column`, each with its position. */
export function resolve(expression: Raw, scope: Scope, nodes?: Map<unknown, Node>): Node {
  const resolver = new Resolver(scope, nodes);
  const node = resolver.condition(expression, 0);
  resolver.operands.constants.checkParamsUsed();
  resolver.comparisons.checkDecided();
  return node;
}

/** What `resolve` gives, of what another thread has resolved. */
export function resolveVetted(expression: Raw, scope: Scope): Node {
  return new Resolver(scope).condition(expression, 0);
}

class Resolver {
  readonly operands: Operands;
  readonly comparisons: Comparisons;
  private readonly lists: Lists;
  /** What each condition in the tree is, for who wants to know. */
  private readonly nodes: Map<unknown, Node> | undefined;

  constructor(scope: Scope, nodes?: Map<unknown, Node>) {
    this.nodes = nodes;
    this.operands = new Operands(scope, (raw, depth) => this.condition(raw, depth));
    this.comparisons = new Comparisons(this.operands);
    this.lists = new Lists(this.operands, this.comparisons);
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
    const value = this.operands.constants.booleanConstant(operand);
    return constant(value === null ? null : value === "t");
  }

  private nullTest(body: NullTest, depth: number): Node {
    const negated = body.nulltesttype === "IS_NOT_NULL";
    const argument = body.arg!;
    if (!isOperand(argument)) return isTruth(this.condition(argument, depth + 1), null, negated);
    return this.comparisons.nullness(argument, this.operands.operand(argument, depth + 1), negated);
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
        return this.lists.inList(raw, body, depth);
      case "AEXPR_OP_ANY":
      case "AEXPR_OP_ALL":
        return this.lists.inArray(raw, body, depth);
      case "AEXPR_BETWEEN":
        return this.between(raw, body, depth);
      case "AEXPR_NOT_BETWEEN":
        return not(this.between(raw, body, depth));
      case "AEXPR_BETWEEN_SYM":
        return this.betweenSymmetric(raw, body, depth);
      case "AEXPR_NOT_BETWEEN_SYM":
        return not(this.betweenSymmetric(raw, body, depth));
      case "AEXPR_DISTINCT":
        return not(this.comparisons.notDistinctSides(raw, body, depth));
      case "AEXPR_NOT_DISTINCT":
        return this.comparisons.notDistinctSides(raw, body, depth);
      default:
        throw this.operands.unsupported(raw, `the operator ${stringsOf(body.name).join(".")}`);
    }
  }

  private comparison(raw: Raw, body: A_Expr, depth: number): Node {
    const operator = this.comparisons.operator(raw, body);
    if (!body.lexpr || !body.rexpr) throw this.operands.unsupported(raw, "an operator with one side");
    return this.comparisons.compareSides(
      raw,
      this.comparisons.side(body.lexpr, depth),
      operator,
      this.comparisons.side(body.rexpr, depth),
    );
  }

  private between(raw: Raw, body: A_Expr, depth: number): Node {
    const [subject, low, high] = this.bounds(body, depth);
    return this.comparisons.within(raw, subject, low, high);
  }

  private betweenSymmetric(raw: Raw, body: A_Expr, depth: number): Node {
    const [subject, low, high] = this.bounds(body, depth);
    return or([this.comparisons.within(raw, subject, low, high), this.comparisons.within(raw, subject, high, low)]);
  }

  private bounds(body: A_Expr, depth: number): [subject: Operand, low: Operand, high: Operand] {
    const bounds = body.rexpr && "List" in body.rexpr ? (body.rexpr.List.items ?? []) : [];
    const [low, high] = bounds.map((bound) => this.operands.operand(bound, depth + 1));
    return [this.operands.operand(body.lexpr!, depth + 1), low!, high!];
  }
}
