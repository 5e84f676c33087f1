/** Postgres' parse tree as libpg-query gives it: each node an object with one key, its kind; zero values left out. */
import type { Node as Raw } from "libpg-query";

type TaggedOf<N> = N extends unknown ? { [K in keyof N]-?: { readonly kind: K; readonly body: N[K] } }[keyof N] : never;
type Tagged = TaggedOf<Raw>;

export function tagged(raw: Raw): Tagged {
  const [kind, body] = Object.entries(raw)[0]!;
  return { kind, body } as Tagged;
}

/** What has a value of its own, rather than a truth. */
export function isOperand(raw: Raw): boolean {
  return ["ColumnRef", "A_Const", "ParamRef", "TypeCast", "CollateClause"].includes(tagged(raw).kind);
}

/** A qualified name's parts; an asterisk is left as one. */
export function stringsOf(nodes: readonly Raw[] | undefined): string[] {
  return (nodes ?? []).map((node) => ("String" in node ? (node.String.sval ?? "") : "*"));
}

/** Offset in bytes into the parsed text, of the node or of the first thing in it that knows its place. */
export function locationOf(raw: Raw): number | undefined {
  const { kind, body } = tagged(raw);
  if ("location" in body && typeof body.location === "number" && body.location >= 0) return body.location;
  if (kind === "TypeCast" && body.arg) return locationOf(body.arg);
  return undefined;
}

/** What a person calls it. */
export function describe(raw: Raw): string {
  const { kind } = tagged(raw);
  return names.get(kind) ?? kind;
}

const names: ReadonlyMap<string, string> = new Map([
  ["FuncCall", "a function call"],
  ["SQLValueFunction", "a value that changes from moment to moment"],
  ["SubLink", "a subquery"],
  ["CaseExpr", "CASE"],
  ["CoalesceExpr", "COALESCE"],
  ["MinMaxExpr", "GREATEST or LEAST"],
  ["RowExpr", "a row comparison"],
  ["A_ArrayExpr", "an array outside of = ANY"],
  ["A_Indirection", "a part of a value"],
  ["A_Expr", "an expression as a value"],
  ["BoolExpr", "a condition as a value"],
  ["NullTest", "a condition as a value"],
  ["BooleanTest", "a condition as a value"],
]);
