/**
 * Operands that have to be computed: operators and functions by the list in functions.ts, COALESCE, NULLIF, GREATEST and
 * LEAST, and conditions where a value stands. What needs no row is computed at once and stands as a constant from then
 * on, so `id = 1 + 1` is the same shape as `id = 2`.
 */
import assert from "node:assert/strict";
import type { A_Expr, CoalesceExpr, FuncCall, MinMaxExpr, Node as Raw } from "libpg-query";
import type { Tuple } from "../../changes/tuple.ts";
import { castOf, castScalar } from "./casts.ts";
import type { WalcastError } from "../../errors.ts";
import { checkCollation, checkDropped, checkOrder, checkPattern } from "./collation.ts";
import { compile } from "./compile.ts";
import {
  comparison,
  elementsCompared,
  elementsTested,
  firstPresent,
  furthest,
  type Holds,
  joined,
  textOfTruth,
  truthOf,
  unlessEqual,
} from "./forms.ts";
import { applied, isKnown, mixesMoments, type Operation, operationFor, typeNamed } from "./functions.ts";
import type { Operator } from "./column.ts";
import { columnsRead, constant, mirrored, type Node, test } from "./node.ts";
import type { ExpressionOperand, Operand, Operands } from "./operands.ts";
import { packedAt } from "./packed.ts";
import { prefixOf } from "./prefix.ts";
import { describe, isComparison, type Like, stringsOf, tagged } from "./raw.ts";
import { asCompared, constantOf, constantScalar, explicitC, isTrueText, type Scalar } from "./scalar.ts";
import { float8, numeric, Scalars } from "./scalars.ts";
import type { SqlType } from "./type.ts";

export class Expressions {
  private readonly operands: Operands;
  private readonly scalars: Scalars;
  private readonly condition: (raw: Raw, depth: number) => Node;

  constructor(operands: Operands, condition: (raw: Raw, depth: number) => Node) {
    this.operands = operands;
    this.scalars = new Scalars(operands);
    this.condition = condition;
  }

  /** Whether anything was found that may fail for a row. */
  get mayFail(): boolean {
    return this.scalars.mayFail;
  }

  operand(raw: Raw, depth: number): Operand {
    if (packedAt(raw)) return this.truth(raw, depth);
    const { kind, body } = tagged(raw);
    switch (kind) {
      case "A_Expr":
        if (body.kind === "AEXPR_NULLIF") return this.nullIf(raw, body, depth);
        return isComparison(raw) ? this.truth(raw, depth) : this.operator(raw, body, depth);
      case "BoolExpr":
      case "NullTest":
      case "BooleanTest":
        return this.truth(raw, depth);
      case "FuncCall":
        return this.call(raw, body, depth);
      case "CoalesceExpr":
        return this.coalesce(raw, body, depth);
      case "MinMaxExpr":
        return this.extreme(raw, body, depth);
      case "A_ArrayExpr":
        return this.operands.arrays.constant(raw, depth);
      default:
        throw this.operands.unsupported(raw, describe(raw));
    }
  }

  /** A comparison with at least one side that is computed. */
  compare(raw: Raw, left: Operand, operator: Operator, right: Operand): Node {
    const type = this.scalars.comparedType(raw, left, right);
    const [a, b] = [asCompared(this.scalars.scalar(left, type)), asCompared(this.scalars.scalar(right, type))];
    if (isNullConstant(a) || isNullConstant(b)) return constant(null);
    checkOrder(this.operands, raw, type, operator, [a, b]);
    return a.sql <= b.sql ? comparison(type, a, operator, b) : comparison(type, b, mirrored[operator], a);
  }

  /** = ANY and its like, over an array that a row has. */
  compareElements(raw: Raw, left: Operand, operator: Operator, right: Operand, all: boolean): Node {
    const array = this.operands.typeOf(right);
    if (!array?.element) throw this.operands.refused("where_type", raw, `expected an array, found type ${array?.sql}`);
    const own = this.operands.typeOf(left);
    const type =
      own && !mixesMoments(own, array.element) ? this.scalars.commonOf(raw, own, array.element) : array.element;
    const [value, elements] = [this.scalars.scalar(left, array.element), this.scalars.scalar(right, array)];
    checkOrder(this.operands, raw, type, operator, [value, elements]);
    return elementsCompared(type, value, operator, elements, all);
  }

  /** LIKE or ILIKE with one pattern. */
  like(raw: Raw, left: Operand, name: Like["name"], pattern: Operand): Node {
    const result = this.applyTo(raw, "operator", name, [left, pattern]);
    if (result.kind === "expression") return this.isTrue(result);
    assert(result.kind === "constant", "what is computed is no column");
    return constant(result.text === null ? null : result.text === "t");
  }

