/** Rows of functions.ts: operators and functions over text. */
import assert from "node:assert/strict";
import type { Operation } from "./functions.ts";
import { constantOf, isBytes, type Scalar, truthText, type Value } from "./scalar.ts";
import { charactersIn, concatenated, endsInEscape, isLike, lower, startsWith, upper, withEscape } from "./text.ts";

type Evaluate = Operation["evaluate"];
const rules = { kind: "function", mayFail: false, isCommutative: false, needs: "nothing" } as const;
const two = { ...rules, args: ["text", "text"] };
const like = { ...two, kind: "operator", result: "bool", mayFail: mayEndInEscape } as const;

export const textOperations: readonly Operation[] = [
  { ...two, kind: "operator", name: "||", result: "text", evaluate: ofTwo(concatenated) },
  { ...like, name: "~~", needs: "determinism", evaluate: ofTruth(isLike) },
  { ...like, name: "~~*", needs: "C", evaluate: ofTruth((text, pattern) => isLike(lower(text), lower(pattern))) },
  // What the grammar makes of LIKE … ESCAPE.
  { ...two, name: "like_escape", result: "text", mayFail: true, evaluate: ofTwo(withEscape) },
  { ...two, name: "starts_with", result: "bool", needs: "determinism", evaluate: ofTruth(startsWith) },
  { ...rules, name: "octet_length", args: ["text"], result: "int4", evaluate: (a) => BigInt(bytes(a).length) },
  // Of character(n), without its padding.
  ...["text", "bpchar"].flatMap((type): Operation[] => [
    ...["length", "char_length", "character_length"].map((name): Operation => ({
      ...rules,
      name,
      args: [type],
      result: "int4",
      evaluate: (a) => BigInt(charactersIn(bytes(a))),
    })),
    { ...rules, name: "lower", args: [type], result: "text", needs: "C", evaluate: (a) => lower(bytes(a)) },
    { ...rules, name: "upper", args: [type], result: "text", needs: "C", evaluate: (a) => upper(bytes(a)) },
  ]),
];

function ofTwo(compute: (a: Buffer, b: Buffer) => Buffer): Evaluate {
  return (a, b) => compute(bytes(a), bytes(b));
}

function ofTruth(compute: (a: Buffer, b: Buffer) => boolean): Evaluate {
  return (a, b) => truthText(compute(bytes(a), bytes(b)));
}

/** Of nearly all patterns it is known beforehand that they do not. */
function mayEndInEscape([, pattern]: readonly Scalar[]): boolean {
  const value = constantOf(pattern!);
  return value === undefined || (value !== null && endsInEscape(bytes(value)));
}

function bytes(value: Exclude<Value, null>): Buffer {
  assert(isBytes(value), "a function over text is given text");
  return value;
}
