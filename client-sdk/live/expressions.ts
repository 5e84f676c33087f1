/** Whether an expression's value depends on nothing but the rows of its query: not on the clock, on settings, or on rows of others. */
import { NotIncremental } from "./not-incremental.ts";
import { nodesIn, type TreeValue, wordOf } from "./tree.ts";

/** Kinds of expressions whose value depends on the values in them, and on the functions that are looked at. */
const plain = new Set([
  ...[
    "FROMEXPR",
    "JOINEXPR",
    "RANGETBLREF",
    "TARGETENTRY",
    "VAR",
    "CONST",
    "PARAM",
    "BOOLEXPR",
    "FUNCEXPR",
    "NAMEDARGEXPR",
  ],
  ...["OPEXPR", "DISTINCTEXPR", "NULLIFEXPR", "SCALARARRAYOPEXPR", "RELABELTYPE", "COERCEVIAIO", "ARRAYCOERCEEXPR"],
  ...["COLLATEEXPR", "CASEEXPR", "CASEWHEN", "CASETESTEXPR", "ARRAYEXPR", "ROWEXPR", "ROWCOMPAREEXPR", "COALESCEEXPR"],
  ...["MINMAXEXPR", "NULLTEST", "BOOLEANTEST", "FIELDSELECT", "SUBSCRIPTINGREF"],
]);

/** Fields that say what something is called. */
const names = new Set(["alias", "join_using_alias", "usingClause"]);

/** Types whose text form is read without looking at clock or settings: numbers, text, uuid, json. */
const readAlike = new Set(["16", "20", "21", "23", "25", "114", "700", "701", "1042", "1043", "1700", "2950", "3802"]);

/** Adds what they call (pg_proc.oid) to `functions`. Throws NotIncremental. */
export function refuseExpressions(value: TreeValue | undefined, functions: Set<number>): void {
  for (const node of nodesIn(value)) {
    const { fields, tag } = node;
    if (!plain.has(tag)) throw new NotIncremental(`it has an expression of a kind that is not known (${tag})`);
    if (tag === "VAR" && (fields.varlevelsup !== "0" || wordOf(fields.varattno).startsWith("-")))
      throw new NotIncremental("it has a system column");
    if (tag === "COERCEVIAIO" && !readAlike.has(wordOf(fields.resulttype)))
      throw new NotIncremental("it has a conversion that may depend on when it is made");
    for (const name of ["funcid", "opfuncid"]) if (name in fields) functions.add(Number(fields[name]));
    for (const [name, inner] of Object.entries(fields)) if (!names.has(name)) refuseExpressions(inner, functions);
  }
  if (Array.isArray(value))
    for (const inner of value as readonly TreeValue[]) if (Array.isArray(inner)) refuseExpressions(inner, functions);
}