  /** The same with each element of an array that a row has. */
  likeElements(raw: Raw, left: Operand, { name, negated }: Like, right: Operand, all: boolean): Node {
    const array = this.operands.typeOf(right);
    const operation = array?.element && operationFor("operator", name, [this.operands.typeOf(left), array.element]);
    if (!operation) throw this.noOperation(raw, name, [this.operands.typeOf(left), array]);
    const [value, elements] = [this.scalars.scalar(left, typeNamed("text")), this.scalars.scalar(right, array)];
    checkCollation(this.operands, raw, operation, [value, elements]);
    this.scalars.mayFail = true;
    const holds: Holds = (text, pattern) => isTrueText(operation.evaluate(text, pattern)!) !== negated;
    return elementsTested(value, elements, all, holds, negated ? [`!${name}`, name] : [name, `!${name}`]);
  }

  inC({ scalar, raw }: ExpressionOperand): ExpressionOperand {
    return {
      kind: "expression",
      scalar: { ...scalar, sql: `(${scalar.sql} COLLATE pg_catalog."C")`, collation: explicitC },
      raw,
    };
  }

  isNull({ scalar }: ExpressionOperand): Node {
    const { columns, mayFail, evaluate, sql } = scalar;
    return test({ columns, mayFail, answer: (row) => evaluate(row) === null }, `${sql} IS NULL`, `${sql} IS NOT NULL`);
  }

  /** False for every row for which the operand can be evaluated. */
  isNever({ scalar: { columns, mayFail, evaluate, sql } }: ExpressionOperand): Node {
    const answer = (row: Tuple): boolean => {
      evaluate(row);
      return false;
    };
    return test({ columns, mayFail, answer }, `(${sql} IS NULL) IS NULL`, `(${sql} IS NULL) IS NOT NULL`);
  }

  /** A computed boolean where a condition stands. */
  isTrue({ scalar, raw }: ExpressionOperand): Node {
    const { columns, mayFail, evaluate, prefix, sql, type } = scalar;
    if (type.type !== "boolean")
      throw this.operands.refused("where_type", raw, `expected a boolean, found type ${type.sql}`);
    const answer = (row: Tuple): boolean | null => truthOf(evaluate(row));
    return test({ columns, mayFail, answer, prefix }, sql, `NOT ${sql}`);
  }

  // ── Operators and functions ────────────────────────────────────────────────────────────────────────────────────────

  private operator(raw: Raw, body: A_Expr, depth: number): Operand {
    const name = this.nameOf(raw, "operator", body.name);
    const args = [body.lexpr, body.rexpr].filter((arg) => arg !== undefined);
    return this.apply(raw, "operator", name, args, depth);
  }

  private call(raw: Raw, body: FuncCall, depth: number): Operand {
    const name = this.nameOf(raw, "function", body.funcname);
    const { funcname: _, args = [], location: __, funcformat, ...rest } = body;
    if (Object.keys(rest).length > 0 || funcformat !== "COERCE_EXPLICIT_CALL" || args.some(isNamed))
      throw this.operands.unsupported(raw, `${name} in this form`);
    return this.apply(raw, "function", name, args, depth);
  }

  private nameOf(raw: Raw, kind: Operation["kind"], path: readonly Raw[] | undefined): string {
    const names = stringsOf(path);
    const name = names.at(-1)!;
    if ((names.length === 1 || (names.length === 2 && names[0] === "pg_catalog")) && isKnown(kind, name)) return name;
    throw this.operands.unsupported(raw, `the ${kind} ${names.join(".")}`);
  }

  private apply(raw: Raw, kind: Operation["kind"], name: string, args: readonly Raw[], depth: number): Operand {
    const operands = args.map((arg) => this.operands.operand(arg, depth + 1));
    return this.applyTo(raw, kind, name, operands);
  }

  private applyTo(raw: Raw, kind: Operation["kind"], name: string, operands: readonly Operand[]): Operand {
    const types = operands.map((operand) => this.operands.typeOf(operand));
    const operation = operationFor(kind, name, types);
    if (!operation) throw this.noOperation(raw, name, types);
    const given = operands.map((operand, i) => this.scalars.scalar(operand, typeNamed(operation.args[i]!)));
    const scalars = operation.result === "bool" ? given.map(asCompared) : given;
    checkCollation(this.operands, raw, operation, scalars);
    if (name.startsWith("~~")) checkPattern(this.operands, raw, scalars[1]!);
    if (scalars.some(isNullConstant)) {
      checkDropped(this.operands, raw, typeNamed(operation.result), scalars);
      return this.scalars.settled(raw, constantScalar(null, typeNamed(operation.result), false));
    }
    return this.scalars.settled(raw, { ...applied(operation, scalars), prefix: prefixOf(name, operands, scalars) });
  }

