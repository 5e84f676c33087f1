/**
 * The two sides of a comparison: columns of the table, and constants with the type that Postgres would give them. An
 * unknown literal takes the type of what it is compared with; where Postgres has no operator for two types we refuse as
 * it does, and where it converts in a way that we do not follow exactly we refuse too.
 */
import assert from "node:assert/strict";
import type {
  A_Const,
  CollateClause,
  ColumnRef,
  Node as Raw,
  ParamRef,
  TypeCast,
  TypeName as RawTypeName,
} from "libpg-query";
import type { Table } from "../../changes/table.ts";
import { WalcastError } from "../../errors.ts";
import { parseTableName } from "../name.ts";
import { printList } from "./array-literal.ts";
import { Arrays } from "./arrays.ts";
import { Expressions } from "./expressions.ts";
import { mixesMoments, mixesNumbers } from "./functions.ts";
import { type AnyColumn, type Operator, type ReadColumn, anyColumn, isReadable, sameCollation } from "./column.ts";
import type { Node } from "./node.ts";
import { numericScale } from "./number.ts";
import { paramArray, paramText, type Position } from "./params.ts";
import { locationOf, stringsOf, tagged } from "./raw.ts";
import { columnScalar, type Scalar } from "./scalar.ts";
import { Size } from "./size.ts";
import { type SqlType, type TypeName, canonicalText, fitsInteger, sqlTypeNamed, valuesOf } from "./type.ts";

export interface Scope {
  readonly table: Table;
  readonly params: readonly unknown[];
  /** Columns that may be named at all; the others do not exist, as far as an error tells. */
  readonly isVisible: (position: number) => boolean;
  readonly positionOf: (location: number | undefined) => number | undefined;
}

export type ColumnOperand = {
  readonly kind: "column";
  readonly column: AnyColumn;
  readonly isC: boolean;
  readonly raw: Raw;
};
/** Without a type: a literal or parameter that takes its type from what it is compared with. Typed text is canonical. */
export type ConstantOperand = {
  readonly kind: "constant";
  readonly text: string | null;
  readonly type?: SqlType;
  /** Of a numeric: how many digits are shown after the point, where that is more than matter. */
  readonly scale?: number;
  /** A parameter whose value is an array: no other type takes its text. */
  readonly isArray?: boolean;
  readonly isC: boolean;
  readonly raw: Raw;
};
/** Computed from a row. */
export type ExpressionOperand = {
  readonly kind: "expression";
  readonly scalar: Scalar;
  /** Where it is nothing but a column. */
  readonly column?: AnyColumn;
  readonly raw: Raw;
};
export type Operand = ColumnOperand | ConstantOperand | ExpressionOperand;
/** A constant as a column's rows would hold it. */
export type Value = Buffer | null;

export class Operands {
  readonly expressions: Expressions;
  readonly arrays: Arrays;
  private readonly scope: Scope;
  private readonly columns: ReadonlyMap<string, AnyColumn>;
  private readonly paramsUsed = new Set<number>();
  private readonly size = new Size();
  /** As a constant it has lost its sign, which shows only in its text. */
  private hasMinusZero = false;

  /** `condition` resolves a condition that stands where a value does. */
  constructor(scope: Scope, condition: (raw: Raw, depth: number) => Node) {
    this.scope = scope;
    this.expressions = new Expressions(this, condition);
    this.arrays = new Arrays(this);
    this.columns = columnsByName(scope.table);
  }

  /** Counts a node of the tree, and how deep it lies. */
  enter(raw: Raw, depth: number): void {
    this.checkSize(raw, this.size.addNode(depth));
  }

  /** The same for an element of a list. Where the list becomes comparisons, each of them is a node. */
  enterElement(raw: Raw): void {
    this.checkSize(raw, this.size.addElement());
  }

  /** A constant. */
  enterText(raw: Raw, { length }: string, { type }: SqlType): void {
    this.checkSize(raw, this.size.addText(length, type === "array" || type === "jsonb"));
  }

  private checkSize(raw: Raw, expected: string | undefined): void {
    if (expected) throw this.refused("where_unsupported", raw, `expected ${expected}`);
  }

  operand(raw: Raw, depth: number): Operand {
    this.enter(raw, depth);
    return this.entered(raw, depth);
  }

  /** Of a list: a constant as it stands counts as an element alone. */
  element(raw: Raw, depth: number): Operand {
    if (!isWritten(raw)) return this.operand(raw, depth);
    this.enterElement(raw);
    return this.entered(raw, depth);
  }

