/**
 * What a query's FROM clause joins, and by which columns.
 * https://www.postgresql.org/docs/current/queries-table-expressions.html#QUERIES-JOIN
 */
import { NotIncremental } from "./not-incremental.ts";
import { isNode, nodesIn, nothing, type TreeNode, type TreeValue, wordOf } from "./tree.ts";

/** A table where it stands in FROM: one that stands there twice is two of these. */
export interface Relation {
  /** Its number in the query, from 1. */
  readonly number: number;
  /** pg_class.oid */
  readonly table: number;
  /** Rows of the result may be without one of its rows, and have NULLs. */
  readonly isOptional: boolean;
  /** Hold for its row, wherever the result has one. */
  readonly equalities: readonly Equality[];
}

export interface Variable {
  readonly relation: number;
  readonly attribute: number;
}

/** `one = other`, by an operator of Postgres' own. */
export interface Equality {
  readonly one: Variable;
  readonly other: Variable;
  /** Both are written in the same way then. Not so 1.0 and 1.00. */
  readonly isByText: boolean;
}

/** Throws NotIncremental. */
export function relationsOf({ fields }: TreeNode): Relation[] {
  const entries = nodesIn(fields.rtable);
  if (!isNode(fields.jointree)) throw new NotIncremental("it reads no table");
  const relations = joinedIn(fields.jointree, entries);
  // A join has an entry of its own, as each table has.
  const joinCount = entries.filter((entry) => entry.fields.rtekind === JOIN).length;
  if (relations.length !== entries.length - joinCount) throw notATable();
  return relations;
}

// RTEKind and JoinType, as numbers. https://github.com/postgres/postgres/blob/master/src/include/nodes/
const RELATION = "0";
const JOIN = "2";
const [INNER, LEFT, RIGHT] = ["0", "1", "3"];

function joinedIn(node: TreeNode, entries: readonly TreeNode[]): Relation[] {
  if (node.tag === "RANGETBLREF") return [relationOf(Number(node.fields.rtindex), entries)];
  const inner = (value: TreeValue | undefined): Relation[] => nodesIn(value).flatMap((one) => joinedIn(one, entries));
  const { fields } = node;
  if (node.tag === "FROMEXPR") return holding(equalitiesIn(fields.quals), inner(fields.fromlist));
  const [left, right] = [inner(fields.larg), inner(fields.rarg)];
  const equalities = equalitiesIn(fields.quals);
  switch (wordOf(fields.jointype)) {
    case INNER:
      return holding(equalities, [...left, ...right]);
    case LEFT:
      return [...left, ...optional(holding(equalities, right))];
    case RIGHT:
      return [...optional(holding(equalities, left)), ...right];
    default:
      throw new NotIncremental("it has a FULL JOIN");
  }
}

function relationOf(number: number, entries: readonly TreeNode[]): Relation {
  const { rtekind, relkind, relid, tablesample, securityQuals } = entries[number - 1]!.fields;
  if (rtekind !== RELATION || relkind !== "r") throw notATable();
  if (tablesample !== nothing || securityQuals !== nothing) throw new NotIncremental("it reads a part of a table");
  return { number, table: Number(relid), isOptional: false, equalities: [] };
}

function notATable(): NotIncremental {
  return new NotIncremental("it does not read a table itself");
}

/** A row that some condition above an outer join asks for is not kept by that join: it says nothing of optional ones. */
function holding(equalities: readonly Equality[], relations: readonly Relation[]): Relation[] {
  return relations.map((relation) =>
    relation.isOptional ? relation : { ...relation, equalities: [...relation.equalities, ...equalities] },
  );
}

function optional(relations: readonly Relation[]): Relation[] {
  return relations.map((relation) => ({ ...relation, isOptional: true }));
}

// ── Conditions ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** pg_operator.oid of `=` for bool, name, integers (of two sizes as well), text, bytea, date, time, timestamp, timestamptz, uuid, enums. */
const textEquals = new Set([
  ...[91, 93, 94, 96, 410, 15, 416, 532, 533, 1862, 1868, 98, 1955],
  ...[1093, 1108, 2060, 1320, 2972, 3516],
]);

/** And of character(n) and numeric. */
const equals = new Set([...textEquals, 1054, 1752]);

/** None, the database's own, "C" and "POSIX": of these, texts are equal if their bytes are. */
const exactCollations = new Set(["0", "100", "950", "951"]);

function equalitiesIn(quals: TreeValue | undefined): Equality[] {
  if (!isNode(quals)) return [];
  const { tag, fields } = quals;
  if (tag === "BOOLEXPR" && fields.boolop === "and") return nodesIn(fields.args).flatMap(equalitiesIn);
  const operator = Number(fields.opno);
  if (tag !== "OPEXPR" || !equals.has(operator) || !exactCollations.has(wordOf(fields.inputcollid))) return [];
  const [one, other] = nodesIn(fields.args).map(comparedIn);
  return one && other ? [{ one, other, isByText: textEquals.has(operator) }] : [];
}

// CoercionForm, as a number: the query does not spell the conversion out.
const IMPLICIT = "2";

/** A varchar is read as a text to be compared, a domain as what it stands on. */
function comparedIn({ tag, fields }: TreeNode): Variable | undefined {
  if (tag !== "RELABELTYPE") return variableIn({ tag, fields });
  return fields.relabelformat === IMPLICIT ? variableIn(fields.arg) : undefined;
}

/** A column of a table that the query reads. */
export function variableIn(value: TreeValue | undefined): Variable | undefined {
  if (!isNode(value) || value.tag !== "VAR" || value.fields.varlevelsup !== "0") return undefined;
  return { relation: Number(value.fields.varno), attribute: Number(value.fields.varattno) };
}
