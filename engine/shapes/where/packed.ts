/**
 * What one thread found a condition to mean, as text for another one: Postgres' tree, in which all that compares columns with
 * constants stands as it was resolved. What is left in it to be resolved again is computed, and of that there is little.
 */
import type { Node as Raw } from "libpg-query";
import { type AnyColumn, isReadable, type Operator, type OrderOperator, type ReadColumn } from "./column.ts";
import { and, type Node, or } from "./node.ts";

export type Packed = { readonly sql: string } & (
  | { readonly kind: "constant"; readonly value: boolean | null }
  | { readonly kind: "and" | "or"; readonly parts: readonly Packed[] }
  /** No value has the zero that stands between them. */
  | { readonly kind: "in"; readonly column: number; readonly values: string; readonly negated: boolean }
  | { readonly kind: "order"; readonly column: number; readonly operator: OrderOperator; readonly value: string }
  | { readonly kind: "columns"; readonly left: number; readonly operator: Operator; readonly right: number }
  | { readonly kind: "null"; readonly column: number; readonly negated: boolean }
  | { readonly kind: "truth"; readonly part: Packed; readonly truth: boolean | null; readonly negated: boolean }
);

/** Stands in the tree in place of what was resolved. */
interface Place {
  readonly Packed: Packed;
}

/** `nodes`: what conditions in the tree were resolved to. */
export function packTree(expression: Raw, nodes: ReadonlyMap<unknown, Node>): string {
  return JSON.stringify(expression, (_, value: unknown) => {
    const node = nodes.get(value);
    const packed = node && pack(node);
    if (packed) return { Packed: packed } satisfies Place;
    return node && !node.mayFail ? regrouped(value as Raw, nodes) : value;
  });
}

/** Of a junction, all parts that can be packed as one: lists over one column are one list then. */
function regrouped(raw: Raw, nodes: ReadonlyMap<unknown, Node>): unknown {
  if (!("BoolExpr" in raw) || raw.BoolExpr.boolop === "NOT_EXPR") return raw;
  const parts = (raw.BoolExpr.args ?? []).map((arg) => ({ arg, node: nodes.get(arg)! }));
  const { known = [], rest = [] } = Object.groupBy(parts, ({ node }) => (pack(node) ? "known" : "rest"));
  const join = raw.BoolExpr.boolop === "AND_EXPR" ? and : or;
  const all = known.length > 0 ? [{ Packed: pack(join(known.map(({ node }) => node)))! }] : [];
  return { BoolExpr: { ...raw.BoolExpr, args: [...all, ...rest.map(({ arg }) => arg)] } };
}

/** undefined where something is computed in it. */
function pack(node: Node): Packed | undefined {
  const { sql } = node;
  switch (node.kind) {
    case "constant":
      return node;
    case "and":
    case "or": {
      const parts = node.parts.map(pack);
      return parts.every((part) => part !== undefined) ? { kind: node.kind, parts, sql } : undefined;
    }
    case "in":
      return { ...node, column: node.column.position, values: node.values.join("\0") };
    case "order":
      return { ...node, column: node.column.position, value: node.value.toString() };
    case "columns":
      return { ...node, left: node.left.position, right: node.right.position };
    case "null":
      return { ...node, column: node.column.position };
    case "truth": {
      const part = pack(node.part);
      return part && { ...node, part };
    }
    default:
      return undefined;
  }
}

export function packedAt(raw: Raw): Packed | undefined {
  return "Packed" in raw ? (raw as unknown as Place).Packed : undefined;
}

export function unpack(packed: Packed, columnAt: (position: number) => AnyColumn): Node {
  const readable = (position: number): ReadColumn => {
    const column = columnAt(position);
    if (isReadable(column)) return column;
    throw new Error(`the column at ${position} was compared by another thread, and cannot be`);
  };
  const node = (one: Packed): Node => {
    switch (one.kind) {
      case "constant":
        return one;
      case "and":
      case "or":
        return { ...one, parts: one.parts.map(node) };
      case "in":
        return { ...one, column: readable(one.column), values: valuesIn(Buffer.from(one.values)) };
      case "order":
        return { ...one, column: readable(one.column), value: Buffer.from(one.value) };
      case "columns":
        return { ...one, left: readable(one.left), right: readable(one.right) };
      case "null":
        return { ...one, column: columnAt(one.column) };
      case "truth":
        return { ...one, part: node(one.part) };
    }
  };
  return node(packed);
}

function valuesIn(bytes: Buffer): Buffer[] {
  const values: Buffer[] = [];
  for (let start = 0; start <= bytes.length;) {
    const zero = bytes.indexOf(0, start);
    const end = zero < 0 ? bytes.length : zero;
    values.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return values;
}
