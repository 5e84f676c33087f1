/**
 * Constants: literals, parameters, and what casts make of them. Each has the canonical text of its type; one without a type takes
 * that of what it is compared with.
 */
import assert from "node:assert/strict";
import type { A_Const, Node as Raw, ParamRef } from "libpg-query";
import { WalcastError } from "../../errors.ts";
import { printList } from "./array-literal.ts";
import type { ReadColumn } from "./column.ts";
import { compatible, isWider } from "./conversions.ts";
import { mixesNumbers } from "./functions.ts";
import { numericScale } from "./number.ts";
import type { ConstantOperand, Operands, Scope, Value } from "./operands.ts";
import { paramArray, paramText, type Position } from "./params.ts";
import { locationOf } from "./raw.ts";
import { canonicalText, fitsInteger, type SqlType, sqlTypeNamed } from "./type.ts";

export class Constants {
  private readonly operands: Operands;
  private readonly scope: Scope;
  private readonly paramsUsed = new Set<number>();
  /** As a constant it has lost its sign, which shows only in its text. */
  private hasMinusZero = false;

  constructor(operands: Operands, scope: Scope) {
    this.operands = operands;
    this.scope = scope;
  }

  literal(raw: Raw, body: A_Const): ConstantOperand {
    const common = { kind: "constant", isC: false, raw } as const;
    if (body.isnull) return { ...common, text: null };
    if (body.sval) return { ...common, text: body.sval.sval ?? "" };
    if (body.boolval) return { ...common, text: body.boolval.boolval ? "t" : "f", type: sqlTypeNamed("bool")! };
    if (body.ival) return { ...common, text: String(body.ival.ival ?? 0), type: sqlTypeNamed("int4")! };
    if (body.fval) return { ...common, ...this.decimal(raw, body.fval.fval ?? "0") };
    throw this.operands.unsupported(raw, "a bit string");
  }

  /** Digits alone are the narrowest integer type that holds them; everything else is numeric. */
  private decimal(raw: Raw, text: string): { text: string; type: SqlType; scale?: number } {
    const numeric = sqlTypeNamed("numeric")!;
    const canonical = this.canonical(text, numeric, raw);
    const isInteger = /^[+-]?(\d[\d_]*|0[xob][\da-f_]+)$/i.test(text);
    const type = isInteger
      ? ["int4", "int8"].map((name) => sqlTypeNamed(name)!).find(({ sql }) => fitsInteger(canonical, sql))
      : undefined;
    return type ? { text: canonical, type } : { text: canonical, type: numeric, scale: numericScale(text) };
  }

  parameter(raw: Raw, body: ParamRef): ConstantOperand {
    const [value, number, position] = this.param(raw, body);
    if (!Array.isArray(value)) return { kind: "constant", text: paramText(value, number, position), isC: false, raw };
    const text = printList(paramArray(value, number, position));
    return { kind: "constant", text, isArray: true, isC: false, raw };
  }

  param(raw: Raw, body: ParamRef): [value: unknown, number: number, position: Position] {
    const number = body.number ?? 0;
    const { params } = this.scope;
    if (number < 1 || number > params.length)
      throw this.operands.refused(
        "where_params",
        raw,
        `expected a value for $${number}, found ${params.length} parameters`,
      );
    this.paramsUsed.add(number);
    return [params[number - 1], number, () => this.scope.positionOf(locationOf(raw))];
  }

  checkParamsUsed(): void {
    const extra = this.scope.params.findIndex((_, i) => !this.paramsUsed.has(i + 1));
    if (extra >= 0)
      throw new WalcastError(
        "where_params",
        `read a where: expected as many parameters as it uses, found $${extra + 1} unused`,
      );
  }

  valueFor(column: ReadColumn, operand: ConstantOperand): Value {
    const text = this.textAs(column.sqlType, operand);
    return text === null ? null : Buffer.from(text);
  }

  booleanConstant(operand: ConstantOperand): string | null {
    const type = sqlTypeNamed("bool")!;
    this.operands.checkTypes(operand.raw, type, operand.type);
    return this.textAs(type, operand);
  }

