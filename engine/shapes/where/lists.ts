/** One operand beside several: IN, and each comparison with ANY or ALL of an array that is written out. */
import type { A_Expr, Node as Raw } from "libpg-query";
import { isReadable, type Operator } from "./column.ts";
import { type Comparisons, isRow } from "./comparisons.ts";
import { constantsOf } from "./fold.ts";
import { mixesMoments, mixesNumbers, widestMoment } from "./functions.ts";
import { and, constant, inValues, type Node, not, or } from "./node.ts";
import type { Operand, Operands, Value } from "./operands.ts";
import { type Like, likeOf } from "./raw.ts";

export class Lists {
  private readonly operands: Operands;
  private readonly comparisons: Comparisons;

  constructor(operands: Operands, comparisons: Comparisons) {
    this.operands = operands;
    this.comparisons = comparisons;
  }

  inList(raw: Raw, body: A_Expr, depth: number): Node {
    const operator = this.comparisons.operator(raw, body);
    const list = body.rexpr && "List" in body.rexpr ? (body.rexpr.List.items ?? []) : [];
    const items = list.map((item) => this.comparisons.side(item, depth, true));
    const subject = this.comparisons.side(body.lexpr!, depth);
    const single = items.filter((item): item is Operand => !isRow(item));
    if (!isRow(subject) && single.length === items.length) return this.inItems(raw, subject, operator, single);
    const each = items.map((item) => this.comparisons.compareSides(raw, subject, operator, item));
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
      item.kind !== "constant" ||
      (item.type ? this.operands.constants.fits(type, item) : item.text === null || type === own);
    if (!items.every(isSame))
      throw this.operands.unsupported(raw, "a list of dates and times", "Give all of them one type.");
  }

  /** = ANY and <> ALL are IN and NOT IN over an array; LIKE ANY joins what it is with each by OR. */
  inArray(raw: Raw, body: A_Expr, depth: number): Node {
    const like = likeOf(body);
    const operator = like ? undefined : this.comparisons.operator(raw, body);
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
    return this.comparisons.noted(raw, this.after(subject, node), [subject, ...(items ?? [])]);
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
      const each = items.map((item) => this.comparisons.compare(raw, subject, operator, item));
      return all ? and(each) : or(each);
    }
    const values = constants.map((item) =>
      this.operands.constants.valueFor(this.operands.comparableColumn(raw, subject, operator, item), item),
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
    return subject.column.values.equalInBytes && !constants.some((item) => this.comparisons.isConverted(subject, item));
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
}
