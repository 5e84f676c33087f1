/**
 * Operands as values: the one type that several have in common, what each is as one of it, and what a computed one comes to. Where
 * it reads no column, that is a constant.
 */
import type { Node as Raw } from "libpg-query";
import { type Cast, castOf, castScalar } from "./casts.ts";
import { mixesMoments, mixesNumbers, typeNamed, widest } from "./functions.ts";
import { EvaluationFailed, textOf } from "./numeric.ts";
import type { ConstantOperand, Operand, Operands } from "./operands.ts";
import { columnScalar, constantOf, constantScalar, isBytes, type Scalar, type Value } from "./scalar.ts";
import { canonicalText, type SqlType } from "./type.ts";

/** Some forms name a part twice; nested, they would grow without bound. */
const sqlLengthMax = 100_000;
/** Of a number that constants give: a few characters can ask for one that takes a second to compute. */
const digitsMax = 5_000;

export class Scalars {
  /** Whether anything was found that may fail for a row. */
  mayFail = false;
  private readonly operands: Operands;

  constructor(operands: Operands) {
    this.operands = operands;
  }

  /** Arguments that give one type, which literals take from the others. */
  alike(raw: Raw, args: readonly Raw[], depth: number): { type: SqlType; scalars: readonly Scalar[] } {
    const operands = args.map((arg) => this.operands.operand(arg, depth + 1));
    const types = operands.map((operand) => this.operands.typeOf(operand)).filter((type) => type !== undefined);
    const type = types.reduce((a, b) => this.commonOf(raw, a, b), types[0] ?? typeNamed("text"));
    return { type, scalars: operands.map((operand) => this.scalarOf(operand, type)) };
  }

  commonOf(raw: Raw, a: SqlType, b: SqlType): SqlType {
    if (mixesNumbers(a, b) && (a === float8 || b === float8)) return float8;
    this.operands.checkTypes(raw, a, b);
    if (a.type !== b.type) throw this.operands.unsupported(raw, `mixing ${a.sql} and ${b.sql}`);
    if (a.type === "number") return widest(a, b);
    return a.type === "text" ? typeNamed("text") : a;
  }

  /** A literal is read as what it is compared with; two of them are text. */
  comparedType(raw: Raw, left: Operand, right: Operand): SqlType {
    const [a, b] = [this.operands.typeOf(left), this.operands.typeOf(right)];
    if (a && b && mixesMoments(a, b)) return a;
    if (a && b) return mixesNumbers(a, b) ? float8 : this.commonOf(raw, a, b);
    return a ?? b ?? typeNamed("text");
  }

  scalar(operand: Operand, type: SqlType): Scalar {
    if (operand.kind === "constant" && type === float8)
      return this.ownScalar(this.operands.constants.castTo(type, operand, operand.raw), type);
    const own = this.ownScalar(operand, type);
    return type === float8 && own.type !== type ? this.converted(own, type, castOf(own.type, type)!) : own;
  }

  private converted(scalar: Scalar, type: SqlType, cast: Cast): Scalar {
    const result = castScalar(scalar, type, cast);
    this.mayFail ||= result.mayFail;
    return result;
  }

  ownScalar(operand: Operand, type: SqlType): Scalar {
    if (operand.kind === "expression") return operand.scalar;
    if (operand.kind === "column") return columnScalar(this.operands.readable(operand), operand.isC);
    const { text, type: own, isC, scale } = this.operands.constants.typed(operand, type);
    return constantScalar(text, own, isC, scale);
  }

  /** A constant becomes one of the common type: what is left of the form in the end may be that constant. */
  private scalarOf(operand: Operand, type: SqlType): Scalar {
    if (operand.kind !== "constant" || type.type !== "number") return this.scalar(operand, type);
    return this.scalar({ ...this.operands.constants.typed(operand, type), type }, type);
  }

  /** What reads no column is computed now; where that fails, Postgres would refuse every query with it. */
  settled(raw: Raw, scalar: Scalar): Operand {
    if (scalar.sql.length > sqlLengthMax)
      throw this.operands.refused("where_unsupported", raw, `expected at most ${sqlLengthMax} characters of SQL`);
    if (scalar.columns.length === 0) return this.folded(raw, scalar);
    this.mayFail ||= scalar.mayFail;
    return { kind: "expression", scalar, raw };
  }

  private folded(raw: Raw, scalar: Scalar): ConstantOperand {
    const { type, collation } = scalar;
    const common = { kind: "constant", type, isC: collation?.isExplicit === true, raw } as const;
    const value = this.evaluated(raw, scalar) ?? null;
    if (value === null || isBytes(value)) return { ...common, text: value?.toString() ?? null };
    this.operands.constants.noteZero(Object.is(value, -0));
    if (typeof value === "number") return { ...common, text: canonicalText(String(value), type)! };
    const text = canonicalText(textOf(value), type)!;
    if (text.length > digitsMax)
      throw this.operands.refused("where_unsupported", raw, `expected a number of at most ${digitsMax} digits`);
    return typeof value === "bigint" ? { ...common, text } : { ...common, text, scale: value.scale };
  }

  private evaluated(raw: Raw, scalar: Scalar): Value | undefined {
    try {
      return constantOf(scalar);
    } catch (error) {
      if (!(error instanceof EvaluationFailed)) throw error;
      throw this.operands.refused("where_failed", raw, error.message);
    }
  }
}

export const numeric = typeNamed("numeric");
export const float8 = typeNamed("float8");
