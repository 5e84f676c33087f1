/**
 * Arrays that are written out, as a literal, or as a parameter. In = ANY and its like each is the operands that it has;
 * elsewhere it is a constant.
 */
import type { Node as Raw, TypeCast } from "libpg-query";
import { parseArray, printList } from "./array-literal.ts";
import { widest } from "./functions.ts";
import type { ConstantOperand, Operand, Operands } from "./operands.ts";
import { paramElements } from "./params.ts";
import { describe, tagged } from "./raw.ts";
import { arrayOf, type SqlType, sqlTypeNamed } from "./type.ts";

export class Arrays {
  private readonly operands: Operands;

  constructor(operands: Operands) {
    this.operands = operands;
  }

  /** Whether its elements can be had before there is a row. */
  isWritten(raw: Raw): boolean {
    const { kind, body } = tagged(raw);
    if (kind === "TypeCast") return body.typeName?.arrayBounds !== undefined && this.isWritten(body.arg!);
    return ["A_ArrayExpr", "ParamRef", "A_Const"].includes(kind);
  }

  /** ARRAY[…], where it is not the right side of = ANY. */
  constant(raw: Raw, depth: number): ConstantOperand {
    const elements = this.elementsOf(raw, depth) ?? [];
    if (!elements.every((element) => element.kind === "constant"))
      throw this.operands.unsupported(raw, "an array of something else than constants");
    const type = this.typeOf(raw, elements);
    const text = printList(elements.map((element) => element.text));
    this.operands.enterText(raw, text, type);
    return { kind: "constant", text, type, isC: elements.some(({ isC }) => isC), raw };
  }

  private typeOf(raw: Raw, elements: readonly ConstantOperand[]): SqlType {
    const { kind, body } = tagged(raw);
    if (kind === "TypeCast") return this.operands.typeNamed(raw, body.typeName);
    const types = elements.map(({ type }) => type).filter((type) => type !== undefined);
    if (types.length === 0)
      throw this.operands.refused("where_type", raw, "expected an element, found none", "Write ARRAY[]::int4[].");
    const type = types.reduce(commonElement);
    const found = arrayOf(type);
    if (!found) throw this.operands.unsupported(raw, `an array of ${type.sql}`);
    return found;
  }

  /** The elements of an array, or null where the array itself is NULL. */
  elementsOf(raw: Raw, depth: number): readonly Operand[] | null {
    const { kind, body } = tagged(raw);
    if (kind === "TypeCast" && body.typeName?.arrayBounds) return this.castArray(raw, body, depth);
    if (kind === "A_ArrayExpr") return this.arrayExpression(body.elements ?? [], depth);
    if (kind === "ParamRef") return this.elements(raw, paramElements(...this.operands.constants.param(raw, body)));
    if (kind === "A_Const" && (body.sval || body.isnull))
      return this.elements(raw, body.sval ? (body.sval.sval ?? "") : null);
    throw this.operands.unsupported(
      raw,
      `${describe(raw)} as an array`,
      "Pass the array as a parameter or literal: a = ANY($1).",
    );
  }

  private castArray(raw: Raw, body: TypeCast, depth: number): readonly Operand[] | null {
    const { arrayBounds: _, ...typeName } = body.typeName ?? {};
    const type = this.operands.typeNamed(raw, typeName);
    const argument = tagged(body.arg!);
    const elements =
      argument.kind === "A_ArrayExpr"
        ? (argument.body.elements ?? []).map((element) => this.operands.element(element, depth + 1))
        : this.elementsOf(body.arg!, depth + 1);
    return elements?.map((element) => this.castElement(type, element, raw)) ?? null;
  }

  private castElement(type: SqlType, element: Operand, raw: Raw): ConstantOperand {
    if (element.kind !== "constant")
      throw this.operands.unsupported(raw, "a cast of an array of something else than constants");
    return this.operands.constants.castTo(type, element, raw);
  }

  /** Literals alone make an array of text; beside a typed element they take its type. */
  private arrayExpression(raws: readonly Raw[], depth: number): readonly Operand[] {
    const elements = raws.map((element) => this.operands.element(element, depth + 1));
    const types = elements.map((element) => this.operands.typeOf(element)).filter((type) => type !== undefined);
    const [first = sqlTypeNamed("text")!] = types;
    const other = types.find((type) => type.type !== first.type || type.oid !== first.oid);
    if (other)
      throw this.operands.refused(
        "where_type",
        raws[0]!,
        `expected elements of one type, found ${first.sql} and ${other.sql}`,
      );
    const type = types.reduce(commonElement, first);
    return elements.map((element) =>
      element.kind === "constant" && !element.type
        ? this.operands.constants.castTo(type, element, element.raw)
        : element,
    );
  }

  private elements(raw: Raw, array: readonly (string | null)[] | string | null): readonly ConstantOperand[] | null {
    const texts = typeof array === "string" ? elementsIn(array) : array;
    if (texts === undefined) throw this.operands.refused("where_type", raw, "expected an array literal, like '{1,2}'");
    return texts?.map((text) => this.element(raw, text)) ?? null;
  }

  private element(raw: Raw, text: string | null): ConstantOperand {
    this.operands.enterElement(raw);
    return { kind: "constant", text, isC: false, raw };
  }
}

/** Whatever the dimensions. */
function elementsIn(text: string): readonly (string | null)[] | undefined {
  return parseArray(Buffer.from(text))?.elements.map((element) => element?.toString() ?? null);
}

function commonElement(a: SqlType, b: SqlType): SqlType {
  if (a.type === "number") return widest(a, b);
  return a.type === "text" && a !== b ? sqlTypeNamed("text")! : a;
}
