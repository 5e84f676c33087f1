/** Arrays in = ANY and its like: written out, as a literal, or as a parameter. Each is the operands that it has. */
import type { Node as Raw, TypeCast } from "libpg-query";
import { parseArrayLiteral } from "./array-literal.ts";
import { widest } from "./functions.ts";
import { type ConstantOperand, type Operand, type Operands, what } from "./operands.ts";
import { paramArray } from "./params.ts";
import { describe, tagged } from "./raw.ts";
import { type SqlType, sqlTypeNamed } from "./type.ts";

export class Arrays {
  private readonly operands: Operands;

  constructor(operands: Operands) {
    this.operands = operands;
  }

  /** The elements of an array, or null where the array itself is NULL. */
  elementsOf(raw: Raw, depth: number): readonly Operand[] | null {
    const { kind, body } = tagged(raw);
    if (kind === "TypeCast" && body.typeName?.arrayBounds?.length === 1) return this.castArray(raw, body, depth);
    if (kind === "A_ArrayExpr") return this.arrayExpression(body.elements ?? [], depth);
    if (kind === "ParamRef") return this.elements(raw, paramArray(...this.operands.param(raw, body)));
    if (kind === "A_Const" && (body.sval || body.isnull))
      return this.elements(raw, body.sval ? (body.sval.sval ?? "") : null);
    throw this.operands.unsupported(
      raw,
      `${describe(raw)} as an array`,
      "Pass the array as a parameter or literal: a = ANY($1).",
    );
  }

  private castArray(raw: Raw, body: TypeCast, depth: number): readonly Operand[] | null {
    const type = this.operands.typeNamed(raw, body.typeName);
    const argument = tagged(body.arg!);
    const elements =
      argument.kind === "A_ArrayExpr"
        ? (argument.body.elements ?? []).map((element) => this.operands.operand(element, depth + 1))
        : this.elementsOf(body.arg!, depth + 1);
    return elements?.map((element) => this.castElement(type, element, raw)) ?? null;
  }

  private castElement(type: SqlType, element: Operand, raw: Raw): ConstantOperand {
    if (element.kind !== "constant") throw this.operands.unsupported(raw, `a cast of ${what(element)}`);
    return this.operands.castTo(type, element, raw);
  }

  /** Literals alone make an array of text; beside a typed element they take its type. */
  private arrayExpression(raws: readonly Raw[], depth: number): readonly Operand[] {
    const elements = raws.map((element) => this.operands.operand(element, depth + 1));
    const types = elements.map((element) => this.operands.typeOf(element)).filter((type) => type !== undefined);
    const [first = sqlTypeNamed("text")!] = types;
    const other = types.find((type) => type.type !== first.type || type.oid !== first.oid);
    if (other)
      throw this.operands.refused(
        "where_type",
        raws[0]!,
        `expected elements of one type, found ${first.sql} and ${other.sql}`,
      );
    const type = first.type === "number" ? types.reduce(widest) : first;
    return elements.map((element) =>
      element.kind === "constant" && !element.type ? this.operands.castTo(type, element, element.raw) : element,
    );
  }

  private elements(raw: Raw, array: readonly (string | null)[] | string | null): readonly ConstantOperand[] | null {
    const texts = typeof array === "string" ? parseArrayLiteral(array) : array;
    if (texts === undefined)
      throw this.operands.refused("where_type", raw, "expected an array literal of one dimension, like '{1,2}'");
    return texts?.map((text) => this.element(raw, text)) ?? null;
  }

  private element(raw: Raw, text: string | null): ConstantOperand {
    this.operands.enter(raw, 0);
    return { kind: "constant", text, isC: false, raw };
  }
}
