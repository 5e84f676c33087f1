/**
 * The two sides of a comparison: columns of the table, and constants with the type that Postgres would give them. An
 * unknown literal takes the type of what it is compared with; where Postgres has no operator for two types we refuse as
 * it does, and where it converts in a way that we do not follow exactly we refuse too.
 */
import type { CollateClause, ColumnRef, Node as Raw, TypeCast, TypeName as RawTypeName } from "libpg-query";
import type { Table } from "../../changes/table.ts";
import { WalcastError } from "../../errors.ts";
import { parseTableName } from "../name.ts";
import { Arrays } from "./arrays.ts";
import { type AnyColumn, type Operator, type ReadColumn, anyColumn, isReadable, sameCollation } from "./column.ts";
import { Constants } from "./constants.ts";
import { compatible, conversions } from "./conversions.ts";
import { Expressions } from "./expressions.ts";
import { mixesMoments } from "./functions.ts";
import type { Node } from "./node.ts";
import { locationOf, stringsOf, tagged } from "./raw.ts";
import { columnScalar, type Scalar } from "./scalar.ts";
import { Size } from "./size.ts";
import { type SqlType, type TypeName, sqlTypeNamed, valuesOf } from "./type.ts";

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
  readonly constants: Constants;
  private readonly scope: Scope;
  private readonly columns: ReadonlyMap<string, AnyColumn>;
  private readonly size = new Size();

  /** `condition` resolves a condition that stands where a value does. */
  constructor(scope: Scope, condition: (raw: Raw, depth: number) => Node) {
    this.scope = scope;
    this.expressions = new Expressions(this, condition);
    this.arrays = new Arrays(this);
    this.constants = new Constants(this, scope);
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
        return this.constants.literal(raw, body);
      case "ParamRef":
        return this.constants.parameter(raw, body);
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
    return operand.kind === "constant"
      ? this.constants.castTo(type, operand, raw)
      : this.expressions.cast(raw, operand, type);
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

export const cHint = 'Write COLLATE "C" after the column to compare by bytes.';

// One object per column of a table, shared by all of its predicates: they are told apart by identity.
const columnsOfTable = new WeakMap<Table, ReadonlyMap<string, AnyColumn>>();

function columnsByName(table: Table): ReadonlyMap<string, AnyColumn> {
  const known = columnsOfTable.get(table);
  if (known) return known;
  const columns = new Map(table.columns.map((column, position) => [column.name, anyColumn(column, position)]));
  columnsOfTable.set(table, columns);
  return columns;
}
