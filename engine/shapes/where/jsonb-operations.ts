/** Rows of functions.ts: operators over jsonb. */
import assert from "node:assert/strict";
import { arrayIn } from "./array-value.ts";
import type { Operation } from "./functions.ts";
import { containsJsonb, followed, hasKey, itemAt, memberOf, textIn } from "./jsonb.ts";
import { constantOf, isBytes, type Scalar, truthText, type Value } from "./scalar.ts";

type Evaluate = Operation["evaluate"];
type Keys = readonly (Buffer | null)[];
const rules = { kind: "operator", mayFail: false, isCommutative: false, needs: "nothing" } as const;
const member = { ...rules, args: ["jsonb", "text"] };
const item = { ...rules, args: ["jsonb", "int4"] };
const path = { ...rules, args: ["jsonb", "text[]"] };
const containment = { ...rules, args: ["jsonb", "jsonb"], result: "bool", mayFail: mayBeDeep };

export const jsonbOperations: readonly Operation[] = [
  { ...member, name: "->", result: "jsonb", evaluate: (a, b) => memberOf(bytes(a), bytes(b)) },
  { ...item, name: "->", result: "jsonb", evaluate: (a, b) => itemAt(bytes(a), integer(b)) },
  { ...path, name: "#>", result: "jsonb", evaluate: (a, b) => followed(bytes(a), keys(b)) },
  { ...member, name: "->>", result: "text", evaluate: asText((a, b) => memberOf(bytes(a), bytes(b))) },
  { ...item, name: "->>", result: "text", evaluate: asText((a, b) => itemAt(bytes(a), integer(b))) },
  { ...path, name: "#>>", result: "text", evaluate: asText((a, b) => followed(bytes(a), keys(b))) },
  { ...containment, name: "@>", evaluate: (a, b) => truthText(containsJsonb(bytes(a), bytes(b))) },
  { ...containment, name: "<@", evaluate: (a, b) => truthText(containsJsonb(bytes(b), bytes(a))), mirrored: "@>" },
  { ...member, name: "?", result: "bool", evaluate: (a, b) => truthText(hasKey(bytes(a), bytes(b))) },
  // NULL among the keys is passed over.
  {
    ...path,
    name: "?|",
    result: "bool",
    evaluate: ofKeys((value, wanted) => wanted.some((key) => hasKey(value, key))),
  },
  {
    ...path,
    name: "?&",
    result: "bool",
    evaluate: ofKeys((value, wanted) => wanted.every((key) => hasKey(value, key))),
  },
];

/** A constant has a depth that is bounded, and it ends where the constant does. */
function mayBeDeep(args: readonly Scalar[]): boolean {
  return args.every((arg) => constantOf(arg) === undefined);
}

function asText(find: (a: Exclude<Value, null>, b: Exclude<Value, null>) => Buffer | null): Evaluate {
  return (a, b) => {
    const found = find(a, b);
    return found && textIn(found);
  };
}

function ofKeys(holds: (value: Buffer, wanted: readonly Buffer[]) => boolean): Evaluate {
  return (a, b) =>
    truthText(
      holds(
        bytes(a),
        keys(b).filter((key) => key !== null),
      ),
    );
}

function keys(value: Exclude<Value, null>): Keys {
  return arrayIn(bytes(value)).elements;
}

function bytes(value: Exclude<Value, null>): Buffer {
  assert(isBytes(value), "an operator over jsonb is given bytes");
  return value;
}

function integer(value: Exclude<Value, null>): bigint {
  assert(typeof value === "bigint", "an index is an integer");
  return value;
}