  private entered(raw: Raw, depth: number): Operand {
    const { kind, body } = tagged(raw);
    switch (kind) {
      case "ColumnRef":
        return columnOperand(this.column(raw, body), raw);
      case "A_Const":
        return this.literal(raw, body);
      case "ParamRef":
        return this.parameter(raw, body);
      case "TypeCast":
        return this.cast(raw, body, depth);
      case "CollateClause":
        return this.collated(raw, body, depth);
      default:
        // It is counted there, part by part.
        return this.expressions.operand(raw, depth);
    }
  }

  /** The column of a comparison with a constant, once it is sure that this compares as in Postgres. */
  comparableColumn(raw: Raw, left: ColumnOperand, operator: Operator, right: ConstantOperand): ReadColumn {
    const column = this.readable(left);
    this.checkOperator(raw, column, operator, left.isC || right.isC);
    this.checkTypes(raw, column.sqlType, right.type);
    return column;
  }

  comparableColumns(
    raw: Raw,
    left: ColumnOperand,
    operator: Operator,
    right: ColumnOperand,
  ): [ReadColumn, Operator, ReadColumn] {
    const [a, b] = [this.readable(left), this.readable(right)];
    const isC = left.isC || right.isC;
    this.checkTypes(raw, a.sqlType, b.sqlType);
    if (a.sqlType.type !== b.sqlType.type && !mixesMoments(a.sqlType, b.sqlType))
      throw this.unsupported(raw, `comparing types ${a.column.type} and ${b.column.type}`);
    if (!isC && a.values.collatable && !sameCollation(a, b))
      throw this.refused("where_type", raw, "expected both columns in one collation", cHint);
    this.checkOperator(raw, a, operator, isC);
    this.checkOperator(raw, b, operator, isC);
    return [a, operator, b];
  }

  valueFor(column: ReadColumn, operand: ConstantOperand): Value {
    const text = this.textAs(column.sqlType, operand);
    return text === null ? null : Buffer.from(text);
  }

  /** undefined for a literal that takes its type from where it stands. */
  typeOf(operand: Operand): SqlType | undefined {
    if (operand.kind === "column") return this.readable(operand).sqlType;
    return operand.kind === "constant" ? operand.type : operand.scalar.type;
  }

  /** The same, where a column has one that can be compared. */
  knownTypeOf(operand: Operand): SqlType | undefined {
    return operand.kind === "column" && !isReadable(operand.column) ? undefined : this.typeOf(operand);
  }

  columnOfType(operand: ColumnOperand, type: TypeName): ReadColumn {
    if (!isReadable(operand.column) || operand.column.sqlType.type !== type)
      throw this.refused("where_type", operand.raw, `expected a ${type}, found type ${operand.column.column.type}`);
    return operand.column;
  }

  booleanConstant(operand: ConstantOperand): string | null {
    const type = sqlTypeNamed("bool")!;
    this.checkTypes(operand.raw, type, operand.type);
    return this.textAs(type, operand);
  }

  /** Postgres' rule for two constants: an unknown one takes the other's type, two become text. */
  commonType(raw: Raw, left: ConstantOperand, right: ConstantOperand): SqlType {
    const isMixed = left.type && right.type && mixesNumbers(left.type, right.type);
    const type = isMixed ? sqlTypeNamed("float8")! : (left.type ?? right.type ?? sqlTypeNamed("text")!);
    this.checkTypes(raw, type, left.type);
    this.checkTypes(raw, type, right.type);
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
    if (this.hasMinusZero) throw this.unsupported(raw, "a float as text beside a constant -0");
  }

  noteZero(isMinusZero: boolean): void {
    this.hasMinusZero ||= isMinusZero;
  }

  checkParamsUsed(): void {
    const extra = this.scope.params.findIndex((_, i) => !this.paramsUsed.has(i + 1));
    if (extra >= 0)
      throw new WalcastError(
        "where_params",
        `read a where: expected as many parameters as it uses, found $${extra + 1} unused`,
      );
  }

  unsupported(raw: Raw, what: string, hint?: string): WalcastError {
    return this.refused(
      "where_unsupported",
      raw,
      `${what} is not supported`,
      hint ?? "docs/shapes.md lists the operators and functions that are.",
    );
  }

