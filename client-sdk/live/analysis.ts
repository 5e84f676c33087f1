/**
 * Whether a query can be kept current by its changed rows alone, found out from Postgres' own parse of it: each row of its
 * result must depend on one row of one table, on rows that are joined to it, and on nothing else that changes. Whatever
 * is not known to be so makes the query run again.
 */
import { refuseExpressions } from "./expressions.ts";
import { type Relation, relationsOf, type Variable, variableIn } from "./joins.ts";
import { NotIncremental } from "./not-incremental.ts";
import { isNode, nodesIn, nothing, type TreeNode, type TreeValue, wordOf } from "./tree.ts";

/** What the parse says; the catalog knows the functions and operators. */
export interface Outline {
  readonly relations: readonly Relation[];
  readonly columns: readonly ResultVariable[];
  readonly sorts: readonly Sort[];
  readonly limit: Limit | undefined;
  /** pg_proc.oid of all it calls. */
  readonly functions: readonly number[];
}

export interface Sort {
  readonly column: number;
  /** pg_operator.oid */
  readonly operator: number;
  readonly nullsFirst: boolean;
  /** pg_collation.oid, 0 where the type has none. */
  readonly collation: number;
}

export type Limit = { readonly rows: number } | { readonly parameter: number };

/** A table's column that is in the result as it is. */
export interface ResultVariable extends Variable {
  /** In the result, from 0. */
  readonly column: number;
}

/** Throws NotIncremental. */
export function outlineOf(query: TreeNode): Outline {
  const { fields } = query;
  refuseClauses(fields);
  const relations = relationsOf(query);
  const functions = new Set<number>();
  refuseExpressions(fields.jointree, functions);
  refuseExpressions(fields.targetList, functions);
  const targets = nodesIn(fields.targetList);
  return {
    relations,
    columns: columnsOf(targets),
    sorts: nodesIn(fields.sortClause).map((clause) => sortOf(clause, targets)),
    limit: limitOf(fields.limitCount),
    functions: [...functions],
  };
}

// ── Clauses ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const refusedFlags: Readonly<Record<string, string>> = {
  hasAggs: "aggregates",
  hasWindowFuncs: "window functions",
  hasTargetSRFs: "set-returning functions",
  hasSubLinks: "subqueries",
  hasDistinctOn: "DISTINCT ON",
  hasRecursive: "WITH",
  hasModifyingCTE: "WITH",
  hasForUpdate: "FOR UPDATE",
};

const refusedClauses: Readonly<Record<string, string>> = {
  cteList: "WITH",
  groupClause: "GROUP BY",
  groupingSets: "GROUP BY",
  havingQual: "HAVING",
  windowClause: "window functions",
  distinctClause: "DISTINCT",
  setOperations: "UNION, INTERSECT or EXCEPT",
  limitOffset: "OFFSET",
  rowMarks: "FOR UPDATE",
};

function refuseClauses(fields: TreeNode["fields"]): void {
  if (fields.commandType !== "1") throw new NotIncremental("it is not a SELECT");
  for (const [name, what] of Object.entries(refusedFlags))
    if (fields[name] !== "false") throw new NotIncremental(`it has ${what}`);
  for (const [name, what] of Object.entries(refusedClauses))
    if (fields[name] !== nothing) throw new NotIncremental(`it has ${what}`);
  if (fields.limitCount !== nothing && fields.limitOption !== "0") throw new NotIncremental("it has WITH TIES");
}

// ── Columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function columnsOf(targets: readonly TreeNode[]): ResultVariable[] {
  return targets.flatMap(({ fields: { expr, resno, resjunk } }) => {
    const variable = variableIn(expr);
    return variable && resjunk === "false" ? [{ ...variable, column: Number(resno) - 1 }] : [];
  });
}

function sortOf({ fields }: TreeNode, targets: readonly TreeNode[]): Sort {
  const target = targets.find((one) => one.fields.ressortgroupref === fields.tleSortGroupRef);
  if (!target || target.fields.resjunk !== "false")
    throw new NotIncremental("it is ordered by something that is not in its result");
  return {
    column: Number(target.fields.resno) - 1,
    operator: Number(fields.sortop),
    nullsFirst: fields.nulls_first === "true",
    collation: collationOf(target.fields.expr),
  };
}

const collationFields = [
  ...["varcollid", "funccollid", "opcollid", "paramcollid", "constcollid", "resultcollid", "casecollid"],
  ...["coalescecollid", "minmaxcollid", "collOid"],
];

/** NaN, which is no collation, where it is not known. */
function collationOf(expression: TreeValue | undefined): number {
  if (!isNode(expression)) return Number.NaN;
  const name = collationFields.find((field) => field in expression.fields);
  return name === undefined ? Number.NaN : Number(expression.fields[name]);
}

function limitOf(value: TreeValue | undefined): Limit | undefined {
  if (!isNode(value)) return undefined;
  const { tag, fields } = value;
  if (tag === "PARAM" && fields.paramkind === "0") return { parameter: Number(fields.paramid) - 1 };
  if (tag === "FUNCEXPR" && fields.funcid === INT8_OF_INT4) return limitOf(nodesIn(fields.args)[0]);
  if (tag !== "CONST" || !["20", "23"].includes(wordOf(fields.consttype)))
    throw new NotIncremental("it has a LIMIT that is computed");
  return fields.constisnull === "true" ? undefined : { rows: integerOf(fields.constvalue) };
}

/** pg_proc.oid of what Postgres puts around a number such as 50, to make an int8 of it. */
const INT8_OF_INT4 = "481";

/** `8 [ 50 0 0 0 0 0 0 0 ]`: the bytes of a number that is not negative, least significant first. */
function integerOf(value: TreeValue | undefined): number {
  const bytes = Array.isArray(value) ? value.slice(2, -1).map(Number) : [];
  return bytes.reduceRight((sum, byte) => sum * 256 + (byte & 0xff), 0);
}

// ── Two parses of the same ───────────────────────────────────────────────────────────────────────────────────────────

/** Equal texts mean the same query, save for where it stands and for its LIMIT. */
export function withoutLimit(query: TreeNode): string {
  return JSON.stringify(query, (name, value: unknown) =>
    /^(limitCount|stmt_len|list_start|list_end)$|location$/.test(name) ? undefined : value,
  );
}