  /** CAST of what is no literal. */
  cast(raw: Raw, operand: Operand, to: SqlType): Operand {
    const from = this.operands.typeOf(operand)!;
    // A column stays one that the index knows.
    if (operand.kind === "column" && (from === to || (from.type === "text" && to.type === "text"))) return operand;
    const cast = castOf(from, to);
    if (!cast) throw this.operands.unsupported(raw, `a cast from ${from.sql} to ${to.sql}`);
    if (to.type === "text" && (from.type === "float4" || from.type === "float8"))
      this.operands.constants.checkZeros(raw);
    return this.scalars.settled(raw, castScalar(this.scalars.ownScalar(operand, from), to, cast));
  }

  private noOperation(raw: Raw, name: string, types: readonly (SqlType | undefined)[]): WalcastError {
    const found = types.map((type) => type?.sql ?? "a literal of unknown type").join(" and ");
    const array = types.find((type) => type?.element);
    const hint = array ? `Both have to be of one type: '{…}'::${array.sql}.` : "Give literals a type: '1'::int4.";
    return this.operands.unsupported(raw, `${name} of ${found || "nothing"}`, hint);
  }

  private coalesce(raw: Raw, body: CoalesceExpr, depth: number): Operand {
    const given = this.scalars.alike(raw, body.args ?? [], depth);
    const rest = given.scalars.filter((scalar) => !isNullConstant(scalar));
    const first = rest.findIndex(({ columns }) => columns.length === 0);
    const scalars = first < 0 ? rest : rest.slice(0, first + 1);
    checkDropped(
      this.operands,
      raw,
      given.type,
      given.scalars.filter((scalar) => !scalars.includes(scalar)),
    );
    if (scalars.length === 0) return this.scalars.settled(raw, constantScalar(null, given.type, false));
    if (scalars.length === 1 && scalars[0]!.type === given.type) return this.scalars.settled(raw, scalars[0]!);
    const named = scalars.length === 1 ? given.scalars : scalars;
    return this.scalars.settled(raw, joined(given.type, named, "COALESCE", firstPresent(scalars)));
  }

  private extreme(raw: Raw, body: MinMaxExpr, depth: number): Operand {
    const { type, scalars } = this.scalars.alike(raw, body.args ?? [], depth);
    checkOrder(this.operands, raw, type, "<", scalars);
    const [name, sign] = body.op === "IS_GREATEST" ? (["GREATEST", 1] as const) : (["LEAST", -1] as const);
    return this.scalars.settled(raw, joined(type, scalars, name, furthest(type, scalars, sign)));
  }

  /** Written as CASE, in which the operator has a name that no search_path changes. */
  private nullIf(raw: Raw, body: A_Expr, depth: number): Operand {
    const [left, right] = [body.lexpr!, body.rexpr!].map((side) => this.operands.operand(side, depth + 1));
    const type = this.scalars.comparedType(raw, left!, right!);
    const [a, b] = [this.scalars.scalar(left!, type), this.scalars.scalar(right!, type)];
    if (isNullConstant(a) || isNullConstant(b)) {
      checkDropped(this.operands, raw, type, [b]);
      return this.scalars.settled(raw, a);
    }
    checkOrder(this.operands, raw, type, "=", [a, b]);
    // There is an = for any two types of integers. Beside a numeric, both sides become one.
    const isNumeric = type === numeric && a.type !== numeric;
    // A float4 is compared as a float8, and stays what it is.
    const own = type === float8 ? this.scalars.ownScalar(left!, type) : a;
    const kept = own.type.type === "float4" ? own : a;
    const both = joined(isNumeric ? type : kept.type, [a, b], "", unlessEqual(type, a, b));
    // CASE goes by the collation of what it gives, NULLIF by both.
    const collate = both.collation?.isC && both.collation !== kept.collation ? ' COLLATE pg_catalog."C"' : "";
    const sql = `CASE WHEN ${a.sql} OPERATOR(pg_catalog.=) ${b.sql} THEN NULL ELSE ${kept.sql}${isNumeric ? `::${type.sql}` : ""} END${collate}`;
    return this.scalars.settled(raw, { ...both, sql: `(${sql})` });
  }

  /** A condition where a value stands. */
  private truth(raw: Raw, depth: number): Operand {
    const node = this.condition(raw, depth);
    const answer = compile(node);
    return this.scalars.settled(raw, {
      type: typeNamed("bool"),
      sql: `(${node.sql})`,
      columns: columnsRead(node),
      mayFail: node.mayFail === true,
      collation: undefined,
      evaluate: (row) => textOfTruth(answer(row)),
    });
  }
}

function isNullConstant(scalar: Scalar): boolean {
  return constantOf(scalar) === null;
}

function isNamed(argument: Raw): boolean {
  return tagged(argument).kind === "NamedArgExpr";
}
