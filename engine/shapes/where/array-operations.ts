/** Rows of functions.ts: arrays. Both sides are of one type: Postgres has no operator for int4[] and int8[]. */
import assert from "node:assert/strict";
import { arrayIn, containsArray, lengthIn, overlaps } from "./array-value.ts";
import type { Operation } from "./functions.ts";
import { isBytes, truthText, type Value } from "./scalar.ts";
import { arrayTypeNames, elementValues, sqlTypeNamed, type ValueType } from "./type.ts";

const rules = { mayFail: false, isCommutative: false } as const;

export const arrayOperations: readonly Operation[] = arrayTypeNames.flatMap((name): Operation[] => {
  const values = elementValues(sqlTypeNamed(name)?.element);
  const asked = { ...rules, kind: "operator", args: [name, name], result: "bool", needs: "determinism" } as const;
  const counted = { ...rules, kind: "function", result: "int4", needs: "nothing" } as const;
  const between =
    (holds: (a: Buffer, b: Buffer, values: ValueType) => boolean): Operation["evaluate"] =>
    (a, b) =>
      truthText(holds(array(a), array(b), values));
  return [
    { ...asked, name: "@>", evaluate: between(containsArray) },
    { ...asked, name: "<@", evaluate: between((a, b) => containsArray(b, a, values)), mirrored: "@>" },
    { ...asked, name: "&&", evaluate: between(overlaps), isCommutative: true },
    { ...counted, name: "cardinality", args: [name], evaluate: (a) => BigInt(arrayIn(array(a)).elements.length) },
    { ...counted, name: "array_length", args: [name, "int4"], evaluate: (a, b) => lengthIn(array(a), integer(b)) },
  ];
});

function array(value: Exclude<Value, null>): Buffer {
  assert(isBytes(value), "an operator over arrays is given arrays");
  return value;
}

function integer(value: Exclude<Value, null>): bigint {
  assert(typeof value === "bigint", "a dimension is an integer");
  return value;
}