  refused(
    code: "where_unsupported" | "where_type" | "where_params" | "where_failed" | "unknown_column",
    raw: Raw,
    what: string,
    hint?: string,
  ): WalcastError {
    return new WalcastError(code, `read a where: ${what}`, { position: this.scope.positionOf(locationOf(raw)), hint });
  }

  // ── Columns ────────────────────────────────────────────────────────────────────────────────────────────────────────

  private column(raw: Raw, body: ColumnRef): AnyColumn {
    const path = stringsOf(body.fields);
    const name = path.at(-1)!;
    const { schema, name: table } = this.scope.table;
    const isOurs = [schema, table].slice(3 - path.length).every((part, i) => part === path[i]);
    const found = path.length <= 3 && isOurs ? this.columns.get(name) : undefined;
    if (!found || !this.scope.isVisible(found.position))
      throw this.refused("unknown_column", raw, `there is no column ${path.join(".")}`);
    return found;
  }

  columnAt(position: number): AnyColumn {
    return this.columns.get(this.scope.table.columns[position]!.name)!;
  }

  readable({ column, raw }: ColumnOperand): ReadColumn {
    if (isReadable(column)) return column;
    throw this.unsupported(
      raw,
      `comparing type ${column.column.type}`,
      "IS NULL and IS NOT NULL work over every type.",
    );
  }

  private checkOperator(raw: Raw, { column, values }: ReadColumn, operator: Operator, isC: boolean): void {
    const isEquality = operator === "=" || operator === "<>";
    if (!isEquality && !values.ordered)
      throw this.unsupported(raw, `${operator} over type ${column.type}`, "= and <> are supported.");
    if (!values.collatable || isC) return;
    const isSure = isEquality ? column.collation?.deterministic : column.collation?.isC;
    if (!isSure) throw this.unsupported(raw, `${operator} in the collation of ${column.name}`, cHint);
  }

  checkTypes(raw: Raw, left: SqlType, right: SqlType | undefined): void {
    if (!right || compatible(left, right) || mixesMoments(left, right)) return;
    const [a, b] = [left.type, right.type];
    if (conversions.has(`${a} ${b}`) || conversions.has(`${b} ${a}`))
      throw this.unsupported(raw, `comparing ${a} with ${b}`, "Give both sides one type.");
    throw this.refused(
      "where_type",
      raw,
      `expected two values that can be compared, found ${left.sql} and ${right.sql}`,
    );
  }

  // ── Constants ──────────────────────────────────────────────────────────────────────────────────────────────────────

