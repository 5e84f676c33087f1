/** Postgres' parse tree as libpg-query gives it: each node an object with one key, its kind; zero values left out. */
import type { A_Expr, Node as Raw } from "libpg-query";

type TaggedOf<N> = N extends unknown ? { [K in keyof N]-?: { readonly kind: K; readonly body: N[K] } }[keyof N] : never;
type Tagged = TaggedOf<Raw>;

export function tagged(raw: Raw): Tagged {
  const [kind, body] = Object.entries(raw)[0]!;
  return { kind, body } as Tagged;
}

/** What has a value of its own, rather than a truth. */
export function isOperand(raw: Raw): boolean {
  const { kind, body } = tagged(raw);
  return kind === "A_Expr" ? body.kind === "AEXPR_NULLIF" || !isComparison(raw) : values.has(kind);
}

const values: ReadonlySet<string> = new Set([
  "ColumnRef",
  "A_Const",
  "ParamRef",
  "TypeCast",
  "CollateClause",
  "FuncCall",
  "CoalesceExpr",
  "MinMaxExpr",
  "RowExpr",
  "A_ArrayExpr",
]);

/** An expression with an operator is one of those that give a truth, by name or by form. */
export function isComparison(raw: Raw): boolean {
  const { kind, body } = tagged(raw);
  if (kind !== "A_Expr" || body.kind === "AEXPR_NULLIF") return false;
  return !named.has(body.kind!) || comparisons.has(stringsOf(body.name).at(-1)!);
}

const named: ReadonlySet<string> = new Set(["AEXPR_OP", "AEXPR_LIKE", "AEXPR_ILIKE"]);
const comparisons: ReadonlySet<string> = new Set(["=", "<>", "<", "<=", ">", ">=", "!~~", "!~~*"]);

/** NOT LIKE as LIKE, which it denies. */
export function unnegated(body: A_Expr): Raw | undefined {
  const path = stringsOf(body.name);
  const name = path.at(-1)!;
  if (!name.startsWith("!~~")) return undefined;
  const names = [...path.slice(0, -1), name.slice(1)].map((sval) => ({ String: { sval } }));
  return { A_Expr: { ...body, name: names } };
}

export interface Like {
  readonly name: "~~" | "~~*";
  readonly negated: boolean;
}

/** [NOT] LIKE and ILIKE before ANY or ALL; undefined for other operators. */
export function likeOf(body: A_Expr): Like | undefined {
  const path = stringsOf(body.name);
  if (path.length > 2 || (path.length === 2 && path[0] !== "pg_catalog")) return undefined;
  const found = /^(!?)(~~\*?)$/.exec(path.at(-1)!);
  return found ? { name: found[2] === "~~" ? "~~" : "~~*", negated: found[1] === "!" } : undefined;
}

/** A qualified name's parts; an asterisk is left as one. */
export function stringsOf(nodes: readonly Raw[] | undefined): string[] {
  return (nodes ?? []).map((node) => ("String" in node ? (node.String.sval ?? "") : "*"));
}

/** Offset in bytes into the parsed text, of the node or of the first thing in it that knows its place. */
export function locationOf(raw: Raw): number | undefined {
  const { kind, body } = tagged(raw);
  if ("location" in body && typeof body.location === "number" && body.location >= 0) return body.location;
  if ((kind === "TypeCast" || kind === "A_Indirection") && body.arg) return locationOf(body.arg);
  return undefined;
}

/** What a person calls it. */
export function describe(raw: Raw): string {
  const { kind } = tagged(raw);
  return names.get(kind) ?? kind;
}

const names: ReadonlyMap<string, string> = new Map([
  ["SQLValueFunction", "a value that changes from moment to moment"],
  ["SubLink", "a subquery"],
  ["CaseExpr", "CASE"],
  ["RowExpr", "a row outside of a comparison with another"],
  ["A_Indirection", "a part of a value"],
]);