  /** Postgres' rule for two constants: an unknown one takes the other's type, two become text. */
  commonType(raw: Raw, left: ConstantOperand, right: ConstantOperand): SqlType {
    const isMixed = left.type && right.type && mixesNumbers(left.type, right.type);
    const type = isMixed ? sqlTypeNamed("float8")! : (left.type ?? right.type ?? sqlTypeNamed("text")!);
    this.operands.checkTypes(raw, type, left.type);
    this.operands.checkTypes(raw, type, right.type);
    return type;
  }

  /** A literal without a type becomes a constant of this one. */
  typed(operand: ConstantOperand, type: SqlType): ConstantOperand & { readonly type: SqlType } {
    const own = operand.type ? operand : this.castTo(type, operand, operand.raw);
    return { ...own, type: own.type ?? type };
  }

  textAs(type: SqlType, operand: ConstantOperand): string | null {
    if (operand.text === null) return null;
    if (!operand.type || isWider(type, operand.type)) return this.canonicalOf(operand, operand.text, type);
    return operand.text;
  }

  /** Whether it can be written as a constant of this type: a date may lie beyond all timestamps. */
  fits(type: SqlType, { text, type: own }: ConstantOperand): boolean {
    if (text === null || !own) return true;
    return own.type === type.type || (isWider(type, own) && canonicalText(text, type) !== undefined);
  }

  /** A text of a float says which of the two zeros it is. */
  checkZeros(raw: Raw): void {
    if (this.hasMinusZero) throw this.operands.unsupported(raw, "a float as text beside a constant -0");
  }

  noteZero(isMinusZero: boolean): void {
    this.hasMinusZero ||= isMinusZero;
  }

  private canonicalOf({ isArray, raw }: ConstantOperand, text: string, type: SqlType): string {
    if (isArray && type.type !== "array")
      throw this.operands.refused(
        "where_params",
        raw,
        `expected one value of type ${type.sql}, found an array`,
        anyHint,
      );
    return this.canonical(text, type, raw);
  }

  private canonical(text: string, type: SqlType, raw: Raw): string {
    this.operands.enterText(raw, text, type);
    const value = this.located(raw, () => canonicalText(text, type));
    if (value === undefined)
      throw this.operands.refused("where_type", raw, `expected a value of type ${type.sql}, found something else`);
    this.noteZero((type.type === "float4" || type.type === "float8") && value === "0" && text.includes("-"));
    return value;
  }

  /** Adds the place to an error that was raised where only the text was known. */
  private located<T>(raw: Raw, read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof WalcastError)) throw error;
      throw new WalcastError(error.code, error.message, {
        position: this.scope.positionOf(locationOf(raw)),
        hint: error.hint,
        cause: error,
      });
    }
  }

  castTo(type: SqlType, operand: ConstantOperand, raw: Raw): ConstantOperand {
    if (operand.text === null && (!operand.type || compatible(type, operand.type))) return { ...operand, type };
    if (operand.text === null) return this.castConstant(raw, operand, type);
    if (!operand.type) {
      const scale = type.sql === "pg_catalog.numeric" ? { scale: numericScale(operand.text) } : {};
      return { ...operand, text: this.canonicalOf(operand, operand.text, type), type, ...scale };
    }
    const isExact =
      type.type === "number" && type.sql !== "pg_catalog.numeric"
        ? operand.type.type === "number" && fitsInteger(operand.text, type.sql)
        : compatible(type, operand.type);
    if (!isExact) return this.castConstant(raw, operand, type);
    return { ...operand, text: this.textAs(type, operand), type };
  }

  private castConstant(raw: Raw, operand: ConstantOperand, type: SqlType): ConstantOperand {
    const result = this.operands.expressions.cast(raw, operand, type);
    assert(result.kind === "constant", "what reads no column is computed at once");
    return result;
  }
}

const anyHint = "Write = ANY($1) to compare with any of its elements.";