  private literal(raw: Raw, body: A_Const): ConstantOperand {
    const common = { kind: "constant", isC: false, raw } as const;
    if (body.isnull) return { ...common, text: null };
    if (body.sval) return { ...common, text: body.sval.sval ?? "" };
    if (body.boolval) return { ...common, text: body.boolval.boolval ? "t" : "f", type: sqlTypeNamed("bool")! };
    if (body.ival) return { ...common, text: String(body.ival.ival ?? 0), type: sqlTypeNamed("int4")! };
    if (body.fval) return { ...common, ...this.decimal(raw, body.fval.fval ?? "0") };
    throw this.unsupported(raw, "a bit string");
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

  private parameter(raw: Raw, body: ParamRef): ConstantOperand {
    const [value, number, position] = this.param(raw, body);
    if (!Array.isArray(value)) return { kind: "constant", text: paramText(value, number, position), isC: false, raw };
    const text = printList(paramArray(value, number, position));
    return { kind: "constant", text, isArray: true, isC: false, raw };
  }

  private canonicalOf({ isArray, raw }: ConstantOperand, text: string, type: SqlType): string {
    if (isArray && type.type !== "array")
      throw this.refused("where_params", raw, `expected one value of type ${type.sql}, found an array`, anyHint);
    return this.canonical(text, type, raw);
  }

  private canonical(text: string, type: SqlType, raw: Raw): string {
    this.enterText(raw, text, type);
    const value = this.located(raw, () => canonicalText(text, type));
    if (value === undefined)
      throw this.refused("where_type", raw, `expected a value of type ${type.sql}, found something else`);
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

  param(raw: Raw, body: ParamRef): [value: unknown, number: number, position: Position] {
    const number = body.number ?? 0;
    const { params } = this.scope;
    if (number < 1 || number > params.length)
      throw this.refused("where_params", raw, `expected a value for $${number}, found ${params.length} parameters`);
    this.paramsUsed.add(number);
    return [params[number - 1], number, () => this.scope.positionOf(locationOf(raw))];
  }

  private collated(raw: Raw, body: CollateClause, depth: number): Operand {
    const name = stringsOf(body.collname);
    const isC = ["C", "POSIX"].includes(name.at(-1)!) && (name.length === 1 || name[0] === "pg_catalog");
    if (!isC) throw this.unsupported(raw, `the collation ${name.join(".")}`, cHint);
    const operand = this.operand(body.arg!, depth + 1);
    const type = this.typeOf(operand);
    if (type && !valuesOf(type).collatable)
      throw this.refused("where_type", raw, `expected text before COLLATE, found ${type.sql}`);
    return operand.kind === "expression" ? this.expressions.inC(operand) : { ...operand, isC: true };
  }

  private cast(raw: Raw, body: TypeCast, depth: number): Operand {
    if (body.typeName?.arrayBounds && tagged(body.arg!).kind === "A_ArrayExpr") return this.arrays.constant(raw, depth);
    const operand = this.operand(body.arg!, depth + 1);
    const type = this.typeNamed(raw, body.typeName);
    return operand.kind === "constant" ? this.castTo(type, operand, raw) : this.expressions.cast(raw, operand, type);
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
    const result = this.expressions.cast(raw, operand, type);
    assert(result.kind === "constant", "what reads no column is computed at once");
    return result;
  }

  typeNamed(raw: Raw, typeName: RawTypeName | undefined): SqlType {
    const path = stringsOf(typeName?.names);
    const name = `${path.at(-1)}${typeName?.arrayBounds ? "[]" : ""}`;
    const builtin = path.length === 1 || path[0] === "pg_catalog" ? sqlTypeNamed(name) : undefined;
    const found = builtin ?? (typeName?.arrayBounds ? undefined : this.enumNamed(path));
    if (!found || typeName?.setof || typeName?.pct_type) throw this.unsupported(raw, `a cast to ${path.join(".")}`);
    if (typeName?.typmods) throw this.unsupported(raw, `a cast to ${path.join(".")} with a length or precision`);
    return found;
  }

  /** Only enums that the table itself uses: what another name means depends on a catalog that is not at hand. */
  private enumNamed(path: readonly string[]): SqlType | undefined {
    for (const column of this.columns.values()) {
      if (!isReadable(column) || column.sqlType.type !== "enum") continue;
      const { schema, name } = parseTableName(column.column.type);
      if (path.at(-1) === name && (path.length === 1 || (path.length === 2 && path[0] === schema)))
        return column.sqlType;
    }
    return undefined;
  }
}

function isWritten(raw: Raw): boolean {
  const { kind } = tagged(raw);
  return kind === "A_Const" || kind === "ParamRef";
}

/** Nothing compares jsonb and arrays as they are. */
function columnOperand(column: AnyColumn, raw: Raw): ColumnOperand | ExpressionOperand {
  return isReadable(column) && !column.values.equalInBytes && !column.values.ordered
    ? { kind: "expression", scalar: columnScalar(column, false), column, raw }
    : { kind: "column", column, isC: false, raw };
}

const anyHint = "Write = ANY($1) to compare with any of its elements.";

export const cHint = 'Write COLLATE "C" after the column to compare by bytes.';

// Postgres compares these by converting one side; we do not follow it there.
const conversions = new Set(["number float4", "number float8", "float4 float8", "text bpchar"]);

function compatible(left: SqlType, right: SqlType): boolean {
  if (left.type === "enum" || right.type === "enum") return left.oid === right.oid;
  if (left.type === "array" || right.type === "array") return left === right;
  return left.type === right.type || isWider(left, right);
}

/** A constant of the one is written anew as one of the other. */
function isWider(type: SqlType, { type: other }: SqlType): boolean {
  if (type.type === "float8") return other === "number" || other === "float4";
  if (type.type === "timestamp") return other === "date" || other === "timestamptz";
  return type.type === "timestamptz" && (other === "date" || other === "timestamp");
}

// One object per column of a table, shared by all of its predicates: they are told apart by identity.
const columnsOfTable = new WeakMap<Table, ReadonlyMap<string, AnyColumn>>();

function columnsByName(table: Table): ReadonlyMap<string, AnyColumn> {
  const known = columnsOfTable.get(table);
  if (known) return known;
  const columns = new Map(table.columns.map((column, position) => [column.name, anyColumn(column, position)]));
  columnsOfTable.set(table, columns);
  return columns;
}
